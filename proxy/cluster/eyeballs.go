package cluster

import (
	"context"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// sort returns the addresses of a host in the order in which they are tried: the
// families take turns (RFC 8305, section 4), the first one begins with Count addresses.
func (e Eyeballs) sort(h *Host) []meta.Addr {
	all := append([]meta.Addr{h.Addr}, h.extra...)
	v6 := isV6(h.Addr)
	switch e.First {
	case V4Only:
		v6 = false
	case V6Only:
		v6 = true
	}
	var first, other []meta.Addr
	for _, a := range all {
		if isV6(a) == v6 {
			first = append(first, a)
		} else {
			other = append(other, a)
		}
	}
	n := min(max(e.Count, 1), len(first))
	sorted := append(all[:0], first[:n]...)
	for first = first[n:]; len(first)+len(other) > 0; {
		if len(other) > 0 {
			sorted, other = append(sorted, other[0]), other[1:]
		}
		if len(first) > 0 {
			sorted, first = append(sorted, first[0]), first[1:]
		}
	}
	return sorted
}

func isV6(a meta.Addr) bool { return a.Addr().Is6() && !a.Addr().Is4In6() }

// eyeballsDelay is how long one address of a host has before the next is tried too
// (RFC 8305, section 5; Envoy's constant).
const eyeballsDelay = 300 * time.Millisecond

// dialHost dials the addresses of a host, each next one when the one before it
// failed or takes long; the first connection wins.
func dialHost(ctx context.Context, dial dialFunc, s *Spec, h *Host) (*netio.Conn, error) {
	if len(h.extra) == 0 {
		return dial(ctx, s, h.Addr)
	}
	addrs := s.Eyeballs.sort(h)
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
	begin(addrs[0])
	rest, running := addrs[1:], 1
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
