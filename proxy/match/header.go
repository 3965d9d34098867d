package match

import (
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// Header matches a header field (envoy.config.route.v3.HeaderMatcher). Several fields
// of one name are one value, joined by commas.
type Header struct {
	name           string
	id             header.ID
	what           headerKind
	text           String
	low, high      int64 // range, high excluded
	invert         bool
	missingIsEmpty bool
}

type headerKind uint8

const (
	headerText headerKind = iota
	headerRange
	headerPresent
	headerAbsent
)

// HeaderOptions are what all kinds of header matchers have in common.
type HeaderOptions struct {
	Name           string // any case; "host" is ":authority"
	Invert         bool
	MissingIsEmpty bool // treat_missing_header_as_empty
}

func newHeader(o HeaderOptions) Header {
	name := HeaderName(o.Name)
	return Header{name: name, id: header.Lookup(name), invert: o.Invert, missingIsEmpty: o.MissingIsEmpty}
}

// HeaderName is the name under which a header.Map has a field that configuration
// calls name.
func HeaderName(name string) string {
	name = lower(name)
	if name == "host" {
		return ":authority"
	}
	return name
}

// HeaderText matches the value.
func HeaderText(o HeaderOptions, text String) Header {
	h := newHeader(o)
	h.text = text
	return h
}

// HeaderRange matches a decimal value from low to high, high excluded.
func HeaderRange(o HeaderOptions, low, high int64) Header {
	h := newHeader(o)
	h.what, h.low, h.high = headerRange, low, high
	return h
}

// HeaderPresent matches if the field is there, or if it is not.
func HeaderPresent(o HeaderOptions, present bool) Header {
	h := newHeader(o)
	h.what = headerPresent
	if !present {
		h.what = headerAbsent
	}
	return h
}

// Match reports whether m matches. It may use m's scratch memory.
func (h *Header) Match(m *header.Map) bool {
	v, ok := h.value(m)
	switch {
	case h.what == headerPresent:
		return ok != h.invert
	case h.what == headerAbsent:
		return ok == h.invert
	case !ok && !h.missingIsEmpty:
		return false
	case h.what == headerRange:
		n, err := strconv.ParseInt(strings.Trim(v, " \t"), 10, 64)
		return (err == nil && h.low <= n && n < h.high) != h.invert
	}
	return h.text.Match(v) != h.invert
}

// value returns the values of the field, joined.
func (h *Header) value(m *header.Map) (v string, ok bool) {
	if h.id != header.Other && !m.Has(h.id) {
		return "", false
	}
	n := 0
	for one := range m.Values(h.name) {
		if n == 0 {
			v = one
		}
		n++
	}
	if n > 1 {
		v = m.Format(func(dst []byte) []byte { return h.appendAll(dst, m) })
	}
	return v, n > 0
}

func (h *Header) appendAll(dst []byte, m *header.Map) []byte {
	first := true
	for v := range m.Values(h.name) {
		if !first {
			dst = append(dst, ',')
		}
		dst, first = append(dst, v...), false
	}
	return dst
}

// Headers matches if all of its matchers do.
type Headers []Header

// Match reports whether m matches.
func (hs Headers) Match(m *header.Map) bool {
	for i := range hs {
		if !hs[i].Match(m) {
			return false
		}
	}
	return true
}

// Any reports whether at least one matcher matches m.
func (hs Headers) Any(m *header.Map) bool {
	for i := range hs {
		if hs[i].Match(m) {
			return true
		}
	}
	return false
}
