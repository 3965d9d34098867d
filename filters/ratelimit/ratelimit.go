// Package ratelimit is the filter ratelimit, for HTTP requests and for connections: a
// service (envoy.service.ratelimit.v3.RateLimitService) counts what belongs together, and
// says when there has been too much of it.
//
// What is asked is in question.go, how it travels in service.go and config_service.go, what
// an answer does to a request in answer.go, the filter of connections in network.go.
package ratelimit

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Spec describes the filter of HTTP requests.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.ratelimit",
	Type:       "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
	RouteType:  "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config is the parsed configuration. On a route only Route is set.
type Config struct {
	Domain    string
	Stage     uint32
	Requests  requestType
	Service   Service
	Own       ratelimit.Limits // rate_limits, in place of those of the route
	Namespace string           // of dynamic metadata

	Enabled, Enforced runtime.FractionSetting
	Deny              runtime.FractionSetting // how much is refused where there is no verdict

	Status, StatusOnError int
	Exhausted             bool // rate_limited_as_resource_exhausted
	Headers               bool // enable_x_ratelimit_headers
	NotLimitedHeader      bool // disable_x_envoy_ratelimited_header
	RetryAfter            bool // enable_retry_after_header
	Response              *mutate.Headers
	StatPrefix            string

	Route *Route
}

// requestType is which requests the filter is for.
type requestType uint8

const (
	both requestType = iota
	internal
	external
)

// Route is what a level of a route table says.
type Route struct {
	VirtualHost vhLimits
	Own         ratelimit.Limits // rate_limits, in place of all others
	Domain      string
}

// vhLimits is vh_rate_limits: what the limits of a virtual host are for.
type vhLimits uint8

const (
	override vhLimits = iota // routes without limits of their own
	include
	ignore
)

// chain is what all streams of one chain have in common.
type chain struct {
	*Config
	env               filter.Env
	asker             *asker
	enabled, enforced runtime.FractionValue
	deny              runtime.FractionValue
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	ch := &chain{Config: c, env: env, asker: newAsker(&c.Service, env.Clusters)}
	ch.enabled, ch.enforced, ch.deny = c.Enabled.On(env.Runtime), c.Enforced.On(env.Runtime), c.Deny.On(env.Runtime)
	return func() filter.HTTP { return &Filter{chain: ch} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*chain
	on       bool   // the filter is for this stream
	domain   string // that is asked about
	response []field
	question question
}

var (
	_ filter.RequestHeaders  = (*Filter)(nil)
	_ filter.ResponseHeaders = (*Filter)(nil)
	_ filter.Done            = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	f.on, f.domain, f.response = false, "", nil
	f.question.reset()
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	if !f.enabled.Match(s.Random()) || !f.concerns(s) {
		return nil
	}
	f.on = true
	f.describe(s, false)
	if len(f.question.descriptors) == 0 {
		return nil
	}
	target := s.Target(f.env.Clusters)
	if target == nil {
		return nil
	}
	a, err := f.asker.ask(s.Engine, s.LogEntry(), &f.question)
	if err != nil {
		return err // nobody waits any more
	}
	return f.obey(s, target, a)
}

// Forecast implements filter.Forecaster: whether the service would be asked is known, what it
// would say is not.
func (f *Filter) Forecast(s *filter.Stream) error {
	if !f.enabled.Match(s.Random()) || !f.concerns(s) {
		return nil
	}
	f.describe(s, false)
	if len(f.question.descriptors) == 0 || s.Target(f.env.Clusters) == nil {
		s.Decide("has no descriptors for it", "")
		return nil
	}
	s.Decide("cannot tell: would ask the service of cluster", f.Service.Cluster)
	return nil
}

// concerns reports whether the filter is for requests like this one.
func (f *Filter) concerns(s *filter.Stream) bool {
	if f.Requests == both {
		return true
	}
	return (s.Request.Value(header.XEnvoyInternal) == "true") == (f.Requests == internal)
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	addAll(&s.Response, f.response)
	f.response = nil
	return nil
}

// OnDone implements filter.Done: what counts when the stream is over is told now.
func (f *Filter) OnDone(s *filter.Stream) {
	if !f.on || !f.countsOnDone(s) {
		return
	}
	f.describe(s, true)
	if len(f.question.descriptors) > 0 {
		f.asker.tell(s.LogEntry(), &f.question)
	}
}
