package l4

import (
	"fmt"
	"io/fs"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// sockKey is what makes two sockets the same: a new version of a listener keeps
// those that it wants unchanged.
type sockKey struct {
	addr                           meta.Addr
	dual, reuse, transparent, free bool
	backlog                        int
	mode                           fs.FileMode
	index                          int
}

func (s *Spec) sockKeys() []sockKey {
	if s.Unbound {
		return nil
	}
	var out []sockKey
	for _, a := range s.Addresses {
		n := 1
		if s.ReusePort && !a.Addr.IsUnix() {
			n = max(1, s.Sockets)
		}
		for i := range n {
			out = append(out, sockKey{
				addr: a.Addr, dual: a.DualStack, reuse: n > 1, transparent: s.Transparent,
				free: s.Freebind, backlog: s.Backlog, mode: a.Mode, index: i,
			})
		}
	}
	return out
}

// bind returns the sockets of spec: those that l has already, and new ones. If one
// cannot be bound, none is.
func (l *Listener) bind(spec *Spec) (fresh, kept []*acceptor, err error) {
	if l.m.o.NoSockets {
		return nil, nil, nil
	}
	for _, k := range spec.sockKeys() {
		if a := l.acceptor(k); a != nil {
			kept = append(kept, a)
			continue
		}
		o := netio.ListenOptions{
			Addr: k.addr, DualStack: k.dual, ReusePort: k.reuse, Transparent: k.transparent,
			Freebind: k.free, Backlog: k.backlog, Mode: k.mode,
		}
		if k.index > 0 && k.addr.Port() == 0 && k.addr.AddrPort.IsValid() {
			o.Addr = fresh[len(fresh)-1].sock.Addr() // the port that the kernel chose for the first
		}
		s, err := netio.Listen(o)
		if err != nil {
			for _, a := range fresh {
				_ = a.sock.Close() // nothing was accepted
			}
			return nil, nil, filter.At("address", fmt.Errorf("cannot bind %s: %w", k.addr, err))
		}
		fresh = append(fresh, &acceptor{key: k, sock: s, l: l})
	}
	return fresh, kept, nil
}

func (l *Listener) acceptor(k sockKey) *acceptor {
	for _, a := range l.socks {
		if a.key == k {
			return a
		}
	}
	return nil
}
