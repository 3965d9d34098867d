package localratelimit

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Network describes the filter of the connections of a filter chain.
var Network = filter.NetworkSpec[*ConnConfig]{
	Name:  "envoy.filters.network.local_ratelimit",
	Type:  "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
	Parse: parseNetwork,
	New: func(c *ConnConfig, env filter.Env) (func() filter.Network, error) {
		g := newGate(c, env, "local_rate_limit", "envoy_local_network_ratelimit_prefix")
		return func() filter.Network { return g }, nil
	},
}

// Listener describes the filter of all connections of a listener.
var Listener = filter.ListenerSpec[*ConnConfig]{
	Name:  "envoy.filters.listener.local_ratelimit",
	Type:  "envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit",
	Parse: parseListener,
	New: func(c *ConnConfig, env filter.Env) (filter.Listener, error) {
		return newGate(c, env, "listener_local_ratelimit", "envoy_local_listener_ratelimit_prefix"), nil
	},
}

// ConnConfig is the parsed configuration of both.
type ConnConfig struct {
	StatPrefix string
	Rate       Rate
	Enabled    runtime.FlagSetting
	Share      string // share_key with the fields of the bucket, "" for a bucket of its own
}

// connCounters is local_rate_limit.<stat_prefix>.*, listener_local_ratelimit.<stat_prefix>.*.
type connCounters struct {
	Limited stats.Counter `stat:"rate_limited" help:"connections that were closed because there were too many"`
}

// gate serves all connections: it has no state of one.
type gate struct {
	*connCounters
	enabled runtime.FlagValue
	bucket  *bucket
}

func newGate(c *ConnConfig, env filter.Env, name, label string) *gate {
	g := &gate{enabled: c.Enabled.On(env.Runtime)}
	fresh := func() *bucket { return newBucket(c.Rate, time.Now()) }
	if c.Share == "" {
		g.bucket = fresh()
	} else {
		b, release := filter.Share(env.Shares, "local_ratelimit/"+c.Share, fresh)
		env.OnRetire(release)
		g.bucket = b
	}
	counts, release := stats.Shared[connCounters](env.Stats, name, label, c.StatPrefix)
	env.OnRetire(release)
	g.connCounters = counts
	return g
}

var (
	_ filter.ConnOpener = (*gate)(nil)
	_ filter.Listener   = (*gate)(nil)
)

// Reset implements filter.Network.
func (*gate) Reset() {}

var errTooMany = errors.New("local_ratelimit: there are too many connections")

func (g *gate) admit() error {
	if !g.enabled.Get() || g.bucket.take(1, time.Now()) {
		return nil
	}
	g.Limited.Inc()
	return errTooMany
}

// OnConn implements filter.ConnOpener.
func (g *gate) OnConn(c *filter.Conn) error {
	err := g.admit()
	if err != nil {
		c.Log.Flags |= meta.RateLimited
	}
	return err
}

// Inspect implements filter.Listener.
func (g *gate) Inspect(filter.Peeker) error { return g.admit() }
