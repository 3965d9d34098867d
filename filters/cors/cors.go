// Package cors is the HTTP filter cors: it answers the preflight requests of browsers by
// the policies of the routes, and tells browsers which pages may read a response
// (https://fetch.spec.whatwg.org/#http-cors-protocol).
package cors

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Policy]{
	Name:       "envoy.filters.http.cors",
	Type:       "envoy.extensions.filters.http.cors.v3.Cors",
	RouteType:  "envoy.extensions.filters.http.cors.v3.CorsPolicy",
	Parse:      parse,
	ParseRoute: parsePolicy,
	New: func(_ *Policy, env filter.Env) (func() filter.HTTP, error) {
		c, release := stats.SharedUnder[counters](env.Parent, stats.Label{Value: "cors"})
		env.OnRetire(release)
		return func() filter.HTTP { return newFilter(env.Slot, c) }, nil
	},
}

// Policy is what one level of a route table says. What it leaves out is for the next one.
type Policy struct {
	Origins match.Strings // allow_origin_string_match
	// Methods, Headers, Expose and MaxAge are values of header fields.
	Methods, Headers, Expose, MaxAge string
	Credentials, PrivateNetwork      *bool
	ForwardPreflights                *bool // forward_not_matching_preflights
	Enabled, Shadow                  runtime.FractionValue
}

// counters is http.<stat_prefix>.cors.*.
type counters struct {
	Valid   stats.Counter `stat:"origin_valid" help:"requests from an origin that is allowed"`
	Invalid stats.Counter `stat:"origin_invalid" help:"requests from an origin that is not"`
}

// Filter serves one stream at a time.
type Filter struct {
	*counters
	slot     filter.Slot
	policies []*Policy      // of the route, the least specific first
	collect  func(any) bool // appends to policies; made once, as a function made for each stream costs memory
	origin   string         // that is allowed, "" for none
}

func newFilter(slot filter.Slot, c *counters) *Filter {
	f := &Filter{counters: c, slot: slot}
	f.collect = func(o any) bool {
		if p, ok := o.(*Policy); ok {
			f.policies = append(f.policies, p)
		}
		return true
	}
	return f
}

var (
	_ filter.RequestHeaders  = (*Filter)(nil)
	_ filter.ResponseHeaders = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	clear(f.policies) // they belong to a route table that may be old
	f.policies, f.origin = f.policies[:0], ""
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error { return f.decide(s, f.counters) }

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error { return f.decide(s, &counters{}) }

func (f *Filter) decide(s *filter.Stream, n *counters) error {
	if s.ClusterName() == "" { // other routes have no policies
		return nil
	}
	s.Route.Overrides(f.slot, f.collect)
	if len(f.policies) == 0 {
		return nil
	}
	first := f.policies[len(f.policies)-1]
	enabled := first.Enabled.Match(s.Random())
	if !enabled && !first.Shadow.Match(s.Random()) {
		return nil
	}
	origin := s.Request.Get("origin")
	if origin == "" {
		return nil
	}
	allowed := f.allows(origin)
	if allowed {
		n.Valid.Inc()
		s.Decide("allows the origin", origin)
	} else {
		n.Invalid.Inc()
		s.Decide("does not allow the origin", origin)
	}
	if !enabled {
		return nil
	}
	if allowed {
		f.origin = origin
	}
	if s.Request.Value(header.Method) != "OPTIONS" || s.Request.Get("access-control-request-method") == "" {
		return nil
	}
	if !allowed && f.flag(true, func(p *Policy) *bool { return p.ForwardPreflights }) {
		return nil
	}
	return &filter.Reply{Code: 200, Details: "cors_response", Modify: f.preflight}
}

func (f *Filter) allows(origin string) bool {
	for i := range f.policies {
		p := f.policies[len(f.policies)-1-i]
		if len(p.Origins) > 0 {
			return p.Origins.Match("*") || p.Origins.Match(origin)
		}
	}
	return false
}

// preflight completes the answer to a preflight request. What any response has is for
// OnResponseHeaders.
func (f *Filter) preflight(s *filter.Stream) {
	m := &s.Response
	if f.credentials() {
		m.Set("access-control-allow-credentials", "true")
	}
	methods := f.text(func(p *Policy) string { return p.Methods })
	if methods == "*" {
		methods = s.Request.Get("access-control-request-method")
	}
	set(m, "access-control-allow-methods", methods)
	headers := f.text(func(p *Policy) string { return p.Headers })
	if headers == "*" {
		m.Set("access-control-allow-headers", s.Request.Get("access-control-request-headers"))
	} else {
		set(m, "access-control-allow-headers", headers)
	}
	set(m, "access-control-max-age", f.text(func(p *Policy) string { return p.MaxAge }))
	if f.flag(false, func(p *Policy) *bool { return p.PrivateNetwork }) && s.Request.Get("access-control-request-private-network") == "true" {
		m.Set("access-control-allow-private-network", "true")
	}
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	if f.origin == "" {
		return nil
	}
	s.Response.Set("access-control-allow-origin", f.origin)
	if f.credentials() {
		s.Response.Set("access-control-allow-credentials", "true")
	}
	set(&s.Response, "access-control-expose-headers", f.text(func(p *Policy) string { return p.Expose }))
	return nil
}

func (f *Filter) credentials() bool {
	return f.flag(false, func(p *Policy) *bool { return p.Credentials })
}

func set(m *header.Map, name, value string) {
	if value != "" {
		m.Set(name, value)
	}
}

// text is what the most specific level says that says anything.
func (f *Filter) text(of func(*Policy) string) string {
	for i := range f.policies {
		if v := of(f.policies[len(f.policies)-1-i]); v != "" {
			return v
		}
	}
	return ""
}

// flag is text for a flag.
func (f *Filter) flag(otherwise bool, of func(*Policy) *bool) bool {
	for i := range f.policies {
		if v := of(f.policies[len(f.policies)-1-i]); v != nil {
			return *v
		}
	}
	return otherwise
}
