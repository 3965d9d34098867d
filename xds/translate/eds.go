package translate

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Assignment translates a ClusterLoadAssignment that came over EDS.
func Assignment(raw []byte) (*cluster.Assignment, error) {
	var pb endpointv3.ClusterLoadAssignment
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("cluster_load_assignment: %w", err)
	}
	if pb.ClusterName == "" {
		return nil, filter.At("cluster_name", errors.New("is required"))
	}
	a, err := assignment(&pb, false)
	if err != nil {
		return nil, err
	}
	h := fnv.New64a()
	_, _ = h.Write(raw) // a hash never fails
	a.Hash = h.Sum64()
	return a, nil
}

// assignment converts endpoints; names tells whether an address may be a DNS name.
func assignment(pb *endpointv3.ClusterLoadAssignment, names bool) (*cluster.Assignment, error) {
	a := &cluster.Assignment{Cluster: pb.ClusterName, Overprovisioning: 140}
	if v := pb.GetPolicy().GetOverprovisioningFactor(); v != nil {
		if v.Value == 0 {
			return nil, filter.At("policy.overprovisioning_factor", errors.New("0 is not more than zero"))
		}
		a.Overprovisioning = int(v.Value)
	}
	for i, l := range pb.Endpoints {
		if l.Priority > 128 {
			return nil, filter.AtIndex("endpoints", i, filter.At("priority", fmt.Errorf("%d is more than 128", l.Priority)))
		}
		loc := cluster.Locality{
			Region: l.GetLocality().GetRegion(), Zone: l.GetLocality().GetZone(), SubZone: l.GetLocality().GetSubZone(),
			Weight: l.GetLoadBalancingWeight().GetValue(), Priority: l.Priority,
		}
		for j, e := range l.LbEndpoints {
			h, err := host(e, names)
			if err != nil {
				return nil, filter.AtIndex("endpoints", i, filter.AtIndex("lb_endpoints", j, err))
			}
			loc.Hosts = append(loc.Hosts, h)
		}
		a.Localities = append(a.Localities, loc)
	}
	return a, nil
}

func host(e *endpointv3.LbEndpoint, names bool) (cluster.HostSpec, error) {
	ep := e.GetEndpoint()
	if ep == nil {
		return cluster.HostSpec{}, filter.At("endpoint", errors.New("is required"))
	}
	h := cluster.HostSpec{Hostname: ep.Hostname, Weight: 1, Health: healthOf(e.HealthStatus)}
	if v := e.LoadBalancingWeight; v != nil {
		if v.Value == 0 {
			return h, filter.At("load_balancing_weight", errors.New("0 is not more than zero"))
		}
		h.Weight = v.Value
	}
	if fm := e.GetMetadata().GetFilterMetadata(); len(fm) > 0 {
		h.Metadata = make(map[string]map[string]any, len(fm))
		for k, v := range fm {
			h.Metadata[k] = v.AsMap()
		}
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
	var err error
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

// address converts a numeric socket address or the path of a unix socket.
func address(a *corev3.Address) (meta.Addr, error) {
	switch a := a.GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		s := a.SocketAddress
		if s.Protocol != corev3.SocketAddress_TCP {
			return meta.Addr{}, filter.At("socket_address.protocol", fmt.Errorf("this build does not support %s here", s.Protocol))
		}
		ip, err := netip.ParseAddr(s.Address)
		if err != nil {
			return meta.Addr{}, filter.At("socket_address.address", fmt.Errorf("%q is not an IP address; names need a cluster of type STRICT_DNS", s.Address))
		}
		if s.GetPortValue() > 65535 || s.GetNamedPort() != "" {
			return meta.Addr{}, filter.At("socket_address.port_value", fmt.Errorf("%d is not a port number", s.GetPortValue()))
		}
		return meta.Addr{AddrPort: netip.AddrPortFrom(ip, uint16(s.GetPortValue()))}, nil
	case *corev3.Address_Pipe:
		if a.Pipe.Path == "" {
			return meta.Addr{}, filter.At("pipe.path", errors.New("is required"))
		}
		return meta.Addr{Path: a.Pipe.Path}, nil
	case nil:
		return meta.Addr{}, errors.New("socket_address or pipe is required")
	default:
		return meta.Addr{}, fmt.Errorf("this build does not support %T", a)
	}
}
