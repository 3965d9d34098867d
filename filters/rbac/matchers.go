package rbac

import (
	"net/netip"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// subject is what policies look at: a request, or a connection.
type subject struct {
	stream  *filter.Stream // nil of a connection
	session *filter.Conn   // nil of a request
	// conn is the connection, for a request as the connection manager sees it: its Remote
	// may be from x-forwarded-for. accepted is the same without that.
	conn, accepted *meta.Conn
	metadata       *meta.Metadata
}

// nowhere is a connection of which nothing is known: streams in tests have none.
var nowhere meta.Conn

func (s *subject) ofStream(st *filter.Stream) {
	*s = subject{stream: st, conn: st.Conn, accepted: st.Accepted(), metadata: &st.Metadata}
	if s.conn == nil {
		s.conn = &nowhere
	}
	if s.accepted == nil {
		s.accepted = s.conn
	}
}

func (s *subject) ofConn(c *filter.Conn) {
	*s = subject{session: c, conn: c.Meta, accepted: c.Meta, metadata: &c.Metadata}
}

// matcher is a compiled permission or principal.
type matcher interface{ matches(s *subject) bool }

type always struct{}

func (always) matches(*subject) bool { return true }

// allOf matches if all do; of none that is always.
type allOf []matcher

func (ms allOf) matches(s *subject) bool {
	for _, m := range ms {
		if !m.matches(s) {
			return false
		}
	}
	return true
}

// anyOf matches if one does.
type anyOf []matcher

func (ms anyOf) matches(s *subject) bool {
	for _, m := range ms {
		if m.matches(s) {
			return true
		}
	}
	return false
}

type not struct{ of matcher }

func (m not) matches(s *subject) bool { return !m.of.matches(s) }

type field struct{ match.Header }

func (m *field) matches(s *subject) bool { return s.stream != nil && m.Match(&s.stream.Request) }

// path looks at the path without query and fragment; a connection has none.
type path struct{ match.String }

func (m *path) matches(s *subject) bool {
	if s.stream == nil {
		return false
	}
	p, ok := s.stream.Request.Find(":path")
	return ok && m.Match(match.WithoutQuery(p))
}

type template struct{ *match.Template }

func (m template) matches(s *subject) bool {
	return s.stream != nil && m.Match(match.WithoutQuery(s.stream.Request.Value(header.Path)))
}

// whose is which address of a connection is meant.
type whose uint8

const (
	destination  whose = iota // where it was sent to
	remote                    // the client, as the connection manager says
	accepted                  // the client, as the connection says: x-forwarded-for does not count
	directRemote              // the peer of the socket
)

func (w whose) of(s *subject) netip.Addr {
	switch w {
	case remote:
		return s.conn.Remote.Addr()
	case accepted:
		return s.accepted.Remote.Addr()
	case directRemote:
		return s.conn.Direct.Addr()
	}
	return s.conn.Local.Addr()
}

// address matches an address in one of the ranges.
type address struct {
	of whose
	in match.CIDRs
}

func (m *address) matches(s *subject) bool { return m.in.Match(m.of.of(s)) }

// port matches a destination port from low to high, high excluded.
type port struct{ low, high uint32 }

func (m port) matches(s *subject) bool {
	a := s.conn.Local
	if !a.AddrPort.IsValid() {
		return false
	}
	p := uint32(a.Port())
	return m.low <= p && p < m.high
}

type serverName struct{ match.String }

func (m *serverName) matches(s *subject) bool { return m.Match(s.conn.ServerName) }

type dynamicMetadata struct{ match.Metadata }

func (m *dynamicMetadata) matches(s *subject) bool { return m.Match(s.metadata) }

// routeMetadata matches the metadata of the route; without a route it does not match.
type routeMetadata struct{ match.Metadata }

func (m *routeMetadata) matches(s *subject) bool {
	if s.stream == nil {
		return false
	}
	r, ok := s.stream.Route.(interface {
		Configured() (route, host meta.Fields)
	})
	if !ok {
		return false
	}
	own, _ := r.Configured()
	v, there := meta.Find(own, m.Namespace, m.Path...)
	return m.Value.Match(v, there) != m.Invert
}

// authenticated matches a connection over TLS; with a name, one of whose client's URIs,
// DNS names, or the subject, matches it.
type authenticated struct{ name *match.String }

func (m *authenticated) matches(s *subject) bool {
	t := s.conn.TLS
	if t == nil || m.name == nil {
		return t != nil
	}
	d := t.PeerDescribed()
	if d == nil {
		return m.name.Match("") // as in Envoy: who shows no certificate has no subject
	}
	for _, n := range d.Names {
		if (n.Kind == meta.URIName || n.Kind == meta.DNSName) && m.name.Match(n.Text) {
			return true
		}
	}
	return m.name.Match(d.Subject)
}

// mutual matches a client with a certificate that was found valid; with names, one of
// whose names matches.
type mutual struct {
	names func(*meta.Described) bool // nil: any
}

func (m *mutual) matches(s *subject) bool {
	t := s.conn.TLS
	if t == nil || !t.Validated {
		return false
	}
	if m.names == nil {
		return true
	}
	d := t.PeerDescribed()
	return d != nil && m.names(d)
}

// state matches an object of filter state: its text, or the address that the text is.
type state struct {
	key    string
	text   *match.String
	in     match.CIDRs
	invert bool // of in
}

func (m *state) matches(s *subject) bool {
	var object any
	if s.stream != nil {
		object = s.stream.FilterState(m.key)
	} else if s.session != nil {
		object = s.session.FilterState(m.key)
	}
	text, ok := filter.StateText(object)
	switch {
	case !ok:
		return false
	case m.text != nil:
		return m.text.Match(text)
	}
	a, ok := addressOf(text)
	return ok && m.in.Match(a) != m.invert
}

// addressOf reads an address, with or without a port.
func addressOf(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a, true
	}
	ap, err := netip.ParseAddrPort(text)
	return ap.Addr(), err == nil
}
