// Package rbac is role-based access control, for HTTP requests and for connections:
// policies say who may do what, and what they do not allow is denied. Shadow policies
// are decided on and counted, and have no other effect.
//
// Policies are compiled when configuration is read; deciding costs no memory.
package rbac

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Spec describes the filter of HTTP requests.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.rbac",
	Type:       "envoy.extensions.filters.http.rbac.v3.RBAC",
	RouteType:  "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config is the parsed configuration of the HTTP filter, or of a route.
type Config struct {
	Enforced, Shadow             *engine // nil: none
	EnforcedPrefix, ShadowPrefix string  // rules_stat_prefix, shadow_rules_stat_prefix
	Track                        bool    // track_per_rule_stats
	keys                         keys
}

// keys are the names under which decisions are in the dynamic metadata of the filter.
type keys struct{ policy, result, shadowPolicy, shadowResult string }

func prefixed(enforced, shadow string) keys {
	return keys{
		enforced + "enforced_effective_policy_id", enforced + "enforced_engine_result",
		shadow + "shadow_effective_policy_id", shadow + "shadow_engine_result",
	}
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	counts := newCounts(c, env)
	return func() filter.HTTP { return &Filter{config: c, slot: env.Slot, counts: counts} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	config *Config
	slot   filter.Slot
	counts *counts
	about  subject // scratch
}

var _ filter.RequestHeaders = (*Filter)(nil)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { f.about = subject{} }

// OnRequestHeaders implements filter.RequestHeaders. A route's configuration takes the
// place of the filter's own; where it says no prefix, that of the filter stays.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	c, names := f.config, &f.config.keys
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		c = own
		if own.EnforcedPrefix != f.config.EnforcedPrefix || own.ShadowPrefix != f.config.ShadowPrefix {
			names = f.counts.keysOf(own)
		}
	}
	return f.decide(s, c, names)
}

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error {
	c := f.config
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		c = own
	}
	return f.decide(s, c, nil)
}

// decide returns the denial of a request, nil if it is let through. It counts, and notes in
// the dynamic metadata under names; nil is for a request that nobody has sent.
func (f *Filter) decide(s *filter.Stream, c *Config, names *keys) error {
	f.about.ofStream(s)
	if c.Shadow != nil {
		allowed, by := c.Shadow.decide(&f.about)
		tell(s, &shadowVerdicts, allowed, by)
		if names != nil {
			f.counts.shadow(c.Track, allowed, by)
			note(s, names.shadowPolicy, names.shadowResult, allowed, by)
		}
	}
	if c.Enforced == nil {
		return nil
	}
	allowed, by := c.Enforced.decide(&f.about)
	tell(s, &verdicts, allowed, by)
	if names != nil {
		c.Enforced.hint(&s.Metadata, by)
		f.counts.enforced(c.Track, allowed, by)
		note(s, names.policy, names.result, allowed, by)
	}
	switch {
	case allowed:
		return nil
	case by == nil:
		return unmatched
	}
	return by.denial
}

// words are the verdicts as they are told to whoever asks why.
type words struct{ allows, denies, lets, refuses string }

var (
	verdicts       = words{"allows by policy", "denies by policy", "allows what no policy matches", "denies what no policy matches"}
	shadowVerdicts = words{
		"would allow (shadow_rules) by policy", "would deny (shadow_rules) by policy",
		"would allow (shadow_rules) what no policy matches", "would deny (shadow_rules) what no policy matches",
	}
)

func tell(s *filter.Stream, w *words, allowed bool, by *policyName) {
	switch {
	case by == nil && allowed:
		s.Decide(w.lets, "")
	case by == nil:
		s.Decide(w.refuses, "")
	case allowed:
		s.Decide(w.allows, by.name)
	default:
		s.Decide(w.denies, by.name)
	}
}

// note puts a decision into the dynamic metadata of the stream.
func note(s *filter.Stream, policy, result string, allowed bool, by *policyName) {
	if by != nil {
		s.Metadata.Set(Spec.Name, policy, by.boxed)
	}
	if allowed {
		s.Metadata.Set(Spec.Name, result, "allowed")
	} else {
		s.Metadata.Set(Spec.Name, result, "denied")
	}
}
