package extauthz

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Network describes the filter of connections.
var Network = filter.NetworkSpec[*ConnConfig]{
	Name:  connNamespace,
	Type:  "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
	Parse: parseNetwork,
	New:   newConnFactory,
}

// connNamespace is that of the dynamic metadata of decisions about connections.
const connNamespace = "envoy.filters.network.ext_authz"

// ConnConfig is the parsed configuration of the filter of connections.
type ConnConfig struct {
	StatPrefix      string
	Service         call.GRPC
	FailureAllow    bool // failure_mode_allow
	EnabledMetadata *match.Metadata
	Told            told
}

// told is what of a connection the service is told beyond its ends.
type told struct {
	PeerCert, TLSSession bool
	Metadata             []string
}

// connCounters are ext_authz.<stat_prefix>.*.
type connCounters struct {
	Total          stats.Counter `stat:"total" help:"Connections about which the service was asked."`
	OK             stats.Counter `stat:"ok" help:"Connections that the service has allowed."`
	Denied         stats.Counter `stat:"denied" help:"Connections that the service has denied."`
	Error          stats.Counter `stat:"error" help:"Connections without a decision, timeouts included."`
	Disabled       stats.Counter `stat:"disabled" help:"Connections for which the filter was off (filter_enabled_metadata)."`
	FailureAllowed stats.Counter `stat:"failure_mode_allowed" help:"Connections let through without a decision (failure_mode_allow)."`
	Closed         stats.Counter `stat:"cx_closed" help:"Connections closed for being denied, or without a decision."`
	Active         stats.Gauge   `stat:"active" help:"Questions under way."`
}

// gate is one filter in a filter chain.
type gate struct {
	*connCounters
	c      *ConnConfig
	client *call.Client
}

func newConnFactory(c *ConnConfig, env filter.Env) (func() filter.Network, error) {
	g := &gate{c: c, client: call.NewClient(env.Clusters)}
	var release func()
	g.connCounters, release = stats.Shared[connCounters](env.Stats, "ext_authz", "envoy_ext_authz_prefix", c.StatPrefix)
	env.OnRetire(release)
	if len(c.Told.Metadata) > 0 || c.EnabledMetadata != nil {
		return filter.AtBytes(g.decide, false), nil
	}
	return filter.AtOpen(g.decide), nil
}

var (
	errDenied = errors.New("ext_authz: the connection was denied")
	errFailed = errors.New("ext_authz: nothing was decided")
)

// decide asks, and closes the connection unless it is let through.
func (g *gate) decide(c *filter.Conn) error {
	if m := g.c.EnabledMetadata; m != nil && !m.Match(&c.Metadata) {
		g.Disabled.Inc()
		return nil
	}
	g.Total.Inc()
	g.Active.Inc()
	d, err := g.ask(c)
	g.Active.Dec()
	if err != nil {
		return err // nobody waits any more
	}
	for k, v := range d.metadata {
		c.Metadata.Set(connNamespace, k, v)
	}
	switch d.verdict {
	case allowed:
		g.OK.Inc()
		if len(d.metadata) > 0 {
			c.Metadata.Set(connNamespace, "ext_authz_duration", float64(time.Since(d.asked).Milliseconds()))
		}
		return nil
	case denied:
		g.Denied.Inc()
		return g.close(c, "ext_authz_denied", errDenied)
	}
	g.Error.Inc()
	if !g.c.FailureAllow {
		return g.close(c, "ext_authz_error", errFailed)
	}
	g.FailureAllowed.Inc()
	return nil
}

func (g *gate) close(c *filter.Conn, details string, why error) error {
	g.Closed.Inc()
	c.Log.Flags |= flag
	c.Log.Details = details
	c.Meta.Termination = "ext_authz_close"
	return why
}

// ask asks the service about a connection.
func (g *gate) ask(c *filter.Conn) (*decision, error) {
	d := &decision{asked: time.Now()}
	message, err := connRequest(c, &g.c.Told)
	if err != nil {
		return d, nil // nothing was decided
	}
	answer, err := g.client.Unary(call.Background(c.Engine.Context()), &g.c.Service, method, c.LogEntry(), message)
	if err != nil {
		return d, call.Ended(err)
	}
	d.decode(answer)
	return d, nil
}
