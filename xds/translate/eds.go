package translate

import (
	"errors"
	"fmt"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Assignment translates a ClusterLoadAssignment that came over EDS.
func Assignment(raw []byte) (*cluster.Assignment, error) {
	var pb endpointv3.ClusterLoadAssignment
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	a, err := assignment(&pb, false)
	if err != nil {
		return nil, err
	}
	a.Hash = hashOf(raw)
	a.Thaw = func() (*cluster.Assignment, error) { return Assignment(raw) } // raw is kept anyway, for config_dump
	return a, nil
}

// assignment converts endpoints; names tells whether an address may be a DNS name.
func assignment(pb *endpointv3.ClusterLoadAssignment, names bool) (*cluster.Assignment, error) {
	a := &cluster.Assignment{Cluster: pb.ClusterName, Overprovisioning: 140}
	if err := fromproto.Check(pb, nil, fromproto.Fields{Used: []string{"cluster_name", "endpoints", "policy", "named_endpoints"}}); err != nil {
		return nil, err
	}
	if p := pb.Policy; p != nil {
		err := fromproto.Check(p, nil, fromproto.Fields{
			Used: []string{"overprovisioning_factor", "endpoint_stale_after", "weighted_priority_health", "drop_overloads"},
		})
		if err == nil {
			err = assignmentPolicy(p, a)
		}
		if err != nil {
			return nil, filter.At("policy", err)
		}
	}
	for i, l := range pb.Endpoints {
		if l.GetLedsClusterLocalityConfig() != nil {
			return nil, filter.AtIndex("endpoints", i, filter.At("leds_cluster_locality_config", errors.New("this build does not support LEDS")))
		}
		if l.GetLoadBalancerEndpoints() != nil {
			return nil, filter.AtIndex("endpoints", i, filter.At("load_balancer_endpoints", errors.New("this build takes endpoints from lb_endpoints only")))
		}
		loc := cluster.Locality{
			Region: l.GetLocality().GetRegion(), Zone: l.GetLocality().GetZone(), SubZone: l.GetLocality().GetSubZone(),
			Weight: l.GetLoadBalancingWeight().GetValue(), Priority: l.Priority, Metadata: filterMetadata(l.GetMetadata()),
		}
		for j, e := range l.LbEndpoints {
			h, err := host(e, pb.NamedEndpoints, names)
			if err != nil {
				return nil, filter.AtIndex("endpoints", i, filter.AtIndex("lb_endpoints", j, err))
			}
			loc.Hosts = append(loc.Hosts, h)
		}
		a.Localities = append(a.Localities, loc)
	}
	return a, nil
}

// Locality translates a locality.
func Locality(pb *corev3.Locality) cluster.LocalityName {
	return cluster.LocalityName{Region: pb.GetRegion(), Zone: pb.GetZone(), SubZone: pb.GetSubZone()}
}

// assignmentPolicy translates what an assignment says of the load as a whole.
func assignmentPolicy(p *endpointv3.ClusterLoadAssignment_Policy, a *cluster.Assignment) (err error) {
	a.Overprovisioning = int(orDefault(p.OverprovisioningFactor, 140))
	a.WeightedHealth = p.WeightedPriorityHealth
	if a.Overprovisioning < 1 {
		return filter.At("overprovisioning_factor", errors.New("must be more than 0"))
	}
	if p.EndpointStaleAfter != nil {
		if a.StaleAfter, err = fromproto.PositiveDuration(p.EndpointStaleAfter, 0); err != nil {
			return filter.At("endpoint_stale_after", err)
		}
	}
	switch drops := p.DropOverloads; {
	case len(drops) > 1:
		return filter.At("drop_overloads", fmt.Errorf("there are %d categories, at most one can be obeyed", len(drops)))
	case len(drops) == 1:
		f := fromproto.Fraction(drops[0].DropPercentage)
		if a.DropOverload = float64(f.Numerator) / float64(f.Denominator); a.DropOverload > 1 {
			return filter.AtIndex("drop_overloads", 0, filter.At("drop_percentage", errors.New("is more than all requests")))
		}
	}
	return nil
}

func host(e *endpointv3.LbEndpoint, named map[string]*endpointv3.Endpoint, names bool) (cluster.HostSpec, error) {
	ep := e.GetEndpoint()
	if name := e.GetEndpointName(); name != "" {
		if ep = named[name]; ep == nil {
			return cluster.HostSpec{}, filter.At("endpoint_name", fmt.Errorf("%q is not among the named_endpoints", name))
		}
	}
	if ep == nil {
		return cluster.HostSpec{}, filter.At("endpoint", errors.New("is required"))
	}
	h := cluster.HostSpec{Hostname: ep.Hostname, Weight: 1, Health: healthOf(e.HealthStatus)}
	if v := e.LoadBalancingWeight; v != nil {
		h.Weight = v.Value
	}
	h.Metadata = filterMetadata(e.GetMetadata())
	var err error
	if h.Check, err = hostCheck(ep.HealthCheckConfig); err != nil {
		return h, filter.At("endpoint.health_check_config", err)
	}
	if h.TLVs, err = tlvsOfHost(e.GetMetadata().GetTypedFilterMetadata()); err != nil {
		return h, err
	}
	if s := ep.GetAddress().GetSocketAddress(); names && s != nil {
		if h.Hostname == "" {
			h.Hostname = s.Address
		}
		if _, err := netip.ParseAddr(s.Address); err != nil {
			h.DNSName, h.Port = s.Address, uint16(s.GetPortValue())
			return h, nil
		}
	}
	if h.Addr, err = address(ep.Address); err != nil {
		return h, filter.At("endpoint.address", err)
	}
	for i, x := range ep.AdditionalAddresses {
		extra, err := address(x.Address)
		if err != nil {
			return h, filter.At("endpoint", filter.AtIndex("additional_addresses", i, err))
		}
		h.Extra = append(h.Extra, extra)
	}
	return h, nil
}

// filterMetadata converts what of Metadata is not typed; nil if there is nothing.
func filterMetadata(m *corev3.Metadata) map[string]map[string]any {
	fm := m.GetFilterMetadata()
	if len(fm) == 0 {
		return nil
	}
	all := make(map[string]map[string]any, len(fm))
	for k, v := range fm {
		all[k] = v.AsMap()
	}
	return all
}

// hostCheck translates how one endpoint is checked.
func hostCheck(pb *endpointv3.Endpoint_HealthCheckConfig) (*cluster.HostCheck, error) {
	if pb == nil {
		return nil, nil
	}
	c := &cluster.HostCheck{Disabled: pb.DisableActiveHealthCheck, Port: uint16(pb.PortValue), Hostname: pb.Hostname}
	if pb.PortValue > 65535 {
		return nil, filter.At("port_value", fmt.Errorf("%d is no port", pb.PortValue))
	}
	if pb.Address != nil {
		var err error
		if c.Addr, err = address(pb.Address); err != nil {
			return nil, filter.At("address", err)
		}
	}
	if *c == (cluster.HostCheck{}) {
		return nil, nil
	}
	return c, nil
}

func healthOf(s corev3.HealthStatus) cluster.Health {
	switch s {
	case corev3.HealthStatus_UNHEALTHY:
		return cluster.Unhealthy
	case corev3.HealthStatus_DRAINING:
		return cluster.DrainingHost
	case corev3.HealthStatus_TIMEOUT:
		return cluster.TimedOutHost
	case corev3.HealthStatus_DEGRADED:
		return cluster.Degraded
	}
	return cluster.Healthy
}

// address converts a numeric socket address or the path of a unix socket. Which
// protocol it is for is not its concern.
func address(a *corev3.Address) (meta.Addr, error) {
	switch a := a.GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		s := a.SocketAddress
		ip, err := netip.ParseAddr(s.Address)
		if err != nil {
			return meta.Addr{}, filter.At("socket_address.address", fmt.Errorf("%q is not an IP address", s.Address))
		}
		if s.GetNamedPort() != "" {
			return meta.Addr{}, filter.At("socket_address.named_port", errors.New("this build needs port_value"))
		}
		return meta.Addr{AddrPort: netip.AddrPortFrom(ip, uint16(s.GetPortValue()))}, nil
	case *corev3.Address_Pipe:
		return meta.Addr{Path: a.Pipe.Path}, nil
	case *corev3.Address_EnvoyInternalAddress:
		in := a.EnvoyInternalAddress
		if in.GetServerListenerName() == "" {
			return meta.Addr{}, filter.At("envoy_internal_address.server_listener_name", errors.New("must not be empty"))
		}
		return meta.InternalAddr(in.GetServerListenerName(), in.EndpointId), nil
	case nil:
		return meta.Addr{}, errors.New("socket_address or pipe is required")
	default:
		return meta.Addr{}, fmt.Errorf("this build does not support %T", a)
	}
}
