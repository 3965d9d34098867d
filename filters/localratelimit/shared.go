package localratelimit

import (
	"context"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters is <stat_prefix>.http_local_rate_limit.*.
type counters struct {
	Enabled  stats.Counter `stat:"enabled" help:"requests that were looked at"`
	OK       stats.Counter `stat:"ok" help:"requests for which there was a token"`
	Limited  stats.Counter `stat:"rate_limited" help:"requests for which there was none"`
	Enforced stats.Counter `stat:"enforced" help:"requests that were answered for that"`
}

// shared is what the streams of a filter have in common.
type shared struct {
	config  *Config
	slot    filter.Slot
	cluster string // node.cluster
	by      *stats.ByName[counters]

	mu    sync.Mutex
	conns map[connKey]*limiter
}

// connKey is a configuration on a connection.
type connKey struct {
	c    *Config
	conn uint64
}

func newShared(c *Config, env filter.Env) *shared {
	sh := &shared{config: c, slot: env.Slot, cluster: env.Node.Cluster, conns: map[connKey]*limiter{}}
	sh.by = stats.NewByName(func(prefix string) (*counters, func()) {
		return stats.SharedAt[counters](env.Stats, stats.Label{Name: "envoy_local_http_ratelimit_prefix", Value: prefix}, stats.Label{Value: "http_local_rate_limit"})
	})
	sh.by.Of(c.StatPrefix)
	env.OnRetire(sh.by.Close)
	return sh
}

// counts returns the counters of c, which is that of the filter or of a route.
func (sh *shared) counts(c *Config) *counters { return sh.by.Of(c.StatPrefix) }

// ofConn returns the buckets of c for the connection of s; they go with it.
func (sh *shared) ofConn(c *Config, s *filter.Stream) *limiter {
	if s.Session == nil || s.Session.Engine == nil {
		return c.limiter
	}
	key := connKey{c, s.Session.Meta.ID}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	m := sh.conns[key]
	if m == nil {
		m = newLimiter(c.Limits, time.Now())
		sh.conns[key] = m
		context.AfterFunc(s.Session.Engine.Context(), func() {
			sh.mu.Lock()
			defer sh.mu.Unlock()
			delete(sh.conns, key)
		})
	}
	return m
}
