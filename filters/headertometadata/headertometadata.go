// Package headertometadata is the HTTP filter header_to_metadata: it puts values of headers
// and cookies into dynamic metadata.
package headertometadata

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       wellKnown,
	Type:       "envoy.extensions.filters.http.header_to_metadata.v3.Config",
	RouteType:  "envoy.extensions.filters.http.header_to_metadata.v3.Config",
	Parse:      parse,
	ParseRoute: parseRoute,
	New: func(c *Config, env filter.Env) (func() filter.HTTP, error) {
		sh := &shared{Config: c, slot: env.Slot, counts: newCounts(env)}
		sh.own = sh.counts.of(c.StatPrefix)
		return func() filter.HTTP { return &Filter{shared: sh} }, nil
	},
}

// wellKnown is also the namespace of rules without one.
const wellKnown = "envoy.filters.http.header_to_metadata"

// maxValue is the length from which on a value is too long.
const maxValue = 8 << 10

// Config is the parsed configuration, of the filter or of a route.
type Config struct {
	Request, Response []Rule
	StatPrefix        string // "": nothing is counted
}

// Rule is about one header or one cookie.
type Rule struct {
	Header, Cookie   string // one of both
	Present, Missing *Pair  // what is stored; nil: nothing
	Remove           bool   // of a header
}

// Pair is where a value goes, and what it is.
type Pair struct {
	Namespace, Key string
	Value          string // in place of that of the header, unless ""
	Rewrite        *match.Substitution
	Decode         bool // from base64
	Convert        func(string) (any, error)
	fixed          any // what Value is stored as; nil: it cannot be
}

// shared is what all streams of one chain have in common.
type shared struct {
	*Config
	slot   filter.Slot
	counts *counts
	own    *counters // of Config
}

// Filter has no state of a stream.
type Filter struct{ *shared }

var (
	_ filter.RequestHeaders  = (*Filter)(nil)
	_ filter.ResponseHeaders = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (*Filter) Reset() {}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	c, n := f.config(s)
	apply(s, &s.Request, c.Request, n, n.request())
	return nil
}

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error {
	c := f.Config
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		c = own
	}
	n := &counters{}
	apply(s, &s.Request, c.Request, n, n.request())
	return nil
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	c, n := f.config(s)
	apply(s, &s.Response, c.Response, n, n.response())
	return nil
}

func (f *Filter) config(s *filter.Stream) (*Config, *counters) {
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		return own, f.counts.of(own.StatPrefix)
	}
	return f.Config, f.own
}

// apply applies rules to a head.
func apply(s *filter.Stream, m *header.Map, rules []Rule, n *counters, way direction) {
	for i := range rules {
		r := &rules[i]
		way.rules.Inc()
		value, there := r.find(m)
		switch {
		case there && r.Present != nil:
			r.Present.store(s, value, n, way)
		case !there && r.Missing != nil:
			way.missing.Inc()
			r.Missing.store(s, "", n, way)
		}
	}
}

// find is the value that a rule is about. It takes a header away if it is to.
func (r *Rule) find(m *header.Map) (value string, there bool) {
	if r.Cookie != "" {
		value = match.CookieValue(m, r.Cookie)
		return value, value != ""
	}
	for v := range m.Values(r.Header) {
		if there {
			value = m.Concat(value, ",", v)
		} else {
			value, there = v, true
		}
	}
	if there && r.Remove {
		m.Del(r.Header)
	}
	return value, there
}

// store puts what becomes of a value into the metadata.
func (p *Pair) store(s *filter.Stream, value string, n *counters, way direction) {
	if p.Value != "" && p.Rewrite == nil {
		if p.fixed != nil {
			s.Metadata.Set(p.Namespace, p.Key, p.fixed)
			way.added.Inc()
			return
		}
		value = p.Value
	}
	v, err := p.convert(value)
	switch {
	case err == nil && v != nil:
		s.Metadata.Set(p.Namespace, p.Key, v)
		way.added.Inc()
	case errors.Is(err, errTooLong):
		n.TooLong.Inc()
	case errors.Is(err, errDecode):
		n.Undecodable.Inc()
	case errors.Is(err, errRewrite):
		n.Unrewritten.Inc()
	}
}

// Why values are not stored.
var (
	errTooLong = errors.New("the value is too long")
	errDecode  = errors.New("the value is not base64")
	errRewrite = errors.New("nothing is left of the value")
	errNumber  = errors.New("the value is not a number")
)

// convert is what a value is stored as; nil where there is nothing to store.
func (p *Pair) convert(value string) (any, error) {
	if p.Rewrite != nil {
		before := value
		if value = string(p.Rewrite.Append(nil, value)); value == "" && before != "" {
			return nil, errRewrite
		}
	}
	switch {
	case value == "":
		return nil, nil
	case len(value) >= maxValue:
		return nil, errTooLong
	}
	if p.Decode {
		b, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(value, "="))
		if err != nil || len(b) == 0 {
			return nil, errDecode
		}
		value = string(b)
	}
	return p.Convert(value)
}

// text keeps a value as it is.
func text(v string) (any, error) { return strings.Clone(v), nil }

// number reads a value.
func number(v string) (any, error) {
	v = strings.TrimSpace(v)
	f, err := strconv.ParseFloat(v, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || strings.ContainsAny(v, "xX_") {
		return nil, errNumber
	}
	return f, nil
}
