package cluster

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h1"
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// protocol is what the connections of hp carry, Unknown if that is negotiated, which is
// known when there is one.
func (hp *hostPool) protocol(h *HTTPOptions) meta.Protocol {
	switch {
	case h.Protocol == Negotiated:
		return meta.Unknown
	case h.Protocol == HTTP2Only, hp.kind.http2:
		return meta.HTTP2
	}
	return meta.HTTP11
}

// offers is what a TLS handshake offers where the transport socket's configuration names
// nothing, as in Envoy.
func (hp *hostPool) offers(h *HTTPOptions) []string {
	switch hp.protocol(h) {
	case meta.HTTP11:
		return []string{alpnHTTP1}
	case meta.HTTP2:
		return []string{alpnHTTP2}
	}
	return []string{alpnHTTP2, alpnHTTP1}
}

// The names of the protocols in ALPN (RFC 9113 3.2, RFC 7301 6).
const (
	alpnHTTP1 = "http/1.1"
	alpnHTTP2 = "h2"
)

// countProtocol counts a connection of a protocol.
func (g *group) countProtocol(p meta.Protocol) {
	switch p {
	case meta.HTTP11:
		g.core.stats.UpstreamCxHTTP1Total.Inc()
	case meta.HTTP2:
		g.core.stats.UpstreamCxHTTP2Total.Inc()
	}
}

// begin begins HTTP on a connection, which c takes over.
func (g *group) begin(c *Conn, conn *netio.Conn) {
	s := g.spec.Load()
	p := c.hp.protocol(&s.HTTP)
	if p == meta.Unknown {
		if p = meta.HTTP11; c.TLS != nil && c.TLS.ALPN == alpnHTTP2 {
			p = meta.HTTP2
		}
		g.countProtocol(p)
	}
	if begin := g.m.options.HTTP; begin != nil {
		c.ClientConn = begin(conn, s, p)
	} else if p == meta.HTTP2 {
		conn.LimitStall(hostStall)
		c.ClientConn = h2.NewClient(conn, h2.ClientOptions{
			Options: g.http2Options(&s.HTTP), RxReset: &g.core.stats.UpstreamRqRxReset, TxReset: &g.core.stats.UpstreamRqTxReset,
		})
	} else {
		c.ClientConn = newHTTP1(conn, s)
	}
	c.multi, _ = c.ClientConn.(codec.Multiplexed)
}

// hostStall is how long a host may take nothing of what an HTTP/2 connection has for it. Its
// streams have limits of their own, but while they last they share the connection's lot.
const hostStall = 5 * time.Minute

// http2Options is what of the configuration the codec acts on.
func (g *group) http2Options(h *HTTPOptions) (o h2.Options) {
	if h.HTTP2 != nil {
		o = *h.HTTP2
	}
	o.MaxHeadersKB, o.MaxHeadersCount = int(h.MaxHeadersKB), int(h.MaxHeadersCount)
	o.Stats = g.core.http2Stats()
	return o
}

// http2Stats are bound by the first connection that needs them.
func (c *core) http2Stats() *h2.Stats {
	c.http2.once.Do(func() {
		if c.scope != nil {
			c.scope.Child("http2").Bind(&c.http2.stats)
		}
	})
	return &c.http2.stats
}

func newHTTP1(c *netio.Conn, s *Spec) codec.ClientConn {
	return h1.NewClient(c, h1.ClientOptions{Options: h1.Options{
		MaxHeadersKB: int(s.HTTP.MaxHeadersKB), MaxHeadersCount: int(s.HTTP.MaxHeadersCount),
		EnableTrailers: s.HTTP.EnableTrailers, ProperCase: s.HTTP.ProperCase,
		PreserveCase: s.HTTP.PreserveCase, ReasonPhrase: s.HTTP.ReasonPhrase, ProperOwn: s.HTTP.ProperOwn,
	}})
}
