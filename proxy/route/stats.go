package route

import (
	"runtime"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Stats count the requests of a route with a stat_prefix (vhost.<host>.route.<prefix>), or
// of a virtual cluster (vhost.<host>.vcluster.<name>). Tables that follow each other count
// in the same ones.
type Stats struct {
	Retry         stats.Counter      `stat:"upstream_rq_retry" help:"Retries"`
	RetryLimit    stats.Counter      `stat:"upstream_rq_retry_limit_exceeded" help:"Requests not retried because of the number of retries"`
	RetryOverflow stats.Counter      `stat:"upstream_rq_retry_overflow" help:"Requests not retried because of circuit breaking or a budget"`
	RetrySuccess  stats.Counter      `stat:"upstream_rq_retry_success" help:"Retries that succeeded"`
	Timeout       stats.Counter      `stat:"upstream_rq_timeout" help:"Requests that timed out waiting for a response"`
	Total         stats.Counter      `stat:"upstream_rq_total" help:"Requests sent to an upstream"`
	Rq            stats.CodeCounters `stat:"upstream_rq" help:"Responses by code"`
	Time          stats.Histogram    `stat:"upstream_rq_time" help:"Time until the end of the response, milliseconds"`
}

// VirtualClusters tell requests of a virtual host apart for statistics (virtual_clusters).
type VirtualClusters struct {
	All   []VirtualCluster // the first that matches counts
	Other *Stats           // what none matches
}

// VirtualCluster is requests of one kind.
type VirtualCluster struct {
	Name    string
	Headers match.Headers
	Stats   *Stats
}

// find returns the virtual cluster of a request; where none matches, it has no name.
func (v *VirtualClusters) find(s *filter.Stream) (name string, st *Stats) {
	for i := range v.All {
		if c := &v.All[i]; c.Headers.Match(&s.Request) {
			return c.Name, c.Stats
		}
	}
	return "", v.Other
}

// Parts are the statistics that a request counts in besides those of its cluster: those of
// its virtual cluster and of its route, as far as there are any.
type Parts struct {
	VirtualCluster string // its name, "" if none matches

	two [2]*Stats
	n   int
}

// All returns those that there are. It is a view of p.
func (p *Parts) All() []*Stats { return p.two[:p.n] }

// Parts returns what else a request counts in. It is to be called before the request is
// made what upstream sees.
func (r *Route) Parts(s *filter.Stream) (p Parts) {
	if r.VirtualHost != nil && r.VirtualHost.Clusters != nil {
		p.VirtualCluster, p.two[0] = r.VirtualHost.Clusters.find(s)
		p.n = 1
	}
	if r.Stats != nil {
		p.two[p.n] = r.Stats
		p.n++
	}
	return p
}

// hostLabel is Prometheus' label of a virtual host's name.
const hostLabel = "envoy_virtual_host"

// RouteStats returns the statistics of a stat_prefix. They are there as long as owner is.
func RouteStats[T any](st *stats.Store, host, prefix string, owner *T) *Stats {
	return lent(st, owner, stats.Label{Value: "vhost"}, stats.Label{Name: hostLabel, Value: host},
		stats.Label{Value: "route"}, stats.Label{Name: "envoy_route", Value: prefix})
}

// ClusterStats returns the statistics of a virtual cluster. They are there as long as owner
// is.
func ClusterStats[T any](st *stats.Store, host, cluster string, owner *T) *Stats {
	return lent(st, owner, stats.Label{Value: "vhost"}, stats.Label{Name: hostLabel, Value: host},
		stats.Label{Value: "vcluster"}, stats.Label{Name: "envoy_virtual_cluster", Value: cluster})
}

// lent shares statistics until the garbage collector finds that their owner is gone: a
// table is held by whatever request still uses it, and nobody tells its end.
func lent[T any](st *stats.Store, owner *T, path ...stats.Label) *Stats {
	p, release := stats.SharedAt[Stats](st, path...)
	runtime.AddCleanup(owner, func(release func()) { release() }, release)
	return p
}
