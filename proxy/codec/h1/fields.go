package h1

import (
	"bytes"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// fields is what the fields of a head say about the message and the connection.
type fields struct {
	underscores Underscores // set by the caller, with
	stats       *Stats      // that may be nil

	length   int64 // Content-Length; -1: none
	coding   coding
	hosts    int
	upgrades int

	close, keepAlive, upgrade bool // tokens of Connection and Proxy-Connection
	nominated                 bool // Connection names other fields; it is in the map then
	tokens                    int
}

// coding is what Transfer-Encoding says.
type coding uint8

const (
	codingNone coding = iota
	codingChunked
	codingOther // or more than one
)

// maxTokens is from how many tokens in Connection on a message is refused: as Envoy.
const maxTokens = 10

// parseFields adds the fields of a head to m, p being the lines after the first up to
// and including the empty one. In requests Host sets ":authority", if set says
// so. What belongs to the connection stays out, see fields.settle.
func (f *fields) parseFields(p []byte, m *header.Map, limit int, request bool) error {
	f.length = -1
	spelling := m.Spelling()
	for n := 0; ; n++ {
		var line []byte
		if line, p = cutLine(p); len(line) == 0 {
			return nil
		}
		if n == limit {
			return refuse(431, detailsTooManyHeaders, "too many header fields")
		}
		if spelling != nil {
			if name, _, ok := bytes.Cut(line, colon); ok {
				spelling.Note(name)
			}
		}
		name, value, err := ParseField(line)
		if err != nil {
			return err
		}
		if f.underscores != AllowUnderscores && bytes.IndexByte(name, '_') >= 0 {
			f.stats.underscored(f.underscores == RejectUnderscores)
			if f.underscores == RejectUnderscores {
				return refuse(400, detailsUnderscore, "underscore in a field name")
			}
			continue
		}
		if err := f.add(m, name, value, request); err != nil {
			return err
		}
	}
}

var colon = []byte{':'}

// add takes one field.
func (f *fields) add(m *header.Map, name, value []byte, request bool) error {
	id := header.Lookup(text(name))
	switch id {
	case header.ContentLength:
		n, ok := ParseContentLength(value)
		if !ok || f.length >= 0 {
			return malformed("content-length is no number or there is more than one")
		}
		f.length = n
	case header.TransferEncoding:
		if f.coding == codingNone && equalFold(value, "chunked") {
			f.coding = codingChunked
		} else {
			f.coding = codingOther
		}
		return nil
	case header.Connection:
		return f.connection(m, value)
	case header.ProxyConnection:
		f.close = f.close || equalFold(value, "close")
		return nil
	case header.KeepAlive:
		return nil
	case header.Upgrade:
		f.upgrades++
	case header.Host:
		if !request {
			break
		}
		if f.hosts++; f.hosts > 1 {
			return refuse(400, detailsAuthority, "more than one host field")
		}
		if !ValidAuthority(value) {
			return refuse(400, detailsAuthority, "character in host that no host has")
		}
		m.SetID(header.Authority, text(value))
		return nil
	}
	m.AddKnown(id, text(name), text(value))
	return nil
}

// connection takes a Connection field. Its value is made lower case.
func (f *fields) connection(m *header.Map, value []byte) error {
	lowerInPlace(value)
	other := false
	for list := value; ; f.tokens++ {
		token, rest, ok := nextToken(list)
		if !ok {
			break
		}
		list = rest
		switch string(token) {
		case "close":
			f.close = true
		case "keep-alive":
			f.keepAlive = true
		case "upgrade":
			f.upgrade = true
		default:
			other = true
		}
	}
	if f.tokens >= maxTokens {
		return refuse(400, detailsConnection, "too many tokens in connection")
	}
	if other || f.upgrade {
		f.nominated = f.nominated || other
		m.AddID(header.Connection, text(value))
	}
	return nil
}

// settle takes what belongs to the connection out of m. If the message asks for an
// upgrade that is allowed, "connection: upgrade" and "upgrade" stay.
func (f *fields) settle(m *header.Map, allowUpgrade bool) error {
	if f.nominated {
		if err := f.dropNominated(m); err != nil {
			return err
		}
	}
	if m.Has(header.Te) {
		settleTE(m)
	}
	if !f.upgrade && f.upgrades == 0 && !f.nominated {
		return nil
	}
	if f.upgrade && f.upgrades == 1 && allowUpgrade && m.Has(header.Upgrade) && !foldEqual(m.Value(header.Upgrade), "h2c") {
		m.SetID(header.Connection, "upgrade")
		return nil
	}
	f.upgrade = false
	m.DelID(header.Connection)
	m.DelID(header.Upgrade)
	m.DelID(header.Http2Settings)
	return nil
}

func foldEqual(s, w string) bool { return len(s) == len(w) && equalFold([]byte(s), w) }

// dropNominated removes the fields that Connection names.
func (f *fields) dropNominated(m *header.Map) error {
	for v := range m.Values("connection") {
		for list := v; list != ""; {
			var token string
			token, list = codec.CutToken(list)
			switch token {
			case "", "close", "keep-alive", "upgrade", "te", "connection":
			case "host", "content-length", "transfer-encoding", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto":
				return refuse(400, detailsConnection, "connection names a field that is not the connection's")
			default:
				if token[0] == ':' {
					return refuse(400, detailsConnection, "connection names a pseudo-header")
				}
				m.Del(token)
			}
		}
	}
	return nil
}

// settleTE leaves of TE what may go on: "trailers", or nothing.
func settleTE(m *header.Map) {
	trailers := false
	for v := range m.Values("te") {
		for v != "" {
			var token string
			token, v = codec.CutToken(v)
			trailers = trailers || foldEqual(token, "trailers")
		}
	}
	if trailers {
		m.SetID(header.Te, "trailers")
	} else {
		m.DelID(header.Te)
	}
}

// parseTrailers adds trailer fields to m and leaves out those that mean something
// only in a head (RFC 9110 6.5.1).
func parseTrailers(p []byte, m *header.Map, limit int) error {
	for n := 0; ; n++ {
		var line []byte
		if line, p = cutLine(p); len(line) == 0 {
			return nil
		}
		if n == limit && m != nil {
			return refuse(431, detailsTooManyHeaders, "too many trailer fields")
		}
		name, value, err := ParseField(line)
		if err != nil {
			return err
		}
		id := header.Lookup(text(name))
		switch id {
		case header.ContentLength, header.TransferEncoding, header.Host, header.Connection, header.KeepAlive,
			header.ProxyConnection, header.Upgrade, header.Te, header.Trailer:
			continue
		}
		if m != nil {
			m.AddKnown(id, text(name), text(value))
		}
	}
}
