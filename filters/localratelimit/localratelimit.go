// Package localratelimit limits, without asking anybody, how many requests are served
// (the HTTP filter local_ratelimit), how many connections a filter chain takes on (the
// network filter), and how many a listener does (the listener filter).
package localratelimit

import (
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

const typ = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"

// Spec describes the filter of HTTP requests.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.local_ratelimit",
	Type:       typ,
	RouteType:  typ,
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config is the parsed configuration of the HTTP filter, or of a route, with its buckets:
// who has the same Config shares them.
type Config struct {
	StatPrefix        string
	Status            int
	Limits            *Limits
	Enabled, Enforced runtime.FractionValue
	NotEnforced       *mutate.Headers // request_headers_to_add_when_not_enforced
	Response          *mutate.Headers // response_headers_to_add
	Stage             uint32
	PerConnection     bool // local_rate_limit_per_downstream_connection
	Headers           bool // enable_x_ratelimit_headers
	RetryAfter        bool // enable_retry_after_header
	VirtualHost       vhLimits
	Own               ratelimit.Limits // rate_limits, in place of those of the route

	limiter *limiter
	denied  *filter.Reply
}

// vhLimits is vh_rate_limits: what the limits of a virtual host are for.
type vhLimits uint8

const (
	override vhLimits = iota // routes without limits of their own
	include
	ignore
)

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := newShared(c, env)
	return func() filter.HTTP { return &Filter{shared: sh, config: c} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	config *Config // that decides on the stream
	about  *bucket // for the headers of the response, nil for none

	entries []ratelimit.Entry // scratch
	key     []byte
	demands []demand
}

var (
	_ filter.RequestHeaders  = (*Filter)(nil)
	_ filter.ResponseHeaders = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	clear(f.entries)
	clear(f.demands)
	f.config, f.about = f.shared.config, nil
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		f.config = own
	}
	c := f.config
	if !c.Enabled.Match(s.Random()) {
		return nil
	}
	n := f.counts(c)
	n.Enabled.Inc()
	m := c.limiter
	if c.PerConnection {
		m = f.ofConn(c, s)
	}
	now := s.Now()
	f.demands = f.demands[:0]
	if len(c.Limits.Descriptors) > 0 {
		f.describe(s, m)
	}
	allowed, about, option := m.ask(f.demands, now)
	if option == ratelimit.DraftVersion03 || option == ratelimit.AsFilter && c.Headers {
		f.about = about
	}
	if allowed {
		n.OK.Inc()
		s.Decide("has a token for it", "")
		return nil
	}
	n.Limited.Inc()
	if about != nil && about.shadow {
		return nil
	}
	if !c.Enforced.Match(s.Random()) {
		s.Decide("has no token, but is not enforced", "")
		c.NotEnforced.Apply(&s.Request, s)
		return nil
	}
	n.Enforced.Inc()
	if !c.RetryAfter || c.Status != 429 || about == nil || about.Max == 0 {
		return c.denied
	}
	return c.later(max(about.untilNext(now), 1))
}

// Forecast implements filter.Forecaster: whether there is a token now. None is taken.
func (f *Filter) Forecast(s *filter.Stream) error {
	c := f.config
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		c = own
	}
	if !c.Enabled.Match(s.Random()) {
		return nil
	}
	if c.PerConnection || len(c.limiter.dynamic) > 0 {
		s.Decide("cannot tell: has buckets that are made when requests come", "")
		return nil
	}
	f.config, f.demands = c, f.demands[:0]
	if len(c.Limits.Descriptors) > 0 {
		f.describe(s, c.limiter)
	}
	allowed, about := c.limiter.foresee(f.demands, s.Now())
	switch {
	case allowed:
		s.Decide("has a token for it", "")
		return nil
	case about.shadow || !c.Enforced.Match(s.Random()):
		s.Decide("has no token, but is not enforced", "")
		return nil
	}
	return c.denied
}

// later is the answer that says in how many seconds to come again.
func (c *Config) later(seconds int64) *filter.Reply {
	r := *c.denied
	r.Modify = func(s *filter.Stream) {
		c.Response.Apply(&s.Response, s)
		if s.Response.Count("retry-after") == 0 {
			s.Response.Add("retry-after", strconv.FormatInt(seconds, 10))
		}
	}
	return &r
}

// denial is what a Config answers who has come too often.
func (c *Config) denial(grpc int) *filter.Reply {
	r := &filter.Reply{Code: c.Status, Body: "local_rate_limited", Details: "local_rate_limited", Flags: meta.RateLimited, GRPC: grpc}
	if !c.Response.Empty() {
		r.Modify = func(s *filter.Stream) { c.Response.Apply(&s.Response, s) }
	}
	return r
}

// describe finds the buckets of the descriptors of the request.
func (f *Filter) describe(s *filter.Stream, m *limiter) {
	c := f.config
	if len(c.Own) > 0 {
		for i := range c.Own {
			if !c.Own[i].OnDone {
				f.demand(s, m, &c.Own[i])
			}
		}
		return
	}
	r, ok := s.Route.(ratelimit.Routed)
	if !ok {
		return
	}
	own, host, both := r.RateLimits()
	for i := range own {
		f.demandAt(s, m, &own[i])
	}
	if both || c.VirtualHost == include || c.VirtualHost == override && len(own) == 0 {
		for i := range host {
			f.demandAt(s, m, &host[i])
		}
	}
}

// demandAt is demand for a limit of a route, which has a stage. Limits that can be
// disabled by a key are for who asks a service.
func (f *Filter) demandAt(s *filter.Stream, m *limiter, l *ratelimit.Limit) {
	if l.Stage == f.config.Stage && !l.Keyed {
		f.demand(s, m, l)
	}
}

func (f *Filter) demand(s *filter.Stream, m *limiter, l *ratelimit.Limit) {
	var ok bool
	if f.entries, ok = l.Append(f.entries[:0], s, f.cluster); !ok {
		return
	}
	d := demand{hits: 1, headers: l.Headers}
	if l.Hits != nil {
		n, ok := l.Hits.Count(s)
		if !ok {
			return
		}
		d.hits, d.refill = float64(n), l.Hits.Negative
	}
	f.key = appendKey(f.key[:0], f.entries)
	if d.bucket = m.find(f.entries, f.key, s.Now()); d.bucket != nil {
		f.demands = append(f.demands, d)
	}
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	if f.about == nil {
		return nil
	}
	now := s.Now()
	add := func(name string, n int64) {
		s.Response.Add(name, s.Response.Format(func(dst []byte) []byte { return strconv.AppendInt(dst, n, 10) }))
	}
	add("x-ratelimit-limit", int64(f.about.Max))
	add("x-ratelimit-remaining", f.about.whole(now))
	add("x-ratelimit-reset", f.about.untilNext(now))
	return nil
}
