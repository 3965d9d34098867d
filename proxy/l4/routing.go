package l4

import "net/netip"

// routing finds the listener of an original destination: that of the exact address
// and port, else that of the wildcard address and the port.
type routing struct {
	exact map[netip.AddrPort]*Listener
}

// find returns nil where no listener has the address.
func (r *routing) find(dst netip.AddrPort) *Listener {
	if r == nil || !dst.IsValid() {
		return nil
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap().WithZone(""), dst.Port())
	if l := r.exact[dst]; l != nil {
		return l
	}
	if dst.Addr().Is4() {
		return r.exact[netip.AddrPortFrom(netip.IPv4Unspecified(), dst.Port())]
	}
	return r.exact[netip.AddrPortFrom(netip.IPv6Unspecified(), dst.Port())]
}

// add enters the addresses of l. A dual-stack wildcard serves IPv4, too, where no
// listener has the IPv4 wildcard.
func (r *routing) add(l *Listener, compat bool) {
	for _, a := range l.Spec().Addresses {
		if !a.Addr.AddrPort.IsValid() {
			continue
		}
		ap := netip.AddrPortFrom(a.Addr.Addr().Unmap(), a.Addr.Port())
		if !compat {
			r.exact[ap] = l
			continue
		}
		v4 := netip.AddrPortFrom(netip.IPv4Unspecified(), ap.Port())
		if a.DualStack && ap.Addr() == netip.IPv6Unspecified() && r.exact[v4] == nil {
			r.exact[v4] = l
		}
	}
}
