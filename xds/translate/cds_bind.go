package translate

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// defaultSelector is the local_address_selector that is there without being named.
const defaultSelector = "envoy.config.upstream.local_address_selector.v3.DefaultLocalAddressSelector"

func clusterBind(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) (err error) {
	if spec.Bind, err = bindConfig(pb.UpstreamBindConfig, p); err != nil {
		return filter.At("upstream_bind_config", err)
	}
	return filter.At("upstream_connection_options", clusterConnection(pb.UpstreamConnectionOptions, spec, p))
}

// UpstreamBind is cluster_manager.upstream_bind_config, which is for every cluster that
// has none of its own; nil is none.
func UpstreamBind(b *bootstrapv3.Bootstrap) (*cluster.Bind, error) {
	bind, err := bindConfig(b.GetClusterManager().GetUpstreamBindConfig(), nil)
	return bind, filter.At("cluster_manager.upstream_bind_config", err)
}

func bindConfig(b *corev3.BindConfig, p *filter.Parser) (*cluster.Bind, error) {
	if b == nil {
		return nil, nil
	}
	err := fromproto.Check(b, p, fromproto.Fields{Used: []string{
		"source_address", "freebind", "socket_options", "extra_source_addresses", "additional_source_addresses",
		"local_address_selector",
		"validate_network_namespaces", // there is none to validate: see sourceAddress
	}})
	if err != nil {
		return nil, err
	}
	if s := b.LocalAddressSelector; s != nil && fromproto.TypeName(s.GetTypedConfig().GetTypeUrl()) != defaultSelector {
		return nil, filter.At("local_address_selector", fmt.Errorf("this build does not support %q", fromproto.TypeName(s.GetTypedConfig().GetTypeUrl())))
	}
	bind := &cluster.Bind{Freebind: b.Freebind.GetValue()}
	if bind.Options, err = SocketOptions(b.SocketOptions); err != nil {
		return nil, filter.At("socket_options", err)
	}
	bind.V6Options = bind.Options
	if b.SourceAddress != nil {
		if err := sourceAddress(bind, b.SourceAddress, nil); err != nil {
			return nil, filter.At("source_address", err)
		}
	}
	for i, e := range b.ExtraSourceAddresses {
		if err := sourceAddress(bind, e.Address, e.SocketOptions); err != nil {
			return nil, filter.AtIndex("extra_source_addresses", i, err)
		}
	}
	for i, a := range b.AdditionalSourceAddresses { //nolint:staticcheck // deprecated, still sent
		if err := sourceAddress(bind, a, nil); err != nil {
			return nil, filter.AtIndex("additional_source_addresses", i, err)
		}
	}
	return bind, nil
}

// sourceAddress adds a source address, with its own socket options if it has some.
func sourceAddress(bind *cluster.Bind, s *corev3.SocketAddress, own *corev3.SocketOptionsOverride) error {
	if s.GetNetworkNamespaceFilepath() != "" {
		return filter.At("network_namespace_filepath", errors.New("this build does not connect from other network namespaces"))
	}
	addr, err := netip.ParseAddr(s.GetAddress())
	if err != nil {
		return fmt.Errorf("%q is not an IP address", s.GetAddress())
	}
	into, options := &bind.V6, &bind.V6Options
	if addr.Is4() {
		into, options = &bind.V4, &bind.Options
	}
	if into.IsValid() {
		return fmt.Errorf("there are two source addresses of the IP version of %s", addr)
	}
	*into = netip.AddrPortFrom(addr, uint16(s.GetPortValue()))
	if own == nil {
		return nil
	}
	*options, err = SocketOptions(own.SocketOptions)
	return filter.At("socket_options", err)
}

// SocketOptions converts the socket options of outgoing TCP connections; those for
// datagrams are left out.
func SocketOptions(list []*corev3.SocketOption) ([]netio.SocketOption, error) {
	var out []netio.SocketOption
	for i, pb := range list {
		if pb.State != corev3.SocketOption_STATE_PREBIND {
			return nil, filter.At(fmt.Sprintf("[%d].state", i), fmt.Errorf("%s is for listeners: connections have STATE_PREBIND only", pb.State))
		}
		o, ours, err := socketOption(pb)
		switch {
		case err != nil:
			return nil, filter.At(fmt.Sprintf("[%d]", i), err)
		case ours:
			out = append(out, o)
		}
	}
	return out, nil
}

// socketOption converts a socket option; ours is false for one of datagrams.
func socketOption(pb *corev3.SocketOption) (o netio.SocketOption, ours bool, err error) {
	o = netio.SocketOption{
		Level: int(pb.Level), Name: int(pb.Name),
		NotV4: pb.IpVersion == corev3.SocketOption_SOCKET_IP_VERSION_IPV6, NotV6: pb.IpVersion == corev3.SocketOption_SOCKET_IP_VERSION_IPV4,
	}
	switch v := pb.Value.(type) {
	case *corev3.SocketOption_IntValue:
		o.Int = int(v.IntValue)
	case *corev3.SocketOption_BufValue:
		o.Buf = append([]byte{}, v.BufValue...)
	default:
		return o, false, errors.New("int_value or buf_value is required")
	}
	return o, pb.Type == nil || pb.Type.Stream != nil, nil
}

func clusterConnection(pb *clusterv3.UpstreamConnectionOptions, spec *cluster.Spec, p *filter.Parser) error {
	if pb == nil {
		return nil
	}
	err := fromproto.Check(pb, p, fromproto.Fields{
		Used:    []string{"tcp_keepalive", "happy_eyeballs_config"},
		Ignored: []string{"set_local_interface_name_on_upstream_connections"}, // nothing here asks for it
	})
	if err != nil {
		return err
	}
	if k := pb.TcpKeepalive; k != nil {
		spec.KeepAlive = &cluster.TCPKeepAlive{
			Probes:   k.KeepaliveProbes.GetValue(),
			Time:     time.Duration(k.KeepaliveTime.GetValue()) * time.Second,
			Interval: time.Duration(k.KeepaliveInterval.GetValue()) * time.Second,
		}
	}
	e := pb.HappyEyeballsConfig
	if e == nil {
		return nil
	}
	switch e.FirstAddressFamilyVersion {
	case clusterv3.UpstreamConnectionOptions_V4:
		spec.Eyeballs.First = cluster.V4Only
	case clusterv3.UpstreamConnectionOptions_V6:
		spec.Eyeballs.First = cluster.V6Only
	}
	if c := e.FirstAddressFamilyCount; c != nil {
		if c.Value == 0 {
			return filter.At("happy_eyeballs_config.first_address_family_count", errors.New("must be at least 1"))
		}
		spec.Eyeballs.Count = int(min(c.Value, 1<<20))
	}
	return nil
}
