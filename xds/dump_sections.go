package xds

import (
	"slices"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/xds/ads"
)

func (d *dump) clusters() proto.Message {
	warming := map[string]bool{}
	for _, c := range d.o.Warming {
		warming[c.Spec().Name] = true
	}
	out := &adminv3.ClustersConfigDump{VersionInfo: d.m.Version(ads.ClusterType)}
	d.records(ads.ClusterType, func(r *Record) {
		if r.Static {
			out.StaticClusters = append(out.StaticClusters, &adminv3.ClustersConfigDump_StaticCluster{
				Cluster: d.shown.any(r.Body, false), LastUpdated: stamp(r.Updated),
			})
			return
		}
		c := &adminv3.ClustersConfigDump_DynamicCluster{
			VersionInfo: r.Version, Cluster: d.shown.any(r.Body, false), LastUpdated: stamp(r.Updated), ErrorState: d.failure(r),
		}
		if warming[r.Name] {
			out.DynamicWarmingClusters = append(out.DynamicWarmingClusters, c)
			if b, ok := d.m.Before(ads.ClusterType, r.Name); ok {
				out.DynamicActiveClusters = append(out.DynamicActiveClusters, &adminv3.ClustersConfigDump_DynamicCluster{
					VersionInfo: b.Version, Cluster: d.shown.any(b.Body, false), LastUpdated: stamp(b.Updated),
				})
			}
		} else {
			out.DynamicActiveClusters = append(out.DynamicActiveClusters, c)
		}
	})
	return out
}

// endpoints shows the assignments of EDS as they came, and the hosts that other
// clusters have now.
func (d *dump) endpoints() proto.Message {
	out := &adminv3.EndpointsConfigDump{}
	d.records(ads.EndpointType, func(r *Record) {
		out.DynamicEndpointConfigs = append(out.DynamicEndpointConfigs, &adminv3.EndpointsConfigDump_DynamicEndpointConfig{
			VersionInfo: r.Version, EndpointConfig: d.shown.any(r.Body, false), LastUpdated: stamp(r.Updated), ErrorState: d.failure(r),
		})
	})
	for _, c := range d.o.Active {
		if c.Spec().Type == cluster.EDS || !d.names.MatchString(c.Spec().Name) {
			continue
		}
		if a, err := anypb.New(assignmentOf(c)); err == nil {
			out.StaticEndpointConfigs = append(out.StaticEndpointConfigs, &adminv3.EndpointsConfigDump_StaticEndpointConfig{EndpointConfig: a})
		}
	}
	return out
}

// assignmentOf describes the hosts of a cluster, one group for each locality and
// priority.
func assignmentOf(c *cluster.Cluster) *endpointv3.ClusterLoadAssignment {
	type group struct {
		region, zone, subZone string
		priority              uint32
	}
	out := &endpointv3.ClusterLoadAssignment{ClusterName: c.Spec().Name, Policy: &endpointv3.ClusterLoadAssignment_Policy{
		OverprovisioningFactor: wrapperspb.UInt32(140),
	}}
	if a := c.Spec().Assignment; a != nil && a.Overprovisioning > 0 {
		out.Policy.OverprovisioningFactor.Value = uint32(a.Overprovisioning)
	}
	at := map[group]*endpointv3.LocalityLbEndpoints{}
	for _, h := range c.Hosts() {
		g := group{h.Region, h.Zone, h.SubZone, h.Priority}
		l := at[g]
		if l == nil {
			l = &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Region: g.region, Zone: g.zone, SubZone: g.subZone}, Priority: g.priority}
			at[g] = l
			out.Endpoints = append(out.Endpoints, l)
		}
		l.LbEndpoints = append(l.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: addressOf(h.Addr), Hostname: h.Hostname}},
			HealthStatus:   healthOf(h.Status()), LoadBalancingWeight: wrapperspb.UInt32(h.Weight), Metadata: metadataOf(h),
		})
	}
	return out
}

func metadataOf(h *cluster.Host) *corev3.Metadata {
	if len(h.Metadata) == 0 {
		return nil
	}
	out := &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{}}
	for name, fields := range h.Metadata {
		if s, err := structpb.NewStruct(fields); err == nil { // it came as one
			out.FilterMetadata[name] = s
		}
	}
	return out
}

func addressOf(a meta.Addr) *corev3.Address {
	if a.IsUnix() {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: a.Path}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func healthOf(h cluster.Health) corev3.HealthStatus {
	switch h {
	case cluster.Degraded:
		return corev3.HealthStatus_DEGRADED
	case cluster.Unhealthy:
		return corev3.HealthStatus_UNHEALTHY
	case cluster.DrainingHost:
		return corev3.HealthStatus_DRAINING
	case cluster.TimedOutHost:
		return corev3.HealthStatus_TIMEOUT
	}
	return corev3.HealthStatus_HEALTHY
}

// inlineRoutes is a route table that stands in a listener.
type inlineRoutes struct {
	body    *anypb.Any
	name    string
	updated time.Time
}

func (d *dump) listeners() (*adminv3.ListenersConfigDump, []inlineRoutes, []inlineScopes) {
	out := &adminv3.ListenersConfigDump{VersionInfo: d.m.Version(ads.ListenerType)}
	var inline []inlineRoutes
	var scoped []inlineScopes
	for _, r := range d.m.Records(ads.ListenerType) {
		s := shown{each: func(msg proto.Message) {
			if rc := hcmRoutes(msg); rc != nil {
				if a, err := anypb.New(rc); err == nil {
					inline = append(inline, inlineRoutes{a, rc.GetName(), r.Updated})
				}
			}
			if h, ok := msg.(*hcmv3.HttpConnectionManager); ok && h.GetScopedRoutes().GetScopedRouteConfigurationsList() != nil {
				scoped = append(scoped, inlineScopes{h.GetScopedRoutes(), r.Updated})
			}
		}}
		body := s.any(r.Body, false)
		switch {
		case !d.names.MatchString(r.Name):
		case r.Static:
			out.StaticListeners = append(out.StaticListeners, &adminv3.ListenersConfigDump_StaticListener{Listener: body, LastUpdated: stamp(r.Updated)})
		default:
			l := &adminv3.ListenersConfigDump_DynamicListener{Name: r.Name, ErrorState: d.failure(&r)}
			if err := d.o.FailedListeners[r.Name]; err != nil && l.ErrorState == nil {
				l.ErrorState = &adminv3.UpdateFailureState{
					FailedConfiguration: body, Details: err.Error(), VersionInfo: r.Version, LastUpdateAttempt: stamp(r.Updated),
				}
			}
			if r.Body != nil {
				state := &adminv3.ListenersConfigDump_DynamicListenerState{VersionInfo: r.Version, Listener: body, LastUpdated: stamp(r.Updated)}
				if slices.Contains(d.o.WarmingListeners, r.Name) {
					l.WarmingState = state
					if b, ok := d.m.Before(ads.ListenerType, r.Name); ok {
						l.ActiveState = &adminv3.ListenersConfigDump_DynamicListenerState{
							VersionInfo: b.Version, Listener: d.shown.any(b.Body, false), LastUpdated: stamp(b.Updated),
						}
					}
				} else {
					l.ActiveState = state
				}
			}
			out.DynamicListeners = append(out.DynamicListeners, l)
		}
	}
	return out, inline, scoped
}

func hcmRoutes(msg proto.Message) *routev3.RouteConfiguration {
	if h, ok := msg.(*hcmv3.HttpConnectionManager); ok && h.GetRouteConfig() != nil {
		return h.GetRouteConfig()
	}
	return nil
}

func (d *dump) routes(inline []inlineRoutes) proto.Message {
	out := &adminv3.RoutesConfigDump{}
	for _, r := range inline {
		if d.names.MatchString(r.name) {
			out.StaticRouteConfigs = append(out.StaticRouteConfigs, &adminv3.RoutesConfigDump_StaticRouteConfig{RouteConfig: r.body, LastUpdated: stamp(r.updated)})
		}
	}
	d.records(ads.RouteType, func(r *Record) {
		out.DynamicRouteConfigs = append(out.DynamicRouteConfigs, &adminv3.RoutesConfigDump_DynamicRouteConfig{
			VersionInfo: r.Version, RouteConfig: d.shown.any(r.Body, false), LastUpdated: stamp(r.Updated), ErrorState: d.failure(r),
		})
	})
	return out
}
