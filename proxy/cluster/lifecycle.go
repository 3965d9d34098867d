package cluster

import (
	"slices"
	"time"
)

// The life of a version: begin looks for its hosts, assign brings them, activate puts
// it in the place of the version before, started makes what it needs on first use, end
// is when it is replaced or removed. The manager's lock is held in all of them.

// begin starts the discovery of a warming cluster.
func (m *Manager) begin(c *Cluster) {
	s := c.Spec()
	switch s.Type {
	case EDS:
		sv := m.service(s.service())
		sv.users = append(sv.users, c)
		if sv.assignment != nil {
			m.assign(c, sv.assignment)
			return
		}
		c.awaitAssignment()
	case StrictDNS, LogicalDNS:
		m.lookUp(c)
	case OriginalDestination, DynamicForward, Aggregate:
		m.assign(c, &Assignment{})
	default:
		a := s.Assignment
		if a == nil {
			a = &Assignment{}
		}
		m.assign(c, a)
	}
}

func (s *Spec) service() string {
	if s.ServiceName != "" {
		return s.ServiceName
	}
	return s.Name
}

// awaitAssignment makes the cluster usable, without hosts, when no assignment has come
// in time.
func (c *Cluster) awaitAssignment() {
	wait := c.Spec().InitialFetchTimeout
	if wait == 0 {
		wait = 15 * time.Second
	}
	if wait < 0 {
		return
	}
	m := c.m
	c.timeout = &event{run: func() {
		m.mu.Lock()
		defer m.unlock()
		if c.slot.warming != c || c.assigned != nil {
			return
		}
		c.goOnWithout(true)
	}}
	m.agenda.set(c.timeout, time.Now().Add(wait))
}

// goOnWithout ends the wait for endpoints.
func (c *Cluster) goOnWithout(late bool) {
	c.m.log.Warn("no endpoints came for a cluster; it goes on without", "cluster", c.name, "late", late)
	c.m.assign(c, &Assignment{})
	if late {
		c.m.started(c).core.stats.InitFetchTimeout.Inc()
	}
}

// assign gives a version its hosts.
func (m *Manager) assign(c *Cluster, a *Assignment) {
	c.assigned = a
	if c.timeout != nil {
		m.agenda.cancel(c.timeout)
		c.timeout = nil
	}
	switch {
	case c.slot.warming == c:
		m.warmed(c)
	case c.run.Load() != nil:
		m.follow(c)
	}
}

// warmed puts a version in its place that has all it waited for.
func (m *Manager) warmed(c *Cluster) {
	if c.assigned != nil && len(c.awaits) == 0 {
		m.activate(c)
		m.count()
	}
}

// Arrived ends the wait for something that clusters named in Spec.Awaits: it is there, or
// will not come.
func (m *Manager) Arrived(number uint64) {
	m.mu.Lock()
	defer m.unlock()
	for _, s := range m.slots {
		c := s.warming
		if c == nil || !slices.Contains(c.awaits, number) {
			continue
		}
		c.awaits = slices.DeleteFunc(c.awaits, func(n uint64) bool { return n == number })
		m.warmed(c)
	}
}

// activate puts a version that has hosts in its place. The one before it lives on
// only for who uses it.
func (m *Manager) activate(c *Cluster) {
	s := c.slot
	old := s.active
	s.active, s.warming = c, nil
	m.warming--
	if old == nil {
		m.active++
	} else {
		m.end(old)
		if old.run.Load() != nil {
			m.started(c) // go on with what it has
		}
	}
	m.useLocal(c)
	if c.ondemand {
		m.expectIdle()
	}
	wait := m.awaitChecks(c, old == nil)
	c.freeze()
	if !wait {
		m.usable(s)
	}
}

// usable lets everybody find the version in place.
func (m *Manager) usable(s *slot) {
	if s.core != nil {
		s.core.stats.WarmingState.Set(0)
	}
	m.ready.Store(s.name, s.active)
	if warmed := s.active.warmed; warmed != nil {
		warmed()
	}
	m.called = append(m.called, s.name)
}

// startNow is called when a cluster is used for the first time.
func (m *Manager) startNow(c *Cluster) *running {
	m.mu.Lock()
	defer m.unlock()
	return m.started(c)
}

func (m *Manager) started(c *Cluster) *running {
	if r := c.run.Load(); r != nil {
		return r
	}
	s := c.slot
	if m.closed || m.slots[s.name] != s || s.active != c {
		return m.startedLate(c)
	}
	if s.core == nil {
		if c.thaw != nil {
			m.expectIdle()
		}
		s.core = newCore(m.scope, c.Spec())
		s.core.maintenance = maintenance(c.Spec(), m.options.Runtime)
		if m.options.Built != nil {
			m.options.Built()
		}
	}
	s.core.follow(c.Spec())
	s.core.watchOutliers(m, c.Spec())
	s.core.startChecks(m, s, c.Spec())
	before := s.group
	if before != nil && sameWay(before.spec.Load(), c.Spec()) {
		before.spec.Store(c.Spec())
		c.use(before)
		before.adjust()
		return c.run.Load()
	}
	s.group = newGroup(m, s.core, c.Spec())
	c.use(s.group)
	if before != nil {
		before.drain()
	}
	return c.run.Load()
}

// startedLate is started for a version that somebody got hold of before it was
// replaced or removed: it works, but keeps nothing.
func (m *Manager) startedLate(c *Cluster) *running {
	core := c.slot.core
	if core == nil {
		core = newCore(nil, c.Spec())
	}
	g := newGroup(m, core, c.Spec())
	g.drain()
	c.use(g)
	return c.run.Load()
}

// use makes what a version needs to work with the connections of a group.
func (c *Cluster) use(g *group) {
	c.making.Lock()
	defer c.making.Unlock()
	c.melt()
	r := &running{core: g.core, group: g}
	c.env = newLBEnv(c.m, c.Spec(), g.core)
	if c.slot.active == c { // and not one that is used late
		g.core.newest.Store(c)
		c.m.changed = append(c.m.changed, g.core)
	}
	switch s := c.Spec(); s.Type {
	case OriginalDestination:
		r.own = g.originals()
		r.hosts = &hostSet{env: c.env, view: &view{}}
	case DynamicForward:
		r.own = g.forwards(s)
		r.hosts = &hostSet{env: c.env, view: &view{}}
	case Aggregate:
		r.own = &aggregate{m: c.m, names: s.Clusters}
		r.hosts = &hostSet{env: c.env, view: &view{}}
	default:
		r.hosts = newHostSet(g, c.env, c.hostsOf(s), nil)
		r.showMembers(nil)
	}
	c.run.Store(r)
	c.neighboursChanged()
	c.startWeighing()
}

// rebuild follows a change of the hosts.
func (m *Manager) rebuild(c *Cluster) {
	c.making.Lock()
	defer c.making.Unlock()
	c.melt()
	old := c.run.Load()
	r := &running{core: old.core, group: old.group}
	r.hosts = newHostSet(r.group, c.env, c.assigned, old.hosts)
	r.showMembers(old.hosts)
	c.run.Store(r)
	m.changed = append(m.changed, r.core)
	c.neighboursChanged()
	if r.hosts.env.spec.CloseOnChange && !sameMembers(old.hosts, r.hosts) {
		for i := range r.group.pools {
			r.group.pools[i].renew()
		}
	}
	m.stats.Updated.Inc()
}

// showMembers sets the membership gauges.
func (r *running) showMembers(old *hostSet) {
	st := &r.core.stats
	healthy, degraded, excluded, weight := 0, 0, 0, uint32(0)
	for i := range r.hosts.view.priorities {
		pr := &r.hosts.view.priorities[i]
		healthy += len(pr.healthy)
		degraded += len(pr.degraded)
		excluded += pr.excluded
	}
	if r.hosts.view.reprieve {
		healthy = 0 // they are used, and not well
	}
	for _, h := range r.hosts.all {
		weight = max(weight, h.weight())
	}
	st.MembershipExcluded.Set(int64(excluded))
	st.MembershipTotal.Set(int64(len(r.hosts.all)))
	st.MembershipHealthy.Set(int64(healthy))
	st.MembershipDegraded.Set(int64(degraded))
	st.MaxHostWeight.Set(int64(weight))
	if old == nil && len(r.hosts.all) > 0 || old != nil && !sameMembers(old, r.hosts) {
		st.MembershipChange.Inc()
	}
}

func sameMembers(a, b *hostSet) bool {
	return slices.EqualFunc(a.all, b.all, func(x, y *Host) bool { return x.ep == y.ep })
}

// end stops the discovery of a version.
func (m *Manager) end(c *Cluster) {
	c.ended = true
	if c.weighing != nil {
		m.agenda.cancel(c.weighing)
	}
	m.agenda.cancel(&c.merge.later)
	if c.timeout != nil {
		m.agenda.cancel(c.timeout)
	}
	if c.names != nil {
		c.names.stop()
	}
	sv := m.services[c.service]
	if c.typ != EDS || sv == nil {
		return
	}
	sv.users = slices.DeleteFunc(sv.users, func(u *Cluster) bool { return u == c })
	if len(sv.users) == 0 {
		if sv.stale != nil {
			m.agenda.cancel(sv.stale)
		}
		delete(m.services, c.service)
	}
}

// count sets the manager's gauges.
func (m *Manager) count() {
	m.stats.Active.Set(int64(m.active - m.checking))
	m.stats.Warming.Set(int64(m.warming + m.checking))
}
