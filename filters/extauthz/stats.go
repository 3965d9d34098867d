package extauthz

import (
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// counters are http.<stat_prefix>.ext_authz.[<stat_prefix>.]*.
type counters struct {
	OK             stats.Counter `stat:"ok" help:"Requests that the service has allowed."`
	Denied         stats.Counter `stat:"denied" help:"Requests that the service has denied."`
	Error          stats.Counter `stat:"error" help:"Requests without a decision, timeouts included."`
	Disabled       stats.Counter `stat:"disabled" help:"Requests for which the filter was off (filter_enabled)."`
	FailureAllowed stats.Counter `stat:"failure_mode_allowed" help:"Requests let through without a decision (failure_mode_allow)."`
	Invalid        stats.Counter `stat:"invalid" help:"Answers with changes that cannot be made (validate_mutations)."`
	Ignored        stats.Counter `stat:"ignored_dynamic_metadata" help:"Answers whose dynamic metadata was not wanted."`
}

// clusterCounters are cluster.<name>.ext_authz.[<stat_prefix>.]* of the cluster that the
// route of a request leads to.
type clusterCounters struct {
	OK             stats.Counter `stat:"ok" help:"Requests to the cluster that the service has allowed."`
	Denied         stats.Counter `stat:"denied" help:"Requests to the cluster that the service has denied."`
	Error          stats.Counter `stat:"error" help:"Requests to the cluster without a decision."`
	FailureAllowed stats.Counter `stat:"failure_mode_allowed" help:"Requests to the cluster let through without a decision."`
}

// bind makes the counters of the chain.
func (sh *shared) bind() *counters {
	c, release := stats.SharedUnder[counters](sh.env.Parent, stats.Path("ext_authz", sh.StatPrefix)...)
	sh.env.OnRetire(release)
	return c
}

// countersOf are the counters of a cluster; none is shown for a nil one.
func (f *Filter) countersOf(c *cluster.Cluster) *clusterCounters {
	if c != nil {
		key := cluster.ExtraStats{Of: "ext_authz", A: f.StatPrefix}
		if v, ok := c.Extra(key, freshCounters).(*clusterCounters); ok {
			return v
		}
	}
	return new(clusterCounters)
}

func freshCounters(sc *stats.Scope, key cluster.ExtraStats) any {
	c := new(clusterCounters)
	key.Bind(sc, c)
	return c
}

// countDenial counts a denial like an answer of the cluster that the request was for.
func (f *Filter) countDenial(c *cluster.Cluster, code int) {
	if c == nil || f.NoClusterCodes {
		return
	}
	st := c.Stats()
	st.UpstreamRq.Count(code)
	st.InternalRq.Count(code)
}
