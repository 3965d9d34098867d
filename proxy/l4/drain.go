package l4

import (
	"maps"
	"slices"
	"time"
)

// Remove stops a listener: it accepts no more, its connections are told to drain and
// cut after the drain time. It reports whether there was one.
func (m *Manager) Remove(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.failed, name)
	m.discard(m.warming[name])
	l := m.listeners[name]
	if l == nil {
		return m.removeUDP(name)
	}
	delete(m.listeners, name)
	m.reroute()
	m.closeSockets(l)
	m.stats.Removed.Inc()
	m.stats.Active.Dec()
	m.leave(l)
	return true
}

func (m *Manager) closeSockets(l *Listener) {
	for _, a := range l.socks {
		_ = a.sock.Close() // what was accepted goes on
	}
	if internal := l.Spec().Internal; len(l.socks) > 0 || internal && !l.stopped.Load() {
		m.stats.Stopped.Inc()
	}
	l.stopped.Store(true)
	l.socks = nil
}

// leave drains a removed listener until its last connection has gone.
func (m *Manager) leave(l *Listener) {
	m.leaving[l] = struct{}{}
	m.stats.Draining.Inc()
	cfg := l.cfg.Load()
	left := len(cfg.chains) + 1
	cut := m.after(m.o.DrainTime, func() { l.each((*conn).cut) })
	stop := m.discourage(l)
	gone := func() { // of one chain, or of the connections without one
		m.mu.Lock()
		defer m.mu.Unlock()
		if left--; left > 0 {
			return
		}
		delete(m.leaving, l)
		cut.Stop()
		stop()
		m.stats.Draining.Dec()
		cfg.end()
		l.closeScope()
	}
	l.young.whenEmpty(func() { go gone() })
	for _, c := range cfg.chains {
		c.conns.whenEmpty(func() { go gone() })
	}
}

// retire lets go of the chains that the new version of a listener does not have.
func (l *Listener) retire(before, now *config) {
	m := l.m
	l.logging.Lock()
	for _, f := range slices.Backward(before.retire) {
		f()
	}
	l.logging.Unlock()
	for _, c := range before.chains {
		if slices.Contains(now.chains, c) {
			continue
		}
		m.stats.ChainDraining.Inc()
		m.retired[c] = struct{}{}
		stop := m.drain(&c.conns)
		cut := m.after(m.o.DrainTime, func() { l.cutUnwanted(c) })
		c.conns.whenEmpty(func() {
			stop()
			cut.Stop() // or the chain would be in memory for the whole drain time
			go func() {
				m.mu.Lock()
				delete(m.retired, c)
				m.mu.Unlock()
				m.stats.ChainDraining.Dec()
				c.end()
			}()
		})
	}
}

// cutUnwanted ends the connections of a removed chain for which the listener has no
// chain any more. The others may go on for as long as they live.
func (l *Listener) cutUnwanted(c *chain) {
	cfg := l.cfg.Load()
	c.conns.each(func(x *conn) {
		if !cfg.wants(x) {
			x.cut()
		}
	})
}

// each calls f with all connections of l.
func (l *Listener) each(f func(*conn)) {
	l.young.each(f)
	for _, c := range l.cfg.Load().chains {
		c.conns.each(f)
	}
}

// drain gives the signal to drain to connections: at once, or when the drain time is over
// to those that chance has not ended before (conn.Ending). Who is sure that no connection
// will need it calls stop.
func (m *Manager) drain(l *conns) (stop func()) {
	if !m.o.Gradual || m.o.DrainTime <= 0 {
		l.drain()
		return func() {}
	}
	l.slope.CompareAndSwap(nil, &slope{begun: time.Now(), over: m.o.DrainTime})
	t := m.after(m.o.DrainTime, l.drain)
	return func() { t.Stop() } // too late is as good
}

// after calls f when d has passed, unless the manager is closed before. It is called
// with or without the lock.
func (m *Manager) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		select {
		case <-m.done:
		default:
			f()
		}
	})
}

// Drain stops the listeners, only those with traffic direction INBOUND if inbound,
// tells their connections to drain, and calls done, which may be nil, when the
// listeners have stopped. Graceful means that they accept until the drain time is over.
// Connections are not cut.
func (m *Manager) Drain(inbound, graceful bool, done func()) {
	which := m.directed(inbound)
	stop := func() {
		m.mu.Lock()
		for _, l := range which {
			m.closeSockets(l)
		}
		m.stopUDP(inbound)
		m.mu.Unlock()
		if done != nil {
			done()
		}
	}
	if !graceful {
		stop()
		m.discourage(which...)
		return
	}
	m.discourage(which...)
	m.after(m.o.DrainTime, stop)
}

// Discourage is the first part of a graceful Drain, for who ends the process by other
// means: connections are told to drain, those to come included, and nothing stops.
func (m *Manager) Discourage(inbound bool) { m.discourage(m.directed(inbound)...) }

// directed returns all listeners, or those with traffic direction INBOUND.
func (m *Manager) directed(inbound bool) (which []*Listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.listeners {
		if !inbound || l.Spec().Direction == Inbound {
			which = append(which, l)
		}
	}
	return which
}

// SetHealthy tells whether the process is said to be healthy (/healthcheck/fail, /ok).
// While it is not, listeners drain that are not of drain type MODIFY_ONLY: connections
// are told to finish what is under way, those to come included, and nothing stops.
func (m *Manager) SetHealthy(ok bool) {
	m.mu.Lock()
	changed := m.unhealthy == ok
	m.unhealthy = !ok
	m.mu.Unlock()
	which := slices.DeleteFunc(m.directed(false), func(l *Listener) bool { return l.Spec().DrainModifyOnly })
	switch {
	case changed && ok:
		m.encourage(which)
	case changed: // at once, whatever the drain strategy is
		for _, l := range which {
			l.draining.Store(true)
			for _, c := range l.cfg.Load().chains {
				c.conns.drain()
			}
		}
	}
}

// encourage ends what discourage has begun, for connections to come.
func (m *Manager) encourage(which []*Listener) {
	for _, l := range which {
		l.draining.Store(false)
		for _, c := range l.cfg.Load().chains {
			c.conns.encourage()
		}
	}
}

func (m *Manager) discourage(which ...*Listener) (stop func()) {
	var stops []func()
	for _, l := range which {
		if !m.o.Gradual {
			l.draining.Store(true)
		}
		for _, c := range l.cfg.Load().chains {
			stops = append(stops, m.drain(&c.conns))
		}
	}
	return func() {
		for _, f := range stops {
			f()
		}
	}
}

// Close stops everything: it cuts all connections and returns when the last one has
// ended.
func (m *Manager) Close() {
	m.mu.Lock()
	m.gate.Lock()
	closed := m.closing.Swap(true)
	m.gate.Unlock()
	if closed {
		m.mu.Unlock()
		return
	}
	close(m.done)
	for _, p := range m.warming {
		m.discard(p)
	}
	all := slices.Collect(maps.Keys(m.leaving))
	for _, l := range m.listeners {
		all = append(all, l)
		m.closeSockets(l)
	}
	m.stopUDP(false)
	for c := range m.retired {
		c.conns.each((*conn).cut)
	}
	m.mu.Unlock()
	for _, l := range all {
		l.each((*conn).cut)
	}
	m.wg.Wait()
	m.parker.Close()
	for _, l := range m.listeners {
		l.cfg.Load().end()
		l.closeScope()
	}
	m.closeAllUDP()
	m.scope.Close()
}
