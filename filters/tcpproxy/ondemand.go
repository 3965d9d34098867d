package tcpproxy

import (
	"context"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Demand says where a cluster comes from that is not there (on_demand).
type Demand struct {
	From    string        // filter.Wanted.From
	Timeout time.Duration // on_demand.timeout, 60 s unless set
}

// demandCounters are further ones of tcp.<stat_prefix>.*.
type demandCounters struct {
	Attempt stats.Counter `stat:"on_demand_cluster_attempt" help:"connections that asked for a cluster which was not there"`
	Success stats.Counter `stat:"on_demand_cluster_success" help:"connections that got the cluster they asked for"`
	Missing stats.Counter `stat:"on_demand_cluster_missing" help:"connections whose cluster does not exist, or who did not wait for it"`
	Timeout stats.Counter `stat:"on_demand_cluster_timeout" help:"connections whose cluster did not come in time"`
}

// find returns a cluster, waiting for it if it can be asked for; nil if there is none.
func (s *session) find(ctx context.Context, name string) *cluster.Cluster {
	cl := s.clusters.Cluster(name)
	d := s.c.Demand
	if cl != nil || d == nil || s.demand == nil {
		return cl
	}
	n := &s.s.demandCounters
	n.Attempt.Inc()
	start := time.Now()
	found := s.demand.Wait(ctx, filter.Wanted{Kind: filter.WantedCluster, From: d.From, Name: name}, d.Timeout)
	if found {
		cl = s.clusters.Cluster(name)
	}
	switch {
	case cl != nil:
		n.Success.Inc()
	case time.Since(start) >= d.Timeout:
		n.Timeout.Inc()
	default:
		n.Missing.Inc()
	}
	return cl
}
