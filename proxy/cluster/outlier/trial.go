package outlier

import (
	"sync/atomic"
	"time"
)

// trial is that of a host that is back from an ejection (HalfOpen).
type trial struct {
	left  atomic.Uint32 // successes that it needs; 0: it is not on trial
	open  atomic.Int32  // requests that it has got, and whose result is not known
	begun atomic.Int64  // when it got the last one, Unix nanoseconds
}

// lost is after how long a request that nobody has reported on counts no more: its client
// may have gone, or it was never sent.
const lost = 5 * time.Second

// Admit reports whether the host may get one more request. It always may unless it is on
// trial.
func (m *Monitor) Admit() bool { return m == nil || m.trial.left.Load() == 0 || m.admit(time.Now()) }

func (m *Monitor) admit(now time.Time) bool {
	h := m.d.config.Load().HalfOpen
	if h == nil {
		return true
	}
	t := &m.trial
	if n := t.open.Add(1); n > int32(h.Requests) {
		old := t.begun.Load()
		if now.UnixNano()-old < int64(lost) || !t.begun.CompareAndSwap(old, now.UnixNano()) {
			t.open.Add(-1)
			return false
		}
		t.open.Store(1)
	}
	t.begun.Store(now.UnixNano())
	return true
}

// try puts a host on trial that has come back. The lock is held.
func (d *Detector) try(m *Monitor) {
	h := d.config.Load().HalfOpen
	if h == nil {
		return
	}
	m.trial.open.Store(0)
	m.trial.left.Store(max(h.Successes, 1))
	d.env.Stats.HalfOpen.Inc()
}

// stopTrial ends a trial, if there is one. The lock is held.
func (d *Detector) stopTrial(m *Monitor) {
	if m.trial.left.Swap(0) > 0 {
		d.env.Stats.HalfOpen.Dec()
	}
}

// tried tells a trial, if there is one, how a request has ended.
func (m *Monitor) tried(ok bool) {
	if m.trial.left.Load() == 0 {
		return
	}
	d := m.d
	d.mu.Lock()
	defer d.mu.Unlock()
	t := &m.trial
	if t.left.Load() == 0 || m.removed {
		return
	}
	if t.open.Load() > 0 {
		t.open.Add(-1)
	}
	switch {
	case ok && t.left.Load() > 1:
		t.left.Add(^uint32(0))
	case ok:
		d.stopTrial(m)
		d.env.Stats.HalfOpenPassed.Inc()
	default:
		d.env.Stats.HalfOpenFailed.Inc()
		d.expel(m, m.why, time.Now())
		if !m.ejected { // too many are: it stays on trial
			t.left.Store(max(d.config.Load().HalfOpen.successes(), 1))
		}
	}
}

func (h *HalfOpen) successes() uint32 {
	if h == nil {
		return 0
	}
	return h.Successes
}
