package cluster

import "time"

// expect lets the hosts of a service go if no assignment follows within
// endpoint_stale_after. The manager's lock is held.
func (m *Manager) expect(s *service, a *Assignment) {
	if s.stale != nil {
		m.agenda.cancel(s.stale)
		s.stale = nil
	}
	if a.StaleAfter <= 0 {
		return
	}
	for _, c := range s.users {
		if r := c.run.Load(); r != nil {
			r.core.stats.AssignmentTimeoutReceived.Inc()
		}
	}
	e := &event{}
	e.run = func() {
		m.mu.Lock()
		defer m.unlock()
		if s.stale != e || m.closed {
			return
		}
		s.stale = nil
		s.assignment = &Assignment{Cluster: a.Cluster, Overprovisioning: 140}
		for _, c := range s.users {
			if r := c.run.Load(); r != nil {
				r.core.stats.AssignmentStale.Inc()
			}
			m.assign(c, s.assignment)
		}
	}
	s.stale = e
	m.agenda.set(e, time.Now().Add(a.StaleAfter))
}
