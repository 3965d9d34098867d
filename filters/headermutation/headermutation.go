// Package headermutation is the HTTP filter header_mutation: it adds, changes and
// removes fields of request and response heads and trailers, in the order in which
// they are configured.
//
// How one change is made is in package mutate. Mutations of routes and virtual hosts
// that need no filter are in package route.
package headermutation

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.header_mutation",
	Type:       "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
	RouteType:  "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
	Upstream:   true,
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config is what the filter, or one level of a route table, changes.
type Config struct {
	Request, Response, RequestTrailers, ResponseTrailers *mutate.List
	// SpecificWins lets the most specific level of the route table have the last word
	// (most_specific_header_mutations_wins); otherwise the least specific one has it.
	SpecificWins bool
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	return func() filter.HTTP { return newFilter(c, env.Slot) }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	config *Config
	slot   filter.Slot

	levels  []*Config      // of the route, the least specific first: scratch of apply
	collect func(any) bool // appends to levels; made once, since a function made for each stream costs memory
}

func newFilter(c *Config, slot filter.Slot) *Filter {
	f := &Filter{config: c, slot: slot}
	f.collect = func(o any) bool {
		if level, ok := o.(*Config); ok {
			f.levels = append(f.levels, level)
		}
		return true
	}
	return f
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.RequestTrailers  = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	clear(f.levels) // they belong to a route table that may be old
	f.levels = f.levels[:0]
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	f.apply(s, &s.Request, func(c *Config) *mutate.List { return c.Request })
	return nil
}

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error { return f.OnRequestHeaders(s, true) }

// OnRequestTrailers implements filter.RequestTrailers.
func (f *Filter) OnRequestTrailers(s *filter.Stream) error {
	f.apply(s, &s.RequestTrailers, func(c *Config) *mutate.List { return c.RequestTrailers })
	return nil
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	f.apply(s, &s.Response, func(c *Config) *mutate.List { return c.Response })
	return nil
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	f.apply(s, &s.ResponseTrailers, func(c *Config) *mutate.List { return c.ResponseTrailers })
	return nil
}

// apply makes the changes of the filter, then those of every level of the route.
func (f *Filter) apply(s *filter.Stream, m *header.Map, of func(*Config) *mutate.List) {
	of(f.config).Apply(m, s)
	if s.Route == nil {
		return
	}
	f.levels = f.levels[:0]
	s.Route.Overrides(f.slot, f.collect)
	for i := range f.levels {
		if !f.config.SpecificWins {
			i = len(f.levels) - 1 - i
		}
		of(f.levels[i]).Apply(m, s)
	}
}
