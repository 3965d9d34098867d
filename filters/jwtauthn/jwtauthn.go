// Package jwtauthn is the HTTP filter jwt_authn: a request must have JSON Web Tokens
// (RFC 7519) of certain issuers, whose keys are in the configuration or fetched. What good
// tokens say goes into headers and dynamic metadata, for other filters to decide on.
//
// Which tokens a request needs is in require.go, what a provider wants of them in
// provider.go, where keys come from in source.go. Signatures are go-jose's business.
package jwtauthn

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.jwt_authn",
	Type:       "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
	RouteType:  "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// namespace is that of dynamic metadata.
const namespace = "envoy.filters.http.jwt_authn"

// Config says which requests need which tokens. On a route only route is set.
type Config struct {
	providers       []*provider // by name
	rules           []rule
	stateKey        string // filter_state_rules.name
	byState         map[string]*requirement
	byName          map[string]*requirement // requirement_map
	names           string                  // of requirement_map, for an error
	bypassPreflight bool
	strip           bool // strip_failure_response
	statPrefix      string

	route *routeConfig
}

// rule is what requests need that match.
type rule struct {
	match func(*filter.Stream) bool
	needs *requirement
}

// routeConfig is what a level of a route table says.
type routeConfig struct {
	disabled bool
	name     string // requirement_name
}

// counters are http.<stat_prefix>.jwt_authn.[<stat_prefix>.]*.
type counters struct {
	Allowed      stats.Counter `stat:"allowed" help:"Requests that had what they need."`
	Denied       stats.Counter `stat:"denied" help:"Requests that had not."`
	Preflight    stats.Counter `stat:"cors_preflight_bypassed" help:"CORS preflight requests let through (bypass_cors_preflight)."`
	FetchSuccess stats.Counter `stat:"jwks_fetch_success" help:"Fetches of keys that succeeded."`
	FetchFailed  stats.Counter `stat:"jwks_fetch_failed" help:"Fetches of keys that failed."`
	CacheHit     stats.Counter `stat:"jwt_cache_hit" help:"Tokens that were known to be good."`
	CacheMiss    stats.Counter `stat:"jwt_cache_miss" help:"Tokens that were not."`
}

// shared is what all streams of one chain have in common.
type shared struct {
	config   *Config
	slot     filter.Slot
	counters *counters
	sources  map[*provider]*source
	caches   map[*provider]*cache
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := &shared{config: c, slot: env.Slot, sources: map[*provider]*source{}, caches: map[*provider]*cache{}}
	k, release := stats.SharedUnder[counters](env.Parent, stats.Path("jwt_authn", c.statPrefix)...)
	sh.counters = k
	ctx, cancel := context.WithCancel(context.Background())
	env.OnRetire(func() {
		cancel()
		release()
	})
	client := call.NewClient(env.Clusters)
	for _, p := range c.providers {
		src := &source{p: p, client: client, counters: k, ctx: ctx}
		sh.sources[p], sh.caches[p] = src, newCache(p.cacheSize, p.maxCached)
		if p.remote != nil && p.remote.Async && env.Retire != nil {
			go src.renew()
		}
	}
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	hypothetical bool // see Forecast
}

var _ filter.RequestHeaders = (*Filter)(nil)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	if f.config.bypassPreflight && isPreflight(&s.Request) {
		f.counters.Preflight.Inc()
		f.counters.Allowed.Inc()
		s.Decide("lets a CORS preflight pass", "")
		return nil
	}
	needs, wrong := f.needs(s)
	if wrong != "" {
		f.counters.Denied.Inc()
		return f.reply(403, "Failed JWT authentication: "+wrong, wrong)
	}
	if needs == nil {
		f.counters.Allowed.Inc()
		s.Decide("asks for no token here", "")
		return nil
	}
	return f.check(s, needs)
}

// errNotFetched ends a check that would have to fetch keys first.
var errNotFetched = errors.New("jwt_authn: the keys are not there")

// Forecast implements filter.Forecaster. It fetches no keys, and remembers no tokens.
func (f *Filter) Forecast(s *filter.Stream) error {
	sh := *f.shared
	sh.counters, sh.caches = &counters{}, nil
	other := &Filter{shared: &sh, hypothetical: true}
	err := other.OnRequestHeaders(s, true)
	if errors.Is(err, errNotFetched) {
		s.Decide("cannot tell: would fetch keys", "")
		return nil
	}
	return err
}

func isPreflight(m *header.Map) bool {
	return m.Value(header.Method) == "OPTIONS" && m.Get("origin") != "" && m.Get("access-control-request-method") != ""
}

// needs returns what a request needs, and what is wrong with the route's wish.
func (f *Filter) needs(s *filter.Stream) (r *requirement, wrong string) {
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		if own.route.disabled {
			return nil, ""
		}
		if r, ok := f.config.byName[own.route.name]; ok {
			return r, ""
		}
		return nil, "Wrong requirement_name: " + own.route.name + ". It should be one of [" + f.config.names + "]"
	}
	for i := range f.config.rules {
		if f.config.rules[i].match(s) {
			return f.config.rules[i].needs, ""
		}
	}
	if f.config.stateKey != "" {
		if text, ok := filter.StateText(s.FilterState(f.config.stateKey)); ok {
			return f.config.byState[text], ""
		}
	}
	return nil, ""
}

// check verifies the tokens of a request.
func (f *Filter) check(s *filter.Stream, needs *requirement) error {
	realm := realmOf(&s.Request)
	c := &check{shared: f.shared, s: s, now: time.Now(), hypothetical: f.hypothetical}
	st := c.verify(needs)
	if c.over != nil {
		return c.over
	}
	for _, e := range c.metadata {
		s.Metadata.Set(namespace, e.key, e.value)
	}
	if st != statusOK {
		f.counters.Denied.Inc()
		r := f.reply(st.code(), st.String(), st.String())
		if !f.config.strip {
			challenge := `Bearer realm="` + realm + `"`
			if st != missing {
				challenge += `, error="invalid_token"`
			}
			r.Header = []header.Field{{Name: "www-authenticate", Value: challenge}}
		}
		return r
	}
	f.counters.Allowed.Inc()
	s.Decide("has found what it needs", "")
	if c.reroute {
		s.Engine.RefreshRoute()
	}
	return nil
}

// reply is the answer to a request without what it needs.
func (f *Filter) reply(code int, body, why string) *filter.Reply {
	if f.config.strip {
		body = ""
	}
	return &filter.Reply{Code: code, Body: body, Details: "jwt_authn_access_denied{" + strings.ReplaceAll(why, " ", "_") + "}"}
}

// maxRealm is how much of a path is told in a challenge.
const maxRealm = 256

// realmOf is the URL that was asked for, as the client knows it.
func realmOf(m *header.Map) string {
	path := m.Value(header.XEnvoyOriginalPath)
	if path == "" {
		path = m.Value(header.Path)
	}
	scheme := m.Value(header.XForwardedProto)
	if scheme == "" {
		scheme = m.Value(header.Scheme)
	}
	return scheme + "://" + m.Value(header.Authority) + path[:min(len(path), maxRealm)]
}
