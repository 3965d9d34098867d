package match

import (
	"math"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// Header matches a header field (envoy.config.route.v3.HeaderMatcher).
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

// Match reports whether m matches. Of several fields of that name one must match;
// inverted, none may.
func (h *Header) Match(m *header.Map) bool {
	there := false
	if h.id == header.Other || m.Has(h.id) {
		for v := range m.Values(h.name) {
			if there = true; h.one(v) {
				return !h.invert
			}
		}
	}
	switch {
	case there:
		return h.invert
	case h.missingIsEmpty:
		return h.one("") != h.invert
	case h.what == headerPresent:
		return h.invert
	case h.what == headerAbsent:
		return !h.invert
	}
	return false
}

// one tests the value of one field.
func (h *Header) one(v string) bool {
	switch h.what {
	case headerPresent:
		return true
	case headerAbsent:
		return false
	case headerRange:
		n, ok := parseInt(strings.Trim(v, " \t"))
		return ok && h.low <= n && n < h.high
	}
	return h.text.Match(v)
}

// parseInt is strconv.ParseInt without an error, which would cost memory.
func parseInt(s string) (n int64, ok bool) {
	negative := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative, s = s[0] == '-', s[1:]
	}
	for i := range len(s) {
		d := int64(s[i]) - '0'
		if d < 0 || d > 9 || n < (math.MinInt64+d)/10 {
			return 0, false
		}
		n = n*10 - d // below zero there is room for one more
	}
	switch {
	case s == "", !negative && n == math.MinInt64:
		return 0, false
	case negative:
		return n, true
	}
	return -n, true
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
