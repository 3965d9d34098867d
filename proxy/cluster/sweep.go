package cluster

import "time"

// watchAfter is how long a connection is idle before somebody looks whether its host
// closes it. A busy pool never gets there.
const watchAfter = time.Second

// expectSweep makes sure that idle connections are looked after in time: to be
// watched, or to be closed. It is two comparisons on the hot path. The lock is held.
func (p *pool) expectSweep(now time.Duration) {
	lead := watchAfter
	h := &p.group.spec.Load().HTTP
	if t := h.IdleTimeout; t != 0 && t < lead {
		lead = t
	}
	if t := h.MaxConnDuration; t != 0 && t < lead {
		lead = t
	}
	if at := now + lead; at < p.sweepAt {
		p.sweepAt = at
		p.group.m.agenda.set(&p.sweep, p.group.m.start.Add(at))
	}
}

// sweepIdle closes the connections that were idle or open for too long, and has the
// others watched. It runs on the agenda.
func (p *pool) sweepIdle() {
	m, h := p.group.m, &p.group.spec.Load().HTTP
	st := &p.group.core.stats
	now, next := m.now(), never
	var gone []*Conn
	p.mu.Lock()
	var older *node[Conn]
	for n := p.idle.back; n != nil; n = older {
		c := n.owner
		older = n.prev
		idle, open := due(c.idled, h.IdleTimeout), due(c.made, h.MaxConnDuration)
		switch {
		case now >= open:
			st.UpstreamCxMaxDurationReached.Inc()
		case now >= idle:
			st.UpstreamCxIdleTimeout.Inc()
		default:
			next = min(next, idle, open)
			if c.watched || c.multi != nil {
				continue
			}
			if at := c.idled + watchAfter; now < at {
				next = min(next, at)
				continue
			}
			c.watched = true
			m.watch.add(c)
			continue
		}
		c.unlist()
		c.over = true
		gone = append(gone, c)
	}
	p.sweepAt = next
	if next != never {
		m.agenda.set(&p.sweep, m.start.Add(next))
	}
	p.mu.Unlock()
	p.discardAll(gone)
}

func due(since, timeout time.Duration) time.Duration {
	if timeout == 0 {
		return never
	}
	return since + timeout
}

// hungUp is called when the host has closed a connection that was idle.
func (p *pool) hungUp(c *Conn) {
	p.mu.Lock()
	idle := c.byAge.in != nil
	if idle {
		c.unlist()
		c.watched = false
	}
	p.mu.Unlock()
	if idle {
		p.group.m.watch.remove(c)
		p.discard(c, true, false)
	}
}
