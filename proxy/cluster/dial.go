package cluster

import (
	"context"
	"errors"
	"os"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// dialFunc makes a raw connection as the cluster's socket options say. The deadline
// is that of ctx.
type dialFunc func(ctx context.Context, s *Spec, to meta.Addr) (*netio.Conn, error)

// dialSocket returns the dialFunc of real sockets. bind is for clusters that have none
// (cluster_manager.upstream_bind_config, nil is none), mark the SO_MARK of connections
// that are given no other.
func dialSocket(bind *Bind, mark int) dialFunc {
	return func(ctx context.Context, s *Spec, to meta.Addr) (*netio.Conn, error) {
		o := dialOptions(s, to, bind, mark)
		if k := s.KeepAlive; k != nil {
			o.KeepAlive = netio.KeepAlive{Enable: true, Probes: int(k.Probes), Idle: k.Time, Interval: k.Interval}
		}
		return netio.Dial(ctx, o)
	}
}

// dialOptions returns where connections and datagrams of a cluster come from, and their
// socket options.
func dialOptions(s *Spec, to meta.Addr, bind *Bind, mark int) netio.DialOptions {
	o := netio.DialOptions{Addr: to, Mark: mark}
	if s.Bind != nil {
		bind = s.Bind
	}
	if bind != nil {
		bind.apply(&o)
	}
	return o
}

// mark returns the SO_MARK among the options, 0 if there is none. b may be nil.
func (b *Bind) mark() int {
	if b == nil {
		return 0
	}
	mark, _ := netio.Marks(b.Options)
	return mark
}

// apply makes a connection come from where b says.
func (b *Bind) apply(o *netio.DialOptions) {
	o.Bind.V4, o.Bind.V6, o.Bind.Freebind = b.V4, b.V6, b.Freebind
	o.Options = b.Options
	if o.Addr.Addr().Is6() && !o.Addr.Addr().Is4In6() {
		o.Options = b.V6Options
	}
	if _, ok := netio.Marks(o.Options); ok {
		o.Mark = 0
	}
}

// isBindError reports whether it was the source address that could not be had.
func isBindError(err error) bool {
	var call *os.SyscallError
	return errors.As(err, &call) && call.Syscall == "bind"
}

func localAddr(c *netio.Conn) meta.Addr { return meta.AddrOf(c.LocalAddr()) }
