package ratelimit

import (
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters are cluster.<name>.ratelimit.[<stat_prefix>.]* of the cluster that the route of a
// request leads to.
type counters struct {
	OK             stats.Counter `stat:"ok" help:"Requests within their limits, as the service says."`
	Error          stats.Counter `stat:"error" help:"Requests without a verdict, timeouts included."`
	Over           stats.Counter `stat:"over_limit" help:"Requests beyond a limit, whether they were refused or not."`
	FailureAllowed stats.Counter `stat:"failure_mode_allowed" help:"Requests let through without a verdict."`
}

// countersOf are the counters of a cluster.
func countersOf(c *cluster.Cluster, prefix string) *counters {
	if v, ok := c.Extra(cluster.ExtraStats{Of: "ratelimit", A: prefix}, freshCounters).(*counters); ok {
		return v
	}
	return new(counters)
}

func freshCounters(sc *stats.Scope, key cluster.ExtraStats) any {
	c := new(counters)
	key.Bind(sc, c)
	return c
}

// connCounters are ratelimit.<stat_prefix>.*.
type connCounters struct {
	Total          stats.Counter `stat:"total" help:"Connections about which the service was asked."`
	Error          stats.Counter `stat:"error" help:"Connections without a verdict, timeouts included."`
	Over           stats.Counter `stat:"over_limit" help:"Connections beyond a limit, whether they were closed or not."`
	OK             stats.Counter `stat:"ok" help:"Connections within their limits."`
	Closed         stats.Counter `stat:"cx_closed" help:"Connections closed for being beyond a limit, or without a verdict."`
	FailureAllowed stats.Counter `stat:"failure_mode_allowed" help:"Connections let through without a verdict."`
	Active         stats.Gauge   `stat:"active" help:"Questions under way."`
}
