package cluster

import "github.com/mecha-mesh/mecha/proxy/stats"

// Track is track_cluster_stats: statistics that cost something and are there only where
// somebody asks for them.
type Track struct {
	Sizes     bool // request_response_sizes
	Budgets   bool // timeout_budgets
	Endpoints bool // per_endpoint_stats
}

// SizeStats are the sizes of requests as they are sent, and of responses as they come. Those
// of heads are the sums of the lengths of names and values. Whoever sends requests records
// them, for each attempt.
type SizeStats struct {
	RqHeaders stats.Histogram `stat:"upstream_rq_headers_size" help:"Bytes in heads of requests."`
	RqFields  stats.Histogram `stat:"upstream_rq_headers_count" help:"Fields in heads of requests."`
	RqBody    stats.Histogram `stat:"upstream_rq_body_size" help:"Bytes in bodies of requests."`
	RsHeaders stats.Histogram `stat:"upstream_rs_headers_size" help:"Bytes in heads of responses."`
	RsFields  stats.Histogram `stat:"upstream_rs_headers_count" help:"Fields in heads of responses."`
	RsBody    stats.Histogram `stat:"upstream_rs_body_size" help:"Bytes in bodies of responses."`
}

// BudgetStats are how much of their time limits requests and attempts took, in percent; 0
// where there is no limit. Whoever sends requests records them.
type BudgetStats struct {
	Global stats.Histogram `stat:"upstream_rq_timeout_budget_percent_used" help:"Percent of the time limit that requests took."`
	PerTry stats.Histogram `stat:"upstream_rq_timeout_budget_per_try_percent_used" help:"Percent of the time limit of an attempt that attempts took."`
}

// Sizes returns nil unless the sizes of requests and responses are to be recorded.
func (c *Cluster) Sizes() *SizeStats {
	s := c.running().core.sizes.Load()
	if s == nil || !c.Spec().Track.Sizes {
		return nil
	}
	return s
}

// Budgets returns nil unless it is to be recorded how much of their time limits requests
// take.
func (c *Cluster) Budgets() *BudgetStats {
	b := c.running().core.budgets.Load()
	if b == nil || !c.Spec().Track.Budgets {
		return nil
	}
	return b
}

// track makes the statistics that a configuration asks for; they stay.
func (c *core) track(t Track) {
	if t.Sizes && c.sizes.Load() == nil {
		s := new(SizeStats)
		if c.scope != nil {
			c.scope.Bind(s)
		}
		c.sizes.Store(s)
	}
	if t.Budgets && c.budgets.Load() == nil {
		b := new(BudgetStats)
		if c.scope != nil {
			c.scope.Bind(b)
		}
		c.budgets.Store(b)
	}
}
