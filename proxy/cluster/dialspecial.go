package cluster

import (
	"context"
	"errors"
	"net/netip"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// dial makes a raw connection to h: inside the process, from the address that downstream
// came from, or as the cluster says.
func (g *group) dial(ctx context.Context, s *Spec, h *Host, socket transport.Socket, to *transport.Peer) (*netio.Conn, error) {
	switch {
	case h.Addr.IsInternal():
		if g.m.options.Internal == nil {
			return nil, errors.New("cluster: there are no internal listeners here")
		}
		return g.m.options.Internal(ctx, h.Addr, passed(s, h, socket, to))
	case to.From != nil && h.Addr.AddrPort.IsValid():
		return dialFrom(ctx, s, h.Addr, *to.From)
	}
	return dialHost(ctx, g.m.dial, s, h)
}

// passed is what an internal listener is told.
func passed(s *Spec, h *Host, socket transport.Socket, to *transport.Peer) (with meta.Passed) {
	in, ok := socket.(*transport.Internal)
	if !ok {
		return with
	}
	with.State = to.State
	for _, p := range in.Passthrough {
		from := h.Metadata
		if p.Cluster {
			from = s.Metadata
		}
		if values := from[p.Namespace]; values != nil {
			if with.Metadata == nil {
				with.Metadata = map[string]map[string]any{}
			}
			with.Metadata[p.Namespace] = values
		}
	}
	return with
}

// dialFrom dials from an address that need not be the machine's (IP_TRANSPARENT).
// Families that do not fit are dialed from anywhere, as in Envoy.
func dialFrom(ctx context.Context, s *Spec, to meta.Addr, from meta.Source) (*netio.Conn, error) {
	o := netio.DialOptions{Addr: to, Mark: from.Mark}
	o.Bind.Transparent = true
	if from.Addr.Is4() {
		o.Bind.V4 = netip.AddrPortFrom(from.Addr, 0)
	} else {
		o.Bind.V6 = netip.AddrPortFrom(from.Addr, 0)
	}
	if k := s.KeepAlive; k != nil {
		o.KeepAlive = netio.KeepAlive{Enable: true, Probes: int(k.Probes), Idle: k.Time, Interval: k.Interval}
	}
	return netio.Dial(ctx, o)
}
