package outlier

import (
	"sync/atomic"
	"time"
)

// Result is what became of an attempt below HTTP, or without it.
type Result uint8

// The results.
const (
	Connected     Result = iota // a connection is there; an answer is still to come
	ConnectedOnly               // a connection is there, and that is all there is to know
	ConnectFailed               // no connection, or it was lost
	TimedOut                    // no answer came in time
)

// Monitor watches the answers of one host. It is made by Detector.Add and safe for
// concurrent use; the nil Monitor does nothing.
type Monitor struct {
	d    *Detector
	host Host

	row   [kinds]atomic.Uint32 // failures in a row, of the consecutive kinds
	rates [2]rate              // of answers, and, where they are told apart, of connections
	trial trial

	// Guarded by the detector's lock.
	ejected, degraded bool
	removed           bool
	ejections         uint32
	why               Kind  // of the last ejection
	backOff           int64 // how many times BaseEjection the next ejection takes, less one
	jitter            time.Duration
	out, back         time.Time // of the last ejection, and of its end; zero: there was none

	degradedAt  time.Time
	degradeOff  int64
	undegraded  time.Time
	degradeWait time.Duration
}

// Host is what a monitor watches.
type Host struct {
	Address string
	// Eject is told whether the host is to be left alone, Degrade whether it is to be used
	// last. They are called with the detector's lock held.
	Eject, Degrade func(on bool)
}

// rate counts successes of an interval. The counters of the interval before are kept
// aside while they are looked at.
type rate struct {
	total, good   atomic.Uint64
	wasAll, wasOK uint64 // guarded by the detector's lock
	percent       float64
}

// swap begins another interval.
func (r *rate) swap() {
	r.wasOK = r.good.Swap(0)
	r.wasAll = max(r.total.Swap(0), r.wasOK)
	r.percent = -1
}

func (r *rate) count(ok bool) {
	r.total.Add(1)
	if ok {
		r.good.Add(1)
	}
}

const (
	external = iota
	local
)

// Code reports the status code of an answer. degraded tells that the host says to be
// degraded (x-envoy-degraded).
func (m *Monitor) Code(code int, degraded bool) {
	if m == nil {
		return
	}
	m.code(code)
	if degraded && m.d.config.Load().Degraded {
		m.d.degrade(m)
	}
}

func (m *Monitor) code(code int) {
	m.rates[external].count(code < 500 || code > 599)
	m.tried(code < 500 || code > 599)
	if code < 500 || code > 599 {
		m.clear(Consecutive5xx)
		m.clear(ConsecutiveGateway)
		return
	}
	if code >= 502 && code <= 504 {
		m.failed(ConsecutiveGateway)
	} else {
		m.clear(ConsecutiveGateway)
	}
	m.failed(Consecutive5xx)
}

// Put reports what became of an attempt. code, if it is not 0, is what clients are told
// of it; it counts unless local failures are told apart.
func (m *Monitor) Put(r Result, code int) {
	if m == nil {
		return
	}
	if m.d.config.Load().Split {
		ok := r == Connected || r == ConnectedOnly
		m.rates[local].count(ok)
		if ok {
			m.clear(ConsecutiveLocal)
		} else {
			m.failed(ConsecutiveLocal)
			m.tried(false)
		}
		return
	}
	switch {
	case code != 0:
		m.code(code)
	case r == ConnectedOnly:
		m.code(200)
	case r == ConnectFailed:
		m.code(503)
	case r == TimedOut:
		m.code(504)
	}
}

// clear is a success. It writes only where there is something to forget, so that hosts
// that are well share no cache line in anger.
func (m *Monitor) clear(k Kind) {
	if m.row[k].Load() != 0 {
		m.row[k].Store(0)
	}
}

func (m *Monitor) failed(k Kind) {
	if uint64(m.row[k].Add(1)) == m.d.values.Load().consecutive[k].Get() {
		m.d.consecutive(m, k)
	}
}
