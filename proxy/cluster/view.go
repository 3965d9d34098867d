package cluster

// view is hosts by priority and health, at one moment: those of a cluster, or of a
// subset of them. It is never changed.
type view struct {
	priorities []priorityHosts
	loads      loads
	share      []share // of the load, in the order in which they are tried; sums to 100
	only       *share  // where all the load goes to one share
	counts     []healthCount
	policy     assignmentPolicy
	empty      bool
	// reprieve says that ejected hosts are used: all others are ill, and panic, in which all
	// hosts are used, was turned off.
	reprieve bool
}

// assignmentPolicy is what of ClusterLoadAssignment.Policy concerns the load of
// priorities.
type assignmentPolicy struct {
	overprovisioning int  // in percent
	weighted         bool // weighted_priority_health
}

func (a *Assignment) policy() assignmentPolicy {
	p := assignmentPolicy{a.Overprovisioning, a.WeightedHealth}
	if p.overprovisioning == 0 {
		p.overprovisioning = 140
	}
	return p
}

// priorityHosts are the hosts of one priority by health.
type priorityHosts struct {
	*members
	healthy, degraded []*Host
	excluded          int
	near              []nearHosts // by locality, where localities count
}

// nearHosts are the hosts of a locality by health.
type nearHosts struct {
	healthy, degraded []*Host
	excluded          int
}

// share is the part of the load that goes to one kind of hosts of one priority.
type share struct {
	priority int
	degraded bool
	percent  int
}

func newView(env *lbEnv, top []members, policy assignmentPolicy) *view {
	v := &view{priorities: make([]priorityHosts, len(top)), policy: policy, empty: true}
	v.counts = make([]healthCount, len(top))
	v.reprieve = env.spec.Outlier != nil && env.panicThreshold.Get() == 0 && allOut(top)
	for i := range top {
		pr := &v.priorities[i]
		pr.members = &top[i]
		pr.healthy, pr.degraded, pr.excluded = byHealth(pr.hosts, v.reprieve)
		v.empty = v.empty && len(pr.hosts) == 0
		v.counts[i] = pr.count(policy.weighted)
		if !env.localities {
			continue
		}
		pr.near = make([]nearHosts, len(pr.localities))
		for j := range pr.localities {
			n := &pr.near[j]
			n.healthy, n.degraded, n.excluded = byHealth(pr.localities[j].hosts, v.reprieve)
		}
	}
	v.balance(env.panicThreshold.Get())
	return v
}

// allOut reports whether all hosts that could be used are ejected: outlier detection alone
// must not leave a cluster without a host.
func allOut(top []members) (out bool) {
	for i := range top {
		for _, h := range top[i].hosts {
			f := h.Flags()
			if !f.unhealthy() {
				return false
			}
			out = out || !(f &^ FailedOutlierCheck).unhealthy()
		}
	}
	return out
}

// byHealth sorts hosts; with reprieve, ejections do not count. Where all are healthy it
// returns the slice that it got.
func byHealth(hosts []*Host, reprieve bool) (healthy, degraded []*Host, excluded int) {
	all := true
	for i, h := range hosts {
		f := h.Flags()
		if reprieve {
			f &^= FailedOutlierCheck
		}
		if f.excluded() {
			excluded++
		}
		if !f.unhealthy() && !f.degraded() {
			if !all {
				healthy = append(healthy, h)
			}
			continue
		}
		if all {
			all = false
			healthy = append(make([]*Host, 0, len(hosts)), hosts[:i]...)
		}
		if f.degraded() {
			degraded = append(degraded, h)
		}
	}
	if all {
		healthy = hosts
	}
	return healthy, degraded, excluded
}

// count returns how many hosts there are, excluded ones aside; weighted counts each by
// its weight.
func (pr *priorityHosts) count(weighted bool) healthCount {
	c := healthCount{
		hosts: len(pr.hosts) - pr.excluded, healthy: len(pr.healthy), degraded: len(pr.degraded),
		all: len(pr.hosts),
	}
	c.weight, c.healthyWeight, c.degradedWeight = c.hosts, c.healthy, c.degraded
	if !weighted {
		return c
	}
	sum := func(hosts []*Host, skip func(*Host) bool) (n int) {
		for _, h := range hosts {
			if skip == nil || !skip(h) {
				n += int(h.weight())
			}
		}
		return n
	}
	c.healthyWeight, c.degradedWeight = sum(pr.healthy, nil), sum(pr.degraded, nil)
	c.weight = sum(pr.hosts, func(h *Host) bool { return h.Flags().excluded() })
	return c
}

// balance computes where the load goes.
func (v *view) balance(panicThreshold uint64) {
	if len(v.priorities) == 0 {
		return
	}
	v.loads = balanceLoad(v.counts, v.policy.overprovisioning, float64(panicThreshold))
	for _, degraded := range []bool{false, true} {
		for i := range v.priorities {
			percent := v.loads.healthy[i]
			if degraded {
				percent = v.loads.degraded[i]
			}
			if percent > 0 {
				v.share = append(v.share, share{i, degraded, percent})
			}
		}
	}
	if len(v.share) == 1 {
		v.only = &v.share[0]
	}
}

// choose returns the share of the load that a number by chance, or a hash, falls into.
func (v *view) choose(n uint64) *share {
	if v.only != nil {
		return v.only
	}
	percentile := int(n % 100)
	for i := range v.share {
		if percentile -= v.share[i].percent; percentile < 0 {
			return &v.share[i]
		}
	}
	return nil
}
