package redisproxy

import (
	"bytes"
	"net/netip"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec/resp"
)

// redirected reads an error reply; if it says MOVED or ASK, it sends the command again to
// where that points, if this is a host of the cluster, and relays its reply.
func (s *session) redirected(p *part, o *op) (good bool, err error) {
	var text buffer.Buf
	defer text.Release()
	p.l.came()
	if err := p.l.body(&text, nil); err != nil {
		resp.AppendLine(&s.out, resp.Error, failure)
		return false, nil
	}
	s.tally(o, p.l, resp.Error)
	line := p.l.scan.Line()
	ask := bytes.HasPrefix(line, []byte("-ASK "))
	h := (*cluster.Host)(nil)
	if ask || bytes.HasPrefix(line, []byte("-MOVED ")) {
		h = pointed(p.l.cluster, line)
	}
	if h == nil || p.sent == nil {
		s.out.MoveAll(&text)
		return true, nil // the host has answered
	}
	s.s.Redirected.Inc()
	l, err := s.pool.borrow(s.conn.Engine.Context(), p.l.cluster, h, &s.attempt, s.now)
	if err != nil {
		s.out.MoveAll(&text)
		return false, nil
	}
	s.links = append(s.links, l)
	if ask {
		resp.AppendCommand(&l.out, "ASKING")
		l.sent(false)
	}
	l.out.MoveAll(p.sent)
	l.sent(true)
	l.expect(s.now.Add(s.c.OpTimeout))
	l.flush(false)
	again := part{l: l}
	return s.relay(&again, o)
}

// pointed returns the host that "-MOVED 3999 127.0.0.1:6381" names, nil if it is none of the
// cluster.
func pointed(c *cluster.Cluster, line []byte) *cluster.Host {
	i := bytes.LastIndexByte(line, ' ')
	to, err := netip.ParseAddrPort(string(line[i+1:]))
	if err != nil {
		return nil
	}
	for _, h := range c.Hosts() {
		if h.Addr.AddrPort == to {
			return h
		}
	}
	return nil
}
