package cluster

import "time"

// merging puts off changes of hosts that are still the same ones, but for their health,
// weight or metadata, as long as update_merge_window says. The manager's lock guards it.
type merging struct {
	last    time.Time // when the hosts were last changed
	later   event
	pending bool
}

// follow makes the hosts of a cluster in use what it was assigned, now or at the end of
// the window. The manager's lock is held.
func (m *Manager) follow(c *Cluster) {
	window := c.Spec().MergeWindow
	if window <= 0 {
		m.rebuild(c)
		return
	}
	w, now := &c.merge, time.Now()
	mergeable, inside := c.sameAddresses(), now.Sub(w.last) <= window
	if mergeable && inside {
		if !w.pending {
			w.pending = true
			w.later.run = func() { m.merged(c) }
			m.agenda.set(&w.later, now.Add(window))
		}
		return
	}
	if mergeable {
		m.stats.OutOfMergeWindow.Inc()
	}
	if w.pending {
		w.pending = false
		m.agenda.cancel(&w.later)
		m.stats.MergeCancelled.Inc()
	}
	w.last = now
	m.rebuild(c)
}

// merged is the end of the window.
func (m *Manager) merged(c *Cluster) {
	m.mu.Lock()
	defer m.unlock()
	if !c.merge.pending || c.ended || c.run.Load() == nil || m.closed {
		return
	}
	c.merge.pending, c.merge.last = false, time.Now()
	m.stats.UpdatedViaMerge.Inc()
	m.rebuild(c)
}

// sameAddresses reports whether what a cluster was assigned are the hosts that it has.
func (c *Cluster) sameAddresses() bool {
	c.melt()
	has, n := c.run.Load().hosts.sources, 0
	for i := range c.assigned.Localities {
		l := &c.assigned.Localities[i]
		for j := range l.Hosts {
			h := has[l.Hosts[j].key(c.Spec())]
			if h == nil || h.Priority != l.Priority {
				return false
			}
			n++
		}
	}
	return n == len(has)
}
