// Package connectionlimit is the network filter connection_limit: a filter chain has no
// more than so many connections at a time; those beyond it are closed.
package connectionlimit

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.NetworkSpec[*Config]{
	Name:  "envoy.filters.network.connection_limit",
	Type:  "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
	Parse: parse,
	New:   newFactory,
}

// Config is the parsed configuration.
type Config struct {
	StatPrefix string
	Max        int64
	Delay      time.Duration // how long a connection beyond the limit is held before it is closed
	Enabled    runtime.FlagSetting
}

// counters is connection_limit.<stat_prefix>.*.
type counters struct {
	Limited stats.Counter `stat:"limited_connections" help:"connections closed because there were enough"`
	Active  stats.Gauge   `stat:"active_connections" help:"connections, those that wait to be closed included"`
}

// limit is one connection_limit in a filter chain.
type limit struct {
	c       *Config
	s       *counters
	enabled runtime.FlagValue
	taken   atomic.Int64
}

func newFactory(c *Config, env filter.Env) (func() filter.Network, error) {
	s, release := stats.Shared[counters](env.Stats, "connection_limit", "envoy_connection_limit_prefix", c.StatPrefix)
	env.OnRetire(release)
	l := &limit{c: c, s: s, enabled: c.Enabled.On(env.Runtime)}
	return func() filter.Network { return &guard{limit: l} }, nil
}

// guard serves one connection at a time.
type guard struct {
	*limit
	counted bool // in taken
	seen    bool // in the gauge
}

var (
	_ filter.ConnOpener = (*guard)(nil)
	_ filter.ConnCloser = (*guard)(nil)
)

// Reset implements filter.Network.
func (g *guard) Reset() { g.counted, g.seen = false, false }

var errTooMany = errors.New("connection_limit: there are enough connections")

// OnConn implements filter.ConnOpener.
func (g *guard) OnConn(c *filter.Conn) error {
	if !g.enabled.Get() {
		return nil
	}
	g.s.Active.Inc()
	g.seen = true
	if g.taken.Add(1) <= g.c.Max {
		g.counted = true
		return nil
	}
	g.taken.Add(-1)
	g.s.Limited.Inc()
	c.Meta.Termination = "over_connection_limit"
	if g.c.Delay > 0 {
		t := time.NewTimer(g.c.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.Engine.Context().Done():
		}
	}
	return errTooMany
}

// OnClose implements filter.ConnCloser.
func (g *guard) OnClose(*filter.Conn, error) {
	if g.counted {
		g.taken.Add(-1)
	}
	if g.seen {
		g.s.Active.Dec()
	}
}
