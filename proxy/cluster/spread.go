package cluster

import (
	"github.com/mecha-mesh/mecha/proxy/cluster/lb"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// lbEnv is what balancers of a version of a cluster share.
type lbEnv struct {
	m          *Manager
	spec       *Spec
	core       *core
	localities bool // count for something

	panicThreshold runtime.UintValue
	zoneRouting    runtime.FractionValue
	minClusterSize runtime.UintValue
	direct         runtime.FlagValue
}

func newLBEnv(m *Manager, s *Spec, c *core) *lbEnv {
	rt := m.options.Runtime
	near := s.Policy.localityLB()
	env := &lbEnv{m: m, spec: s, core: c, localities: near.Weighted || m.options.LocalCluster != ""}
	env.panicThreshold = runtime.UintSetting{Key: "upstream.healthy_panic_threshold", Default: s.panicThreshold()}.On(rt)
	env.zoneRouting = runtime.FractionSetting{Key: "upstream.zone_routing.enabled", Default: near.Enabled}.On(rt)
	env.minClusterSize = runtime.UintSetting{Key: "upstream.zone_routing.min_cluster_size", Default: near.MinClusterSize}.On(rt)
	env.direct = runtime.FlagSetting{Key: "upstream.zone_routing.force_locality_direct_routing", Default: near.Direct}.On(rt)
	return env
}

// localityLB returns how localities count for the policy that chooses hosts.
func (p *Policy) localityLB() *LocalityLB {
	for p.Child != nil {
		p = p.Child
	}
	return &p.Locality
}

// newBalancer makes the balancer of a policy for a view of hosts. before is that of the
// hosts until now, nil if there is none.
func newBalancer(env *lbEnv, p *Policy, set *hostSet, v *view, before balancer) balancer {
	switch p.Kind {
	case SubsetLB:
		return newSubsets(env, p, set, v, before)
	case OverrideHostLB:
		child, _ := before.(*overrideHosts)
		return &overrideHosts{set, p, newBalancer(env, p.Child, set, v, child.fallback())}
	case RingHashLB, MaglevLB:
		old, _ := before.(*hashed)
		return newHashed(env, p, v, old)
	}
	return newSpread(env, p, v)
}

// spread spreads the load over priorities, localities and hosts, in this order.
type spread struct {
	env        *lbEnv
	policy     *Policy
	view       *view
	priorities []spreadPriority
	zones      lb.Zones // of priority 0
}

// spreadPriority are the pickers of a priority.
type spreadPriority struct {
	all, healthy, degraded lazyPicker
	near                   []nearPickers
	byHealthy, byDegraded  *weighedLocalities
}

// nearPickers are the pickers of a locality.
type nearPickers struct{ healthy, degraded lazyPicker }

func newSpread(env *lbEnv, p *Policy, v *view) *spread {
	s := &spread{env: env, policy: p, view: v, priorities: make([]spreadPriority, len(v.priorities))}
	for i := range s.priorities {
		pr, of := &s.priorities[i], &v.priorities[i]
		pr.all.hosts, pr.healthy.hosts, pr.degraded.hosts = of.hosts, of.healthy, of.degraded
		if p.Locality.Weighted && of.weights {
			pr.byHealthy = weighLocalities(of, v.policy.overprovisioning, env.m.rnd, false)
			pr.byDegraded = weighLocalities(of, v.policy.overprovisioning, env.m.rnd, true)
		}
		pr.near = make([]nearPickers, len(of.near))
		for j := range of.near {
			pr.near[j].healthy.hosts, pr.near[j].degraded.hosts = of.near[j].healthy, of.near[j].degraded
		}
	}
	if env.m.options.LocalCluster != "" && len(v.priorities) > 0 {
		s.zones = env.zones(&p.Locality, &v.priorities[0])
	}
	return s
}

// pick chooses a host; nil if there is none.
func (s *spread) pick(a *Attempt, _ int) (h *Host, panicked bool) {
	if len(s.priorities) == 0 {
		s.env.core.stats.LBHealthyPanic.Inc() // as Envoy has it: no hosts are too few
		return nil, true
	}
	sh := s.view.retryShare(a, s.env)
	if sh == nil {
		sh = s.view.choose(s.env.m.rnd() >> 32)
	}
	if sh == nil {
		return nil, true
	}
	pr := &s.priorities[sh.priority]
	if s.view.loads.panics[sh.priority] {
		s.env.core.stats.LBHealthyPanic.Inc()
		if s.policy.Locality.FailTrafficOnPanic {
			return nil, true
		}
		return pr.all.pick(s), true
	}
	return pr.source(s, sh).pick(s), false
}

// source returns the hosts that a pick chooses among; an empty picker if there are none.
func (pr *spreadPriority) source(s *spread, sh *share) *lazyPicker {
	by, flat := pr.byHealthy, &pr.healthy
	if sh.degraded {
		by, flat = pr.byDegraded, &pr.degraded
	}
	near := -1
	if by != nil {
		near = by.next()
	} else if sh.priority == 0 && s.zones.State != lb.AnyZone {
		var ok bool
		if near, ok = s.zone(); !ok {
			return &noHosts
		}
	}
	switch {
	case near < 0:
		return flat
	case sh.degraded:
		return &pr.near[near].degraded
	}
	return &pr.near[near].healthy
}

// noHosts is nobody. It is never changed.
var noHosts lazyPicker

// retryShare is previous_priorities, nil if it has nothing to say.
func (v *view) retryShare(a *Attempt, env *lbEnv) *share {
	if a == nil || a.UpdateFrequency == 0 {
		return nil
	}
	l := v.previousPriorities(a.Tried, a.UpdateFrequency)
	if l == nil {
		return nil
	}
	sh := l.choose(int(env.m.rnd()>>32) % 100)
	return &sh
}

// weighedLocalities chooses a locality by its weight, lessened where hosts of it are
// not to be had.
type weighedLocalities struct {
	at []int // in the view's order
	by *lb.Schedule
}

func weighLocalities(pr *priorityHosts, overprovisioning int, rnd func() uint64, degraded bool) *weighedLocalities {
	w := &weighedLocalities{}
	var weights []float64
	for i := range pr.near {
		n := &pr.near[i]
		fit, all := len(n.healthy), len(pr.localities[i].hosts)-n.excluded
		if degraded {
			fit = len(n.degraded)
		}
		if all <= 0 || fit == 0 || pr.localities[i].weight == 0 {
			continue
		}
		part := min(1, float64(overprovisioning)/100*float64(fit)/float64(all))
		w.at, weights = append(w.at, i), append(weights, float64(pr.localities[i].weight)*part)
	}
	if len(w.at) == 0 {
		return nil
	}
	w.by = lb.NewSchedule(len(weights), rnd(), func(i int) float64 { return weights[i] })
	return w
}

func (w *weighedLocalities) next() int { return w.at[w.by.Next()] }

// lbStats count what zone aware routing and subsets do.
type lbStats struct {
	LBRecalculateZoneStructures stats.Counter `stat:"lb_recalculate_zone_structures" help:"Times that zone aware routing was computed."`
	LBLocalClusterNotOK         stats.Counter `stat:"lb_local_cluster_not_ok" help:"Times that the own cluster did not allow zone aware routing."`
	LBZoneClusterTooSmall       stats.Counter `stat:"lb_zone_cluster_too_small" help:"Times that zone aware routing was not done because the cluster is small."`
	LBZoneNoCapacityLeft        stats.Counter `stat:"lb_zone_no_capacity_left" help:"Picks in any zone because of rounding."`
	LBZoneRoutingAllDirectly    stats.Counter `stat:"lb_zone_routing_all_directly" help:"Picks in the own zone, to which everything goes."`
	LBZoneRoutingSampled        stats.Counter `stat:"lb_zone_routing_sampled" help:"Picks in the own zone, to which a part goes."`
	LBZoneRoutingCrossZone      stats.Counter `stat:"lb_zone_routing_cross_zone" help:"Picks in other zones."`
	LBSubsetsActive             stats.Gauge   `stat:"lb_subsets_active" help:"Subsets."`
	LBSubsetsCreated            stats.Counter `stat:"lb_subsets_created" help:"Subsets that came."`
	LBSubsetsRemoved            stats.Counter `stat:"lb_subsets_removed" help:"Subsets that went."`
	LBSubsetsSelected           stats.Counter `stat:"lb_subsets_selected" help:"Picks in a subset."`
	LBSubsetsFallback           stats.Counter `stat:"lb_subsets_fallback" help:"Picks in the fallback subset."`
	LBSubsetsFallbackPanic      stats.Counter `stat:"lb_subsets_fallback_panic" help:"Picks among all hosts because the fallback subset had none."`
	LBSubsetsSingleDuplicate    stats.Gauge   `stat:"lb_subsets_single_host_per_subset_duplicate" help:"Hosts left out because their single_host_per_subset subset has one."`
}
