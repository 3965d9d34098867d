// Package customresponse is the HTTP filter custom_response: it puts answers of the operator in
// the place of what upstream, or the proxy, would answer. A matcher tree over the response
// head chooses a policy: an answer made here, or one fetched by an internal redirect.
package customresponse

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

const name = "envoy.filters.http.custom_response"

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:      name,
	Type:      "envoy.extensions.filters.http.custom_response.v3.CustomResponse",
	RouteType: "envoy.extensions.filters.http.custom_response.v3.CustomResponse",
	Parse:     parse,
	New:       newFactory,
}

// Config is what the filter, or one level of a route table, does to which responses.
type Config struct {
	Policies *tree.Tree[*filter.Stream, policy] // nil has none
}

// policy is what becomes of a response that it was chosen for.
type policy interface {
	// apply answers in its place (*filter.Reply), restarts the stream (filter.ErrRestart), or
	// leaves the response as it is (nil).
	apply(f *Filter, s *filter.Stream) error
}

// counters are those of the redirect policy.
type counters struct {
	InvalidURI stats.Counter `stat:"custom_response_invalid_uri" help:"responses left as they were, since the redirect_policy makes no absolute http or https URI"`
	NoRoute    stats.Counter `stat:"custom_response_redirect_no_route" help:"responses left as they were, since no route leads to the URI of their redirect_policy"`
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	k, release := stats.SharedUnder[counters](env.Parent, stats.Label{})
	env.OnRetire(release)
	return func() filter.HTTP { return newFilter(c, k, env.Slot) }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*counters
	config *Config
	slot   filter.Slot
	asked  bool // it has seen the request head

	stream *filter.Stream // while policies are looked for
	found  policy
	level  func(any) bool // looks at one level of the route; made once, since a function made for each stream costs memory
}

func newFilter(c *Config, k *counters, slot filter.Slot) *Filter {
	f := &Filter{counters: k, config: c, slot: slot}
	f.level = func(o any) bool {
		if c, ok := o.(*Config); ok {
			if p := c.find(f.stream); p != nil {
				f.found = p
			}
		}
		return true
	}
	return f
}

var (
	_ filter.RequestHeaders  = (*Filter)(nil)
	_ filter.ResponseHeaders = (*Filter)(nil)
	_ filter.Forecaster      = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { f.asked = false }

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(*filter.Stream, bool) error {
	f.asked = true
	return nil
}

// Forecast implements filter.Forecaster: what the filter does depends on the response.
func (f *Filter) Forecast(*filter.Stream) error { return nil }

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	if done, ok := s.State.Get(name).(*redirected); ok {
		done.finish(s)
		return nil
	}
	if p := f.choose(s); p != nil {
		return p.apply(f, s)
	}
	return nil
}

// choose returns the policy of the most specific level that has one for the response, nil if
// none has.
func (f *Filter) choose(s *filter.Stream) policy {
	if s.Route != nil {
		f.stream, f.found = s, nil
		s.Route.Overrides(f.slot, f.level)
		p := f.found
		if f.stream, f.found = nil, nil; p != nil {
			return p
		}
	}
	return f.config.find(s)
}

func (c *Config) find(s *filter.Stream) policy {
	if c.Policies == nil {
		return nil
	}
	p, _ := c.Policies.Find(s)
	return p
}
