package xds

import (
	"fmt"
	"regexp"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// DumpOptions are the parameters of admin's /config_dump.
type DumpOptions struct {
	Resource   string // a field of a dump message, such as "dynamic_active_clusters"; "" is everything
	NameRegex  string
	IncludeEDS bool
}

// Dump returns everything in effect as the JSON of an envoy.admin.v3.ConfigDump, in
// Envoy's order: bootstrap, clusters, endpoints, listeners, scoped routes, routes,
// secrets, ECDS.
func (m *Manager) Dump(b *bootstrapv3.Bootstrap, o DumpOptions) ([]byte, error) {
	names := regexp.MustCompile("")
	if o.NameRegex != "" {
		var err error
		if names, err = regexp.Compile(o.NameRegex); err != nil {
			return nil, fmt.Errorf("name_regex: %w", err)
		}
	}
	sections := []proto.Message{
		&adminv3.BootstrapConfigDump{Bootstrap: b, LastUpdated: timestamppb.Now()},
		m.dumpClusters(names),
		nil,
		m.dumpListeners(names),
		&adminv3.ScopedRoutesConfigDump{},
		m.dumpRoutes(names),
		&adminv3.SecretsConfigDump{},
		&adminv3.EcdsConfigDump{},
	}
	if o.IncludeEDS {
		sections[2] = m.dumpEndpoints(names)
	}
	dump := &adminv3.ConfigDump{}
	for _, s := range sections {
		if s == nil {
			continue
		}
		if o.Resource != "" {
			picked, err := pick(s, o.Resource)
			if err != nil {
				return nil, err
			}
			dump.Configs = append(dump.Configs, picked...)
			continue
		}
		a, err := anypb.New(s)
		if err != nil {
			return nil, err
		}
		dump.Configs = append(dump.Configs, a)
	}
	return protojson.MarshalOptions{Indent: " ", UseProtoNames: true, Resolver: opaque{}}.Marshal(dump)
}

// pick returns the elements of one repeated field of a section.
func pick(section proto.Message, field string) ([]*anypb.Any, error) {
	r := section.ProtoReflect()
	for i := range r.Descriptor().Fields().Len() {
		fd := r.Descriptor().Fields().Get(i)
		if string(fd.Name()) != field || !fd.IsList() || fd.Message() == nil {
			continue
		}
		var out []*anypb.Any
		list := r.Get(fd).List()
		for j := range list.Len() {
			a, err := anypb.New(list.Get(j).Message().Interface())
			if err != nil {
				return nil, err
			}
			out = append(out, a)
		}
		return out, nil
	}
	return nil, nil
}

func (m *Manager) dumpClusters(names *regexp.Regexp) proto.Message {
	d := &adminv3.ClustersConfigDump{}
	for _, r := range m.Records(ads.ClusterType) {
		switch {
		case !names.MatchString(r.Name):
		case r.Static:
			d.StaticClusters = append(d.StaticClusters, &adminv3.ClustersConfigDump_StaticCluster{Cluster: visible(r.Body), LastUpdated: stamp(r.Updated)})
		default:
			d.DynamicActiveClusters = append(d.DynamicActiveClusters, &adminv3.ClustersConfigDump_DynamicCluster{
				VersionInfo: r.Version, Cluster: visible(r.Body), LastUpdated: stamp(r.Updated), ErrorState: failure(r),
			})
		}
	}
	return d
}

func (m *Manager) dumpEndpoints(names *regexp.Regexp) proto.Message {
	d := &adminv3.EndpointsConfigDump{}
	for _, r := range m.Records(ads.EndpointType) {
		if names.MatchString(r.Name) {
			d.DynamicEndpointConfigs = append(d.DynamicEndpointConfigs, &adminv3.EndpointsConfigDump_DynamicEndpointConfig{
				VersionInfo: r.Version, EndpointConfig: visible(r.Body), LastUpdated: stamp(r.Updated), ErrorState: failure(r),
			})
		}
	}
	return d
}

func (m *Manager) dumpListeners(names *regexp.Regexp) proto.Message {
	d := &adminv3.ListenersConfigDump{}
	for _, r := range m.Records(ads.ListenerType) {
		switch {
		case !names.MatchString(r.Name):
		case r.Static:
			d.StaticListeners = append(d.StaticListeners, &adminv3.ListenersConfigDump_StaticListener{Listener: visible(r.Body), LastUpdated: stamp(r.Updated)})
		default:
			l := &adminv3.ListenersConfigDump_DynamicListener{Name: r.Name, ErrorState: failure(r)}
			if r.Body != nil {
				l.ActiveState = &adminv3.ListenersConfigDump_DynamicListenerState{VersionInfo: r.Version, Listener: visible(r.Body), LastUpdated: stamp(r.Updated)}
			}
			d.DynamicListeners = append(d.DynamicListeners, l)
		}
	}
	return d
}

func (m *Manager) dumpRoutes(names *regexp.Regexp) proto.Message {
	d := &adminv3.RoutesConfigDump{}
	for _, r := range m.Records(ads.RouteType) {
		if names.MatchString(r.Name) {
			d.DynamicRouteConfigs = append(d.DynamicRouteConfigs, &adminv3.RoutesConfigDump_DynamicRouteConfig{
				VersionInfo: r.Version, RouteConfig: visible(r.Body), LastUpdated: stamp(r.Updated), ErrorState: failure(r),
			})
		}
	}
	return d
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// failure tells of a newer version that was refused.
func failure(r Record) *adminv3.UpdateFailureState {
	if r.Refused == nil {
		return nil
	}
	return &adminv3.UpdateFailureState{
		FailedConfiguration: visible(r.RefusedBody),
		Details:             r.Refused.Error(), VersionInfo: r.RefusedVersion, LastUpdateAttempt: stamp(r.RefusedAt),
	}
}
