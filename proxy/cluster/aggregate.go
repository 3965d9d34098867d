package cluster

import (
	"sync/atomic"
)

// aggregate is a cluster whose hosts are those of other clusters, one cluster after the
// other: their priorities are put in a row, and the load goes down that row as health
// demands (envoy.clusters.aggregate). Connections and counters of a host are those of
// its own cluster.
type aggregate struct {
	shownElsewhere

	m     *Manager
	names []string
	row   atomic.Pointer[row]
}

// row is the priorities of all clusters, at one moment.
type row struct {
	of    []member // as many as there are names
	parts []part
	share []share // of the load, by part
}

// member is a cluster of an aggregate; both are nil where there is none.
type member struct {
	c   *Cluster
	run *running
}

// part is one priority of one cluster.
type part struct {
	c     *Cluster // that chooses its hosts itself; nil where set does
	set   *hostSet // the hosts of that priority alone
	count healthCount
}

// pick implements ownHosts.
func (g *aggregate) pick(c *Cluster, a *Attempt) *Host {
	r := g.row.Load()
	if r == nil || !g.current(r) {
		r = g.build(c)
		g.row.Store(r)
	}
	if len(r.share) == 0 {
		return nil
	}
	i := len(r.share) - 1
	if i > 0 {
		percentile := int(c.m.rnd()>>32) % 100
		for i = range r.share {
			if percentile -= r.share[i].percent; percentile < 0 {
				break
			}
		}
	}
	p := &r.parts[r.share[i].priority]
	if p.set != nil {
		return p.set.pick(a)
	}
	h, err := p.c.Pick(a)
	if err != nil {
		return nil
	}
	return h
}

// current reports whether no cluster of the row has changed.
func (g *aggregate) current(r *row) bool {
	for i, name := range g.names {
		c := g.m.Cluster(name)
		if c != r.of[i].c || c != nil && c.run.Load() != r.of[i].run {
			return false
		}
	}
	return true
}

// build makes the row anew.
func (g *aggregate) build(c *Cluster) *row {
	r := &row{of: make([]member, len(g.names))}
	for i, name := range g.names {
		of := g.m.Cluster(name)
		if of == nil || of.Spec().Type == Aggregate { // one within another is not followed
			r.of[i].c = of
			continue
		}
		run := of.running()
		r.of[i] = member{of, run}
		if run.own != nil {
			r.parts = append(r.parts, part{c: of, count: healthCount{hosts: 1, healthy: 1, weight: 1, healthyWeight: 1, all: 1}})
			continue
		}
		for p := range run.hosts.top {
			r.parts = append(r.parts, part{set: run.hosts.only(p), count: run.hosts.view.counts[p]})
		}
	}
	if len(r.parts) == 0 {
		return r
	}
	counts := make([]healthCount, len(r.parts))
	for i := range r.parts {
		counts[i] = r.parts[i].count
	}
	l := balanceLoad(counts, (&Assignment{}).policy().overprovisioning, float64(c.env.panicThreshold.Get()))
	for i := range r.parts {
		if percent := l.healthy[i] + l.degraded[i]; percent > 0 {
			r.share = append(r.share, share{priority: i, percent: percent})
		}
	}
	return r
}

// only returns a set of the hosts of one priority.
func (set *hostSet) only(priority int) *hostSet {
	if len(set.top) == 1 {
		return set
	}
	one := &hostSet{env: set.env, all: set.top[priority].hosts, top: set.top[priority : priority+1], policy: set.policy, sources: set.sources}
	one.sort(nil)
	return one
}
