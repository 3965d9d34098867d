package cluster

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// dialFunc makes a raw connection as the cluster's socket options say. The deadline
// is that of ctx.
type dialFunc func(ctx context.Context, s *Spec, to meta.Addr) (*netio.Conn, error)

// dialSocket returns the dialFunc of real sockets, with the mark of those for whose
// cluster none is configured.
func dialSocket(mark int) dialFunc {
	return func(ctx context.Context, s *Spec, to meta.Addr) (*netio.Conn, error) {
		return dialMarked(ctx, s, to, mark)
	}
}

func dialMarked(ctx context.Context, s *Spec, to meta.Addr, mark int) (*netio.Conn, error) {
	o := netio.DialOptions{Addr: to, Mark: mark}
	if b := s.Bind; b != nil {
		o.Bind.V4, o.Bind.V6, o.Bind.Freebind = b.V4, b.V6, b.Freebind
		if b.Mark != 0 {
			o.Mark = b.Mark
		}
	}
	if k := s.KeepAlive; k != nil {
		o.KeepAlive = netio.KeepAlive{Enable: true, Probes: int(k.Probes), Idle: k.Time, Interval: k.Interval}
	}
	return netio.Dial(ctx, o)
}

// isBindError reports whether it was the source address that could not be had.
func isBindError(err error) bool {
	var call *os.SyscallError
	return errors.As(err, &call) && call.Syscall == "bind"
}

func localAddr(c *netio.Conn) meta.Addr { return meta.AddrOf(c.LocalAddr()) }

// eyeballsDelay is how long one address of a host has before the next is tried too
// (RFC 8305, section 5; Envoy's constant).
const eyeballsDelay = 300 * time.Millisecond

// dialHost dials the addresses of a host, each next one when the one before it
// failed or takes long; the first connection wins.
func dialHost(ctx context.Context, dial dialFunc, s *Spec, h *Host) (*netio.Conn, error) {
	if len(h.extra) == 0 {
		return dial(ctx, s, h.Addr)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		c   *netio.Conn
		err error
	}
	results := make(chan result)
	begin := func(to meta.Addr) {
		go func() {
			c, err := dial(ctx, s, to)
			select {
			case results <- result{c, err}:
			case <-ctx.Done():
				if c != nil {
					_ = c.Close() // another one has won
				}
			}
		}()
	}
	begin(h.Addr)
	rest, running := h.extra, 1
	next := time.NewTimer(eyeballsDelay)
	defer next.Stop()
	var first error
	for running > 0 {
		select {
		case r := <-results:
			if r.err == nil {
				return r.c, nil
			}
			if running--; first == nil {
				first = r.err
			}
		case <-next.C:
		}
		if len(rest) > 0 {
			begin(rest[0])
			rest = rest[1:]
			running++
			next.Reset(eyeballsDelay)
		}
	}
	return nil, first
}
