package translate

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

func listenerAddresses(pb *listenerv3.Listener, spec *l4.Spec, p *filter.Parser) error {
	if pb.GetInternalListener() != nil {
		return internalListener(pb, spec)
	}
	first, err := bindAddress(pb.Address)
	if err != nil {
		return filter.At("address", err)
	}
	first.KeepAlive = keepAlive(pb.TcpKeepalive)
	if first.Options, err = listenOptions(pb.SocketOptions); err != nil {
		return err
	}
	spec.Addresses = append(spec.Addresses, first)
	for i, a := range pb.AdditionalAddresses {
		more, err := additionalAddress(a, first, p)
		if err != nil {
			return filter.AtIndex("additional_addresses", i, err)
		}
		spec.Addresses = append(spec.Addresses, more)
	}
	if pb.EnableMptcp && slices.ContainsFunc(spec.Addresses, func(a l4.Address) bool { return a.Addr.IsUnix() }) {
		return filter.At("enable_mptcp", errors.New("is for IP addresses"))
	}
	return nil
}

// internalListener: the address of an internal listener is its name.
func internalListener(pb *listenerv3.Listener, spec *l4.Spec) error {
	none := errors.New("an internal listener has none")
	switch {
	case pb.Address != nil:
		return filter.At("address", none)
	case len(pb.AdditionalAddresses) > 0:
		return filter.At("additional_addresses", none)
	case pb.ConnectionBalanceConfig != nil:
		return filter.At("connection_balance_config", none)
	case pb.EnableReusePort != nil:
		return filter.At("enable_reuse_port", none)
	case pb.Freebind != nil:
		return filter.At("freebind", none)
	case pb.EnableMptcp:
		return filter.At("enable_mptcp", none)
	case pb.TcpBacklogSize != nil:
		return filter.At("tcp_backlog_size", none)
	case pb.TcpFastOpenQueueLength != nil:
		return filter.At("tcp_fast_open_queue_length", none)
	case pb.Transparent != nil:
		return filter.At("transparent", none)
	}
	spec.Internal = true
	spec.Addresses = []l4.Address{{Addr: meta.InternalAddr(pb.Name, "")}}
	return nil
}

// additionalAddress converts one, which has the options of the first unless it has its own.
func additionalAddress(pb *listenerv3.AdditionalAddress, first l4.Address, p *filter.Parser) (a l4.Address, err error) {
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"address", "tcp_keepalive", "socket_options"}}); err != nil {
		return a, err
	}
	if a, err = bindAddress(pb.Address); err != nil {
		return a, filter.At("address", err)
	}
	a.KeepAlive, a.Options = first.KeepAlive, first.Options
	if pb.TcpKeepalive != nil {
		a.KeepAlive = keepAlive(pb.TcpKeepalive)
	}
	if pb.SocketOptions != nil {
		a.Options, err = listenOptions(pb.SocketOptions.SocketOptions)
		return a, filter.At("socket_options", err)
	}
	return a, nil
}

func bindAddress(a *corev3.Address) (l4.Address, error) {
	addr, err := address(a)
	if err == nil && addr.IsInternal() {
		err = errors.New("an internal listener has internal_listener and no address")
	}
	if ns := a.GetSocketAddress().GetNetworkNamespaceFilepath(); err == nil && ns != "" {
		err = filter.At("socket_address.network_namespace_filepath", errors.New("this build binds in its own network namespace only"))
	}
	return l4.Address{
		Addr: addr, DualStack: a.GetSocketAddress().GetIpv4Compat(), Mode: fs.FileMode(a.GetPipe().GetMode()),
	}, err
}

// keepAlive converts a TcpKeepalive; nil is none, and so is one with a field of zero.
func keepAlive(pb *corev3.TcpKeepalive) netio.KeepAlive {
	if pb == nil {
		return netio.KeepAlive{}
	}
	for _, v := range []*wrapperspb.UInt32Value{pb.KeepaliveProbes, pb.KeepaliveTime, pb.KeepaliveInterval} {
		if v != nil && v.Value == 0 {
			return netio.KeepAlive{}
		}
	}
	return netio.KeepAlive{
		Enable: true, Probes: int(pb.KeepaliveProbes.GetValue()),
		Idle:     time.Duration(pb.KeepaliveTime.GetValue()) * time.Second,
		Interval: time.Duration(pb.KeepaliveInterval.GetValue()) * time.Second,
	}
}

// listenOptions converts the socket options of a listener, by the state in which they
// are set; those for datagrams only are left out.
func listenOptions(list []*corev3.SocketOption) (out l4.SocketOptions, err error) {
	for i, pb := range list {
		o, ours, err := socketOption(pb)
		if err != nil {
			return out, filter.AtIndex("socket_options", i, err)
		}
		if ours && pb.State == corev3.SocketOption_STATE_PREBIND {
			out.BeforeBind = append(out.BeforeBind, o)
		} else if ours {
			out.Listening = append(out.Listening, o)
		}
	}
	return out, nil
}
