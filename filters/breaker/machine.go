package breaker

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// state of a machine.
type state uint32

const (
	closed   state = iota // requests go on
	open                  // they are refused
	halfOpen              // a few go on, to see how they end
)

// machine is one circuit breaker. While it is closed it takes no lock.
type machine struct {
	limits   *Limits
	counters *counters

	state atomic.Uint32
	row   atomic.Uint32 // failures in a row
	until atomic.Int64  // when an open machine is to be half open, Unix nanoseconds
	seen  *stats.Recent // requests and successes; nil: the rate does not count

	mu     sync.Mutex // for what follows, and for changes of the state
	turn   uint64     // counts changes: what began before one says nothing about what is now
	probes uint32     // requests under way while half open
	good   uint32     // successes in a row while half open
	opened uint32     // how often in a row it was opened
}

func newMachine(l *Limits, n *counters, now time.Time) *machine {
	m := &machine{limits: l, counters: n}
	if l.Percentage > 0 {
		m.seen = stats.NewRecent(l.Window, time.Second, now)
	}
	return m
}

// pass is a request that was let through.
type pass struct {
	probe bool
	turn  uint64 // of a probe
}

// admit asks whether a request may go on. If it may, done or cancel is to be called with
// what it returns. If not, wait is how long none will.
func (m *machine) admit(now time.Time) (p pass, ok bool, wait time.Duration) {
	switch state(m.state.Load()) {
	case closed:
		return pass{}, true, 0
	case open:
		if wait = time.Duration(m.until.Load() - now.UnixNano()); wait > 0 {
			return pass{}, false, wait
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch s := state(m.state.Load()); {
	case s == closed:
		return pass{}, true, 0
	case s == open:
		if wait = time.Duration(m.until.Load() - now.UnixNano()); wait > 0 {
			return pass{}, false, wait
		}
		m.become(halfOpen)
		m.counters.HalfOpened.Inc()
	}
	if m.probes >= m.limits.Probes {
		return pass{}, false, 0
	}
	m.probes++
	m.counters.Probes.Inc()
	return pass{true, m.turn}, true, 0
}

// cancel ends a request that says nothing.
func (m *machine) cancel(p pass) {
	if !p.probe {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.turn == m.turn {
		m.probes--
	}
}

// done ends a request.
func (m *machine) done(p pass, success bool, now time.Time) {
	if p.probe {
		m.probed(p, success, now)
		return
	}
	if m.seen != nil {
		m.seen.Add(now, success)
	}
	if success {
		if m.row.Load() != 0 {
			m.row.Store(0)
		}
		return
	}
	row := m.row.Add(1)
	if l := m.limits; l.Consecutive > 0 && row >= l.Consecutive || m.fails(now) {
		m.trip(now)
	}
}

// fails reports whether too large a share of the requests of late has failed.
func (m *machine) fails(now time.Time) bool {
	if m.seen == nil {
		return false
	}
	total, good, _ := m.seen.Sums(now)
	return total >= uint64(m.limits.Requests) && float64(total-good)*100 >= m.limits.Percentage*float64(total)
}

// trip opens a closed machine.
func (m *machine) trip(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if state(m.state.Load()) == closed {
		m.open(now)
	}
}

// open opens a machine for a while, each time in a row for twice as long. The lock is held.
func (m *machine) open(now time.Time) {
	d := m.limits.OpenTime
	for range min(m.opened, 62) {
		if d *= 2; d >= m.limits.MaxOpenTime || d <= 0 {
			d = m.limits.MaxOpenTime
			break
		}
	}
	m.opened++
	m.until.Store(now.Add(d).UnixNano())
	m.become(open)
	m.counters.Opened.Inc()
}

// probed ends a request that was let through while half open.
func (m *machine) probed(p pass, success bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.turn != m.turn {
		return
	}
	m.probes--
	if !success {
		m.open(now)
		return
	}
	if m.good++; m.good < m.limits.Successes {
		return
	}
	m.opened = 0
	m.row.Store(0)
	if m.seen != nil {
		m.seen.Reset(now)
	}
	m.become(closed)
	m.counters.Closed.Inc()
}

// become changes the state. The lock is held.
func (m *machine) become(s state) {
	m.gauge(-1)
	m.turn++
	m.probes, m.good = 0, 0
	m.state.Store(uint32(s))
	m.gauge(1)
}

func (m *machine) gauge(n int64) {
	switch state(m.state.Load()) {
	case open:
		m.counters.Open.Add(n)
	case halfOpen:
		m.counters.HalfOpen.Add(n)
	}
}

// retire takes the machine out of the gauges.
func (m *machine) retire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.become(closed)
}
