package h2

import (
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// head is a header section that is being decoded, and what its fields say about the
// message. The strings come from the HPACK decoder, which never changes them: they
// live as long as somebody holds them.
type head struct {
	fields  []header.Field
	kind    headKind
	bytes   int
	over    string               // the details, if a limit was exceeded: nothing more is kept
	bad     *codec.ProtocolError // the first rule that was broken
	refused bool                 // by the underscore rule
	pseudo  pseudo
	regular bool // a field that is no pseudo-header was seen
	cookies int  // position of the cookie field plus one
	crumbs  []byte
	length  int64 // content-length; -1: none
}

// headKind is which fields belong into a header section.
type headKind uint8

const (
	requestHead headKind = iota
	responseHead
	trailerSection
	ignoredSection // decoded for the sake of the table only
)

// pseudo says which pseudo-headers there were.
type pseudo uint8

const (
	hasMethod pseudo = 1 << iota
	hasPath
	hasScheme
	hasAuthority
	hasStatus
	hasProtocol
	hasHost
)

func (h *head) begin(k headKind) {
	h.fields = h.fields[:0]
	h.kind = k
	h.bytes, h.over, h.bad, h.refused, h.pseudo, h.regular, h.cookies, h.length = 0, "", nil, false, 0, false, 0, -1
	h.crumbs = nil
}

func (h *head) refuse(details, reason string) {
	if h.bad == nil {
		h.bad = malformed(details, reason)
	}
}

// onField takes a field from the decoder.
func (c *conn) onField(f hpack.HeaderField) {
	h := &c.head
	if h.over != "" || h.kind == ignoredSection {
		return
	}
	h.bytes += len(f.Name) + len(f.Value)
	switch {
	case h.bytes > c.lim.headBytes:
		h.over = detailsTooLarge
	case len(h.fields) >= c.lim.headCount:
		h.over = detailsTooMany
	}
	if h.over != "" {
		c.dec.SetEmitEnabled(false)
		return
	}
	if h.bad != nil {
		return
	}
	if len(f.Name) > 0 && f.Name[0] == ':' {
		h.addPseudo(f.Name, f.Value)
		return
	}
	h.regular = true
	if !validName(f.Name) || !validValue(f.Value) {
		h.refuse(detailsHeader, "field with characters that are not allowed")
		return
	}
	if h.kind == requestHead && c.underscores != AllowUnderscores && strings.IndexByte(f.Name, '_') >= 0 {
		if c.underscores == RejectUnderscores {
			c.stats.RejectedUnderscores.Inc()
			h.refused = true
			h.refuse(detailsUnderscore, "underscore in a field name")
			return
		}
		c.stats.DroppedUnderscores.Inc()
		return
	}
	h.add(header.Lookup(f.Name), f.Name, f.Value)
}

// add takes a regular field (RFC 9113 8.2).
func (h *head) add(id header.ID, name, value string) {
	if connectionField(id) {
		h.refuse(detailsHeader, "field of the connection: "+name)
		return
	}
	switch id {
	case header.Te:
		if value != "trailers" {
			h.refuse(detailsHeader, "te other than trailers")
			return
		}
	case header.ContentLength:
		if h.kind == trailerSection {
			return
		}
		n, ok := parseLength(value)
		if !ok || h.length >= 0 && h.length != n {
			h.refuse(detailsHeader, "content-length is no number or there are two")
			return
		}
		if h.length >= 0 {
			return
		}
		h.length = n
	case header.Host:
		if h.kind == requestHead {
			if h.pseudo&hasHost != 0 {
				h.refuse(detailsHeader, "more than one host")
				return
			}
			h.pseudo |= hasHost
		}
	case header.Cookie:
		if h.kind == requestHead && h.cookies > 0 {
			h.crumb(value)
			return
		}
		h.cookies = len(h.fields) + 1
	}
	h.fields = append(h.fields, header.Field{Name: name, Value: value, ID: id})
}

// crumb adds to the one cookie field (RFC 9113 8.2.3).
func (h *head) crumb(value string) {
	f := &h.fields[h.cookies-1]
	if len(h.crumbs) == 0 {
		h.crumbs = append(h.crumbs, f.Value...)
	}
	h.crumbs = append(h.crumbs, "; "...)
	h.crumbs = append(h.crumbs, value...)
}

func (h *head) addPseudo(name, value string) {
	id := header.Lookup(name)
	var bit pseudo
	switch {
	case h.kind == requestHead:
		switch id {
		case header.Method:
			bit = hasMethod
		case header.Path:
			bit = hasPath
		case header.Scheme:
			bit = hasScheme
		case header.Authority:
			bit = hasAuthority
		case header.Protocol:
			bit = hasProtocol
		}
	case h.kind == responseHead && id == header.Status:
		bit = hasStatus
	}
	switch {
	case bit == 0:
		h.refuse(detailsHeader, "pseudo-header that does not belong here")
	case h.regular:
		h.refuse(detailsHeader, "pseudo-header after a regular field")
	case h.pseudo&bit != 0:
		h.refuse(detailsHeader, "pseudo-header twice")
	case !validValue(value):
		h.refuse(detailsHeader, "pseudo-header with characters that are not allowed")
	default:
		h.pseudo |= bit
		h.fields = append(h.fields, header.Field{Name: name, Value: value, ID: id})
	}
}

// end checks what only the whole section tells.
func (h *head) end(connect bool) {
	if h.crumbs != nil {
		h.fields[h.cookies-1].Value = string(h.crumbs)
	}
	if h.bad != nil || h.over != "" {
		return
	}
	switch h.kind {
	case requestHead:
		h.endRequest(connect)
	case responseHead:
		if h.pseudo&hasStatus == 0 || statusOf(h.value(header.Status)) == 0 {
			h.refuse(detailsHeader, ":status is missing or no number")
		}
	}
}

// endRequest checks the pseudo-headers of a request (RFC 9113 8.3.1, 8.5, RFC 8441 4).
func (h *head) endRequest(connect bool) {
	p := h.pseudo
	method := h.value(header.Method)
	switch {
	case p&hasMethod == 0 || method == "":
		h.refuse(detailsMessaging, "no :method")
	case !codec.IsToken(method):
		h.refuse(detailsHeader, ":method is no token")
	case p&hasProtocol != 0 && (!connect || method != "CONNECT"):
		h.refuse(detailsHeader, ":protocol, which is not allowed here")
	case method == "CONNECT" && p&hasProtocol == 0:
		if p&(hasPath|hasScheme) != 0 || p&(hasAuthority|hasHost) == 0 {
			h.refuse(detailsMessaging, "CONNECT with :path or :scheme, or without :authority")
		}
	case p&hasPath == 0 || p&hasScheme == 0:
		h.refuse(detailsMessaging, "no :path or no :scheme")
	case p&(hasAuthority|hasHost) == 0:
		h.refuse(detailsMessaging, "no :authority and no host")
	default:
		path := h.value(header.Path)
		if path == "" || path[0] != '/' && !(path == "*" && method == "OPTIONS") {
			h.refuse(detailsMessaging, ":path is not that of a request")
		}
	}
}

func (h *head) value(id header.ID) string {
	for i := range h.fields {
		if h.fields[i].ID == id {
			return h.fields[i].Value
		}
	}
	return ""
}

// statusOf parses a ":status" of three digits, at least 100; 0 is none.
func statusOf(s string) int {
	if len(s) != 3 {
		return 0
	}
	n, ok := parseLength(s)
	if !ok || n < 100 {
		return 0
	}
	return int(n)
}

// parseLength parses digits.
func parseLength(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 || n > (1<<63-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}
