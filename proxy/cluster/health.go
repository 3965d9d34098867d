package cluster

// HealthFlags say what is wrong with a host, and who found that out (Envoy's
// health_flags). 0 is a healthy host.
type HealthFlags uint32

// The flags. Those of discovery are the host's own, the others belong to the health
// checker and to outlier detection.
const (
	FailedActiveHC HealthFlags = 1 << iota
	FailedOutlierCheck
	FailedEDSHealth
	DegradedActiveHC
	DegradedEDSHealth
	PendingDynamicRemoval
	PendingActiveHC // a new host that was not checked yet (ignore_new_hosts_until_first_hc)
	ExcludedViaImmediateHCFail
	ActiveHCTimeout
	EDSStatusDraining
	DegradedOutlierDetection
)

const (
	unhealthyFlags = FailedActiveHC | FailedOutlierCheck | FailedEDSHealth | EDSStatusDraining
	degradedFlags  = DegradedActiveHC | DegradedEDSHealth | DegradedOutlierDetection
	excludedFlags  = PendingActiveHC | ExcludedViaImmediateHCFail | EDSStatusDraining
	edsFlags       = FailedEDSHealth | DegradedEDSHealth | EDSStatusDraining
)

// Flags returns the host's flags of now, those of discovery included.
func (h *Host) Flags() HealthFlags {
	return h.Health.flags() | HealthFlags(h.ep.flags.Load())
}

func (h Health) flags() HealthFlags {
	switch h {
	case Degraded:
		return DegradedEDSHealth
	case Unhealthy, TimedOutHost:
		return FailedEDSHealth
	case DrainingHost:
		return EDSStatusDraining
	}
	return 0
}

func (f HealthFlags) unhealthy() bool { return f&unhealthyFlags != 0 }
func (f HealthFlags) degraded() bool  { return f&degradedFlags != 0 && !f.unhealthy() }
func (f HealthFlags) excluded() bool  { return f&excludedFlags != 0 }

// Status is the health of a host in one word, whoever has found it: what
// override_host_status and dumps call it.
func (h *Host) Status() Health {
	switch f := h.Flags(); {
	case f&(FailedActiveHC|FailedOutlierCheck) != 0:
		return Unhealthy
	case h.Health.flags().unhealthy():
		return h.Health
	case f&DegradedActiveHC != 0:
		return Degraded
	}
	return h.Health
}

// SetFlags changes the flags of a host: those of clear go, those of set come. From then
// on picks obey. It is for the health checker and for outlier detection; flags of
// discovery are not theirs. It may be called by many at a time, and from a request: what
// it takes grows with the number of hosts only where that is small.
func (c *Cluster) SetFlags(h *Host, set, clear HealthFlags) { c.setFlags(h.ep, set, clear) }

func (c *Cluster) setFlags(ep *endpoint, set, clear HealthFlags) {
	set, clear = set&^edsFlags, clear&^edsFlags
	for {
		old := ep.flags.Load()
		now := old&^uint32(clear) | uint32(set)
		if old == now {
			return
		}
		if !ep.flags.CompareAndSwap(old, now) {
			continue
		}
		was, is := HealthFlags(old), HealthFlags(now)
		if was.unhealthy() && !is.unhealthy() {
			ep.healthySince.Store(int64(c.m.now()) + 1)
		}
		if !was.unhealthy() && is.unhealthy() {
			ep.failed(c.Spec().CloseOnHostFailure)
		}
		if was.unhealthy() != is.unhealthy() || was.degraded() != is.degraded() || was.excluded() != is.excluded() {
			c.healthChanged()
		}
		return
	}
}

// sortAtOnce is up to how many hosts a change of health sorts them again before it
// returns. More are sorted in the background; until that is done, picks pass over hosts
// that have become unhealthy.
const sortAtOnce = 512

func (c *Cluster) healthChanged() {
	newest := c.running().core.newest.Load()
	if newest == nil {
		return
	}
	if newest.running().core.stats.MembershipTotal.Value() <= sortAtOnce {
		newest.sortHosts()
		return
	}
	if newest.sorting.CompareAndSwap(false, true) {
		newest.m.goWork(func() {
			newest.sorting.Store(false)
			newest.sortHosts()
		})
	}
}

// sortHosts makes the host set again, of the same hosts.
func (c *Cluster) sortHosts() {
	c.making.Lock()
	defer c.making.Unlock()
	old := c.run.Load()
	switch {
	case old == nil:
		return
	case old.own != nil:
		old.own.recount()
		return
	}
	r := &running{core: old.core, group: old.group, hosts: old.hosts.again()}
	r.showMembers(old.hosts)
	c.run.Store(r)
	c.neighboursChanged()
}
