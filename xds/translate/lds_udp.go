package translate

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l4"
)

func isUDP(a *corev3.Address) bool {
	return a.GetSocketAddress().GetProtocol() == corev3.SocketAddress_UDP
}

// listenerUDP completes spec if pb is a UDP listener, and reports whether it is.
func listenerUDP(pb *listenerv3.Listener, spec *l4.Spec, p *filter.Parser) (bool, error) {
	udp := isUDP(pb.Address)
	for i, a := range pb.AdditionalAddresses {
		if isUDP(a.Address) != udp {
			return udp, filter.AtIndex("additional_addresses", i, filter.At("address.socket_address.protocol",
				errors.New("all addresses of a listener must have the same protocol")))
		}
	}
	if !udp {
		return false, nil
	}
	switch {
	case len(pb.FilterChains) > 0:
		return true, filter.At("filter_chains", fmt.Errorf("a UDP listener has no filter chains, but there are %d", len(pb.FilterChains)))
	case pb.DefaultFilterChain != nil:
		return true, filter.At("default_filter_chain", errors.New("a UDP listener has no filter chains"))
	case spec.Unbound:
		return true, filter.At("bind_to_port", errors.New("false is not possible for UDP listeners"))
	case spec.Multipath:
		return true, filter.At("enable_mptcp", errors.New("is for TCP listeners"))
	}
	spec.UDP = &l4.UDP{}
	spec.ReusePort = pb.EnableReusePort == nil || pb.EnableReusePort.Value
	if err := udpConfig(pb.UdpListenerConfig, spec.UDP, p); err != nil {
		return true, filter.At("udp_listener_config", err)
	}
	for i, f := range pb.ListenerFilters {
		u, err := udpFilter(f, p)
		if err != nil {
			return true, filter.AtIndex("listener_filters", i, err)
		}
		spec.UDP.Filters = append(spec.UDP.Filters, u)
	}
	return true, nil
}

// udpConfig converts UdpListenerConfig. How datagrams are written (GSO) is a matter of
// speed: this build moves many with one system call.
func udpConfig(pb *listenerv3.UdpListenerConfig, u *l4.UDP, p *filter.Parser) error {
	err := fromproto.Check(pb, p, fromproto.Fields{
		Used: []string{"downstream_socket_config"}, Ignored: []string{"udp_packet_packet_writer_config"},
	})
	if err != nil {
		return err
	}
	u.MaxDatagram, err = fromproto.UDPSocket(pb.GetDownstreamSocketConfig(), p, false)
	return filter.At("downstream_socket_config", err)
}

func udpFilter(f *listenerv3.ListenerFilter, p *filter.Parser) (u l4.UDPFilter, err error) {
	if f.GetConfigDiscovery() != nil {
		return u, filter.At("config_discovery", errors.New("filters of UDP listeners cannot be discovered"))
	}
	if f.FilterDisabled != nil {
		p.Warnings = append(p.Warnings, "filter_disabled has no effect on filters of UDP listeners, as in Envoy")
	}
	c, err := fromproto.Any(f.GetTypedConfig())
	if err != nil {
		return u, filter.At("typed_config", err)
	}
	factory, err := p.UDP(c)
	if err != nil {
		return u, filter.At("typed_config", err)
	}
	return l4.UDPFilter{Name: f.Name, Factory: factory, Hash: hashOf(append([]byte(f.Name+"\x00"+c.Type+"\x00"), c.Value...))}, nil
}
