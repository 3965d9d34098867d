package l4

import (
	"fmt"
	"runtime"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// maxUDPSockets is how many sockets a UDP listener binds to an address at most. The
// kernel spreads the clients over them.
const maxUDPSockets = 4

// udpKeys returns the sockets of a UDP listener: with reuse_port as many as can be read at
// once, so that one busy client does not hold back the others.
func (s *Spec) udpKeys() []sockKey {
	n := 1
	if s.ReusePort {
		if n = s.Sockets; n == 0 {
			n = min(runtime.GOMAXPROCS(0), maxUDPSockets)
		}
	}
	var out []sockKey
	for _, a := range s.Addresses {
		for i := range n {
			out = append(out, sockKey{
				addr: a.Addr, dual: a.DualStack, reuse: n > 1, transparent: s.Transparent, free: s.Freebind, index: i,
			})
		}
	}
	return out
}

// bind returns the sockets of spec: those that l has already, and new ones. If one
// cannot be bound, none is.
func (l *UDPListener) bind(spec *Spec) (fresh, kept []*udpSocket, err error) {
	if l.m.o.NoSockets {
		return nil, nil, nil
	}
	for _, k := range spec.udpKeys() {
		if a := l.socket(k); a != nil {
			kept = append(kept, a)
			continue
		}
		at := k.addr.AddrPort
		if k.index > 0 && at.Port() == 0 && len(fresh) > 0 {
			at = fresh[len(fresh)-1].sock.Local() // the port that the kernel chose for the first
		}
		s, err := netio.OpenUDP(netio.UDPOptions{
			Bind: at, DualStack: k.dual, ReusePort: k.reuse, Transparent: k.transparent, Freebind: k.free,
		})
		if err != nil {
			closeUDP(fresh)
			return nil, nil, filter.At("address", fmt.Errorf("cannot bind UDP %s: %w", k.addr, err))
		}
		fresh = append(fresh, &udpSocket{key: k, sock: s, l: l})
	}
	return fresh, kept, nil
}

func (l *UDPListener) socket(k sockKey) *udpSocket {
	for _, a := range l.socks {
		if a.key == k {
			return a
		}
	}
	return nil
}
