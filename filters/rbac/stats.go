package rbac

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// enforcedCounts is http.<stat_prefix>.rbac.[<rules_stat_prefix>.]*.
type enforcedCounts struct {
	Allowed stats.Counter `stat:"allowed" help:"let through"`
	Denied  stats.Counter `stat:"denied" help:"denied"`
}

// shadowCounts is http.<stat_prefix>.rbac.[<shadow_rules_stat_prefix>.]*.
type shadowCounts struct {
	Allowed stats.Counter `stat:"shadow_allowed" help:"would have been let through by the shadow policies"`
	Denied  stats.Counter `stat:"shadow_denied" help:"would have been denied by the shadow policies"`
}

// counts are the counters of a filter. Those of policies are made when the first request
// matches one; there are at most as many as configuration has names.
type counts struct {
	*enforcedCounts
	shadows *shadowCounts

	env    filter.Env
	config *Config

	making   sync.Mutex
	releases []func() // give up what was bound
	policies atomic.Pointer[map[string]*policyCounts]
	routes   atomic.Pointer[map[[2]string]*keys]
}

type policyCounts struct {
	enforced *enforcedCounts
	shadow   *shadowCounts
}

func newCounts(c *Config, env filter.Env) *counts {
	cs := &counts{env: env, config: c}
	cs.enforcedCounts, cs.shadows = cs.bind("")
	env.OnRetire(cs.close)
	return cs
}

// bind returns the counters of a policy, or those of all.
func (cs *counts) bind(policy string) (*enforcedCounts, *shadowCounts) {
	e, releaseEnforced := stats.SharedUnder[enforcedCounts](cs.env.Parent, under(cs.config.EnforcedPrefix, policy)...)
	s, releaseShadow := stats.SharedUnder[shadowCounts](cs.env.Parent, under(cs.config.ShadowPrefix, policy)...)
	cs.releases = append(cs.releases, releaseEnforced, releaseShadow)
	return e, s
}

func (cs *counts) close() {
	cs.making.Lock()
	defer cs.making.Unlock()
	for _, release := range cs.releases {
		release()
	}
	cs.releases = nil
}

// under is the path of rbac.PREFIX.policy.POLICY; what is empty is left out.
func under(prefix, policy string) []stats.Label {
	path := []stats.Label{{Value: "rbac"}}
	if prefix != "" {
		path = append(path, stats.Label{Name: "envoy_rbac_http_prefix", Value: prefix})
	}
	if policy != "" {
		path = append(path, stats.Label{Value: "policy"}, stats.Label{Name: "envoy_rbac_policy_name", Value: policy})
	}
	return path
}

func (cs *counts) enforced(track, allowed bool, by *policyName) {
	cs.enforcedCounts.count(allowed)
	if track && by != nil {
		cs.of(by.name).enforced.count(allowed)
	}
}

func (cs *counts) shadow(track, allowed bool, by *policyName) {
	cs.shadows.count(allowed)
	if track && by != nil {
		cs.of(by.name).shadow.count(allowed)
	}
}

func (c *enforcedCounts) count(allowed bool) {
	if allowed {
		c.Allowed.Inc()
	} else {
		c.Denied.Inc()
	}
}

func (c *shadowCounts) count(allowed bool) {
	if allowed {
		c.Allowed.Inc()
	} else {
		c.Denied.Inc()
	}
}

// of returns the counters of a policy, new ones for a name not seen before.
func (cs *counts) of(name string) *policyCounts {
	if m := cs.policies.Load(); m != nil && (*m)[name] != nil {
		return (*m)[name]
	}
	cs.making.Lock()
	defer cs.making.Unlock()
	return grow(&cs.policies, name, func() *policyCounts {
		p := &policyCounts{}
		p.enforced, p.shadow = cs.bind(name)
		return p
	})
}

// keysOf returns the keys for a route with prefixes of its own: those that it has count,
// otherwise those of the filter do.
func (cs *counts) keysOf(own *Config) *keys {
	prefixes := [2]string{own.EnforcedPrefix, own.ShadowPrefix}
	if m := cs.routes.Load(); m != nil && (*m)[prefixes] != nil {
		return (*m)[prefixes]
	}
	cs.making.Lock()
	defer cs.making.Unlock()
	return grow(&cs.routes, prefixes, func() *keys {
		enforced, shadow := own.EnforcedPrefix, own.ShadowPrefix
		if enforced == "" {
			enforced = cs.config.EnforcedPrefix
		}
		if shadow == "" {
			shadow = cs.config.ShadowPrefix
		}
		k := prefixed(enforced, shadow)
		return &k
	})
}

// grow replaces the map by one with the key. The caller holds the lock of those that do.
func grow[K comparable, V any](p *atomic.Pointer[map[K]*V], key K, make func() *V) *V {
	next := map[K]*V{}
	if old := p.Load(); old != nil {
		if v := (*old)[key]; v != nil {
			return v
		}
		maps.Copy(next, *old)
	}
	next[key] = make()
	p.Store(&next)
	return next[key]
}
