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
	multipath                      bool
	backlog                        int
	fastOpen                       int // -1: not set
	keepAlive                      netio.KeepAlive
	options                        string // all of wantedSock.with
	mode                           fs.FileMode
	index                          int
}

// wantedSock is a socket that a spec asks for.
type wantedSock struct {
	sockKey
	with SocketOptions
}

func (s *Spec) sockKeys() []wantedSock {
	if s.Unbound || s.Internal {
		return nil
	}
	fast := -1
	if s.FastOpen != nil {
		fast = *s.FastOpen
	}
	var out []wantedSock
	for _, a := range s.Addresses {
		n := 1
		reuse := s.ReusePort && !a.Addr.IsUnix()
		if reuse {
			n = max(1, s.Sockets)
		}
		for i := range n {
			out = append(out, wantedSock{with: a.Options, sockKey: sockKey{
				addr: a.Addr, dual: a.DualStack, reuse: reuse, transparent: s.Transparent, free: s.Freebind, multipath: s.Multipath,
				backlog: s.Backlog, fastOpen: fast, keepAlive: a.KeepAlive, mode: a.Mode, index: i,
				options: fmt.Sprint(a.Options),
			}})
		}
	}
	return out
}

func (k *wantedSock) listen() netio.ListenOptions {
	o := netio.ListenOptions{
		Addr: k.addr, DualStack: k.dual, ReusePort: k.reuse, Transparent: k.transparent, Freebind: k.free, Multipath: k.multipath,
		Backlog: k.backlog, Mode: k.mode, KeepAlive: k.keepAlive, Options: k.with.BeforeBind, Late: k.with.Listening,
	}
	if k.fastOpen >= 0 {
		o.FastOpen = &k.fastOpen
	}
	return o
}

// bind returns the sockets of spec: those that l has already, and new ones, which do
// not listen yet. If one cannot be bound, none is.
func (l *Listener) bind(spec *Spec) (fresh, kept []*acceptor, err error) {
	if l.m.o.NoSockets {
		return nil, nil, nil
	}
	for _, k := range spec.sockKeys() {
		if a := l.acceptor(k.sockKey); a != nil {
			kept = append(kept, a)
			continue
		}
		o := k.listen()
		if k.index > 0 && k.addr.Port() == 0 && k.addr.AddrPort.IsValid() {
			o.Addr = fresh[len(fresh)-1].sock.Addr() // the port that the kernel chose for the first
		}
		s, err := netio.Bind(o)
		if err != nil {
			closeAll(fresh)
			return nil, nil, cannotBind(k.sockKey, err)
		}
		fresh = append(fresh, &acceptor{key: k.sockKey, sock: s, l: l})
	}
	return fresh, kept, nil
}

// listen begins to listen on sockets that bind has made; on all or on none.
func listen(as []*acceptor) error {
	for _, a := range as {
		if err := a.sock.Listen(); err != nil {
			closeAll(as)
			return cannotBind(a.key, err)
		}
	}
	return nil
}

func cannotBind(k sockKey, err error) error {
	return filter.At("address", fmt.Errorf("cannot bind %s: %w", k.addr, err))
}

// closeAll closes sockets that have not accepted anything.
func closeAll(as []*acceptor) {
	for _, a := range as {
		_ = a.sock.Close()
	}
}

func (l *Listener) acceptor(k sockKey) *acceptor {
	for _, a := range l.socks {
		if a.key == k {
			return a
		}
	}
	return nil
}
