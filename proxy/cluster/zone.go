package cluster

import (
	"github.com/mecha-mesh/mecha/proxy/cluster/lb"
)

// localHosts returns the hosts of the cluster that this proxy belongs to, nil if it is
// not known.
func (env *lbEnv) localHosts() *priorityHosts {
	c := env.m.Cluster(env.m.options.LocalCluster)
	if c == nil {
		return nil
	}
	r := c.run.Load()
	if r == nil || r.own != nil || len(r.hosts.view.priorities) == 0 {
		return nil
	}
	return &r.hosts.view.priorities[0]
}

// zones computes zone aware routing for the hosts of priority 0.
func (env *lbEnv) zones(p *LocalityLB, pr *priorityHosts) lb.Zones {
	st := &env.core.lb
	st.LBRecalculateZoneStructures.Inc()
	ours := env.localHosts()
	direct := env.direct.Get()
	if p.ForceLocal > 0 && pr.local && len(pr.near[0].healthy) >= int(p.ForceLocal) {
		direct = true
	}
	switch {
	case len(pr.near) < 2, ours == nil, len(ours.localities) < 2 && !direct:
		return lb.Zones{}
	case !ours.local:
		st.LBLocalClusterNotOK.Inc()
		return lb.Zones{}
	case len(pr.healthy) < int(env.minClusterSize.Get()):
		st.LBZoneClusterTooSmall.Inc()
		return lb.Zones{}
	}
	size := func(hosts []*Host) (n int) {
		if !p.ByHostWeight {
			return len(hosts)
		}
		for _, h := range hosts {
			n += int(h.weight())
		}
		return n
	}
	counts := map[LocalityName]int{}
	total := 0
	for i := range ours.near {
		n := size(ours.near[i].healthy)
		counts[ours.localities[i].LocalityName] = n
		total += n
	}
	zones := make([]lb.Zone, len(pr.near))
	for i := range zones {
		zones[i] = lb.Zone{Upstream: size(pr.near[i].healthy), Local: counts[pr.localities[i].LocalityName]}
	}
	return lb.NewZones(zones, total, pr.local, direct)
}

// zone returns the locality of a pick, -1 if zones don't count for it. ok is false if
// there may be no pick.
func (s *spread) zone() (near int, ok bool) {
	env, st := s.env, &s.env.core.lb
	if !env.zoneRouting.Match(env.m.rnd()) {
		return -1, true
	}
	if ours := env.localHosts(); ours == nil || ours.panics(env) {
		st.LBLocalClusterNotOK.Inc()
		return -1, !s.policy.Locality.FailTrafficOnPanic
	}
	if s.zones.State == lb.LocalZone {
		st.LBZoneRoutingAllDirectly.Inc()
		return 0, true
	}
	near, route := s.zones.Choose(env.m.rnd)
	switch route {
	case lb.Sampled:
		st.LBZoneRoutingSampled.Inc()
	case lb.NoCapacityLeft:
		st.LBZoneNoCapacityLeft.Inc()
		fallthrough
	case lb.CrossZone:
		st.LBZoneRoutingCrossZone.Inc()
	}
	return near, true
}

// panics reports whether too few of the hosts are healthy.
func (pr *priorityHosts) panics(env *lbEnv) bool {
	c := pr.count(false)
	return c.usable() < float64(min(100, env.panicThreshold.Get()))
}

// neighboursChanged computes zone aware routing anew for all clusters in use, if c is the
// cluster that this proxy belongs to.
func (c *Cluster) neighboursChanged() {
	m := c.m
	if m.options.LocalCluster == "" || c.name != m.options.LocalCluster {
		return
	}
	m.goWork(func() {
		m.mu.Lock()
		var others []*Cluster
		for _, s := range m.slots {
			if s.active != nil && s.active != c && s.active.run.Load() != nil {
				others = append(others, s.active)
			}
		}
		m.mu.Unlock()
		for _, o := range others {
			o.sortHosts()
		}
	})
}

// useLocal lets the cluster that this proxy belongs to be in use, so that its hosts are
// known. The manager's lock is held.
func (m *Manager) useLocal(c *Cluster) {
	if m.options.LocalCluster != "" && c.name == m.options.LocalCluster {
		m.started(c)
	}
}
