package cluster

import (
	"slices"
	"time"
)

// idleCluster is how long a cluster that can be made again stays in use without a request
// and without a connection: at least so long, at most twice.
const idleCluster = 30 * time.Minute

// expectIdle makes sure that somebody looks for clusters that are idle. The manager's lock
// is held.
func (m *Manager) expectIdle() {
	if m.idleDue {
		return
	}
	if m.idle.run == nil {
		m.idle.run = m.sweepIdle
	}
	m.idleDue = true
	m.agenda.set(&m.idle, time.Now().Add(idleCluster))
}

// sweepIdle gives back what nobody has used since the last time: hosts, pools, counters and
// configuration, until somebody uses the cluster again.
func (m *Manager) sweepIdle() {
	m.mu.Lock()
	defer m.unlock()
	m.idleDue = false
	if m.closed {
		return
	}
	for name, s := range m.slots {
		c := s.active
		if c != nil && c.ondemand && s.warming == nil {
			if c.unwanted() {
				m.idled = append(m.idled, name)
			} else {
				m.expectIdle()
			}
			continue
		}
		if c == nil || s.core == nil || s.warming != nil || !c.givable() {
			continue
		}
		if n := s.core.uses(); n != s.core.usesBefore || s.group.busy() {
			s.core.usesBefore = n
			m.expectIdle()
			continue
		}
		c.giveBack()
	}
}

// unwanted reports whether nobody has used a cluster of Spec.OnDemand since the last time
// that somebody looked. The manager's lock is held.
func (c *Cluster) unwanted() bool {
	before := c.lookedAt
	c.lookedAt = true
	co := c.slot.core
	if co == nil {
		return before
	}
	n := co.uses()
	wanted := n != co.usesBefore || c.slot.group.busy()
	co.usesBefore = n
	return before && !wanted
}

// givable reports whether a cluster can be made again from its bytes, as it was when it was
// not used: nobody follows its hosts, and nothing but traffic keeps it in use.
func (c *Cluster) givable() bool {
	s := c.full.Load()
	if c.thaw == nil || s == nil || s.EDS != "" || c.typ != Static && c.typ != EDS || c.weighing != nil {
		return false
	}
	if local := c.m.options.LocalCluster; local != "" && c.name == local {
		return false
	}
	w := &c.slot.core.watches
	w.mu.Lock()
	defer w.mu.Unlock()
	return !slices.ContainsFunc(w.list, func(w *hostWatch) bool { return !w.passive })
}

// uses changes with every request and connection.
func (c *core) uses() uint64 {
	st := &c.stats
	return st.UpstreamCxTotal.Value() + st.UpstreamCxNoneHealthy.Value() + st.UpstreamCxOverflow.Value() +
		st.UpstreamRqTotal.Value() + st.UpstreamRqPendingTotal.Value() + st.UpstreamRqPendingOverflow.Value()
}

// busy reports whether there are connections, or somebody waits for one.
func (g *group) busy() bool {
	for i := range g.pools {
		p := &g.pools[i]
		p.mu.Lock()
		busy := p.open > 0 || p.waiting > 0
		p.mu.Unlock()
		if busy {
			return true
		}
	}
	return false
}

// giveBack makes of a cluster in use one that was never used. Who got hold of it the moment
// before finishes, and keeps nothing. The manager's lock is held.
func (c *Cluster) giveBack() {
	s := c.slot
	c.making.Lock()
	c.run.Store(nil)
	c.env = nil
	c.making.Unlock()
	s.group.drain()
	s.core.stopOutliers(c.m)
	s.core.stopChecks(c.m)
	if s.core.scope != nil {
		s.core.scope.Close()
	}
	s.group, s.core = nil, nil
	c.freeze()
	if sv := c.m.services[c.service]; c.typ == EDS && sv != nil {
		sv.freeze()
	}
}
