package ratelimit

import (
	"errors"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Network describes the filter of connections.
var Network = filter.NetworkSpec[*ConnConfig]{
	Name:  "envoy.filters.network.ratelimit",
	Type:  "envoy.extensions.filters.network.ratelimit.v3.RateLimit",
	Parse: parseNetwork,
	New:   newConnFactory,
}

// ConnConfig is the parsed configuration of the filter of connections.
type ConnConfig struct {
	StatPrefix  string
	Domain      string
	Descriptors []ConnDescriptor
	Service     Service
	Deny        bool // failure_mode_deny

	Enabled, Enforced runtime.FractionSetting
}

// ConnDescriptor is a descriptor whose values are formats.
type ConnDescriptor struct {
	Keys   []string
	Values []*accesslog.Format
}

// gate serves all connections of a chain: it has no state of one.
type gate struct {
	*connCounters
	c                 *ConnConfig
	asker             *asker
	enabled, enforced runtime.FractionValue
}

func newConnFactory(c *ConnConfig, env filter.Env) (func() filter.Network, error) {
	g := &gate{c: c, asker: newAsker(&c.Service, env.Clusters), enabled: c.Enabled.On(env.Runtime), enforced: c.Enforced.On(env.Runtime)}
	var release func()
	g.connCounters, release = stats.Shared[connCounters](env.Stats, "ratelimit", "envoy_ratelimit_prefix", c.StatPrefix)
	env.OnRetire(release)
	return func() filter.Network { return g }, nil
}

var _ filter.ConnOpener = (*gate)(nil)

// Reset implements filter.Network.
func (*gate) Reset() {}

var (
	errOver   = errors.New("ratelimit: there are too many connections")
	errFailed = errors.New("ratelimit: the service says nothing")
)

// OnConn implements filter.ConnOpener.
func (g *gate) OnConn(c *filter.Conn) error {
	if !g.enabled.Match(c.Meta.ID) {
		return nil
	}
	entry := c.LogEntry()
	g.Total.Inc()
	g.Active.Inc()
	a, err := g.asker.ask(call.Background(c.Engine.Context()), entry, g.question(entry))
	g.Active.Dec()
	if err != nil {
		return err
	}
	for k, v := range a.metadata {
		c.Metadata.Set(Network.Name, k, v)
	}
	switch {
	case a.verdict == within:
		g.OK.Inc()
	case a.verdict == over:
		g.Over.Inc()
		if g.enforced.Match(c.Meta.ID) {
			g.Closed.Inc()
			c.Log.Flags |= meta.RateLimited
			c.Meta.Termination = "ratelimit_close_over_limit"
			return errOver
		}
	default:
		g.Error.Inc()
		if g.c.Deny {
			g.Closed.Inc()
			c.Meta.Termination = "ratelimit_error_failure_mode_connection_close"
			return errFailed
		}
		g.FailureAllowed.Inc()
	}
	return nil
}

// question describes a connection.
func (g *gate) question(entry *accesslog.Entry) *question {
	q := &question{domain: g.c.Domain}
	for i := range g.c.Descriptors {
		from := &g.c.Descriptors[i]
		d := descriptor{}
		for k, key := range from.Keys {
			e := ratelimit.Entry{Key: key}
			if f := from.Values[k]; f != nil {
				e.Value = string(f.Append(nil, entry))
			}
			d.entries = append(d.entries, e)
		}
		q.descriptors = append(q.descriptors, d)
	}
	return q
}
