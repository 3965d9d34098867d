package outlier

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Env is what a detector works with.
type Env struct {
	Stats   *Stats
	Runtime *runtime.Runtime // nil: nothing is overridden
	Rand    func() uint64
	// Log is told of every ejection and its end, with the detector's lock held; nil: nobody
	// wants to know.
	Log func(*Event)
}

// Detector watches the hosts of a cluster. It is safe for concurrent use.
type Detector struct {
	env    Env
	config atomic.Pointer[Config]
	values atomic.Pointer[values]

	mu    sync.Mutex
	hosts []*Monitor
	out   int         // how many of them are ejected
	rates [2]Averages // of the last sweep
}

// Averages are what hosts are compared with; -1 is not known.
type Averages struct{ Average, Threshold float64 }

var unknown = Averages{-1, -1}

// New returns a detector without hosts.
func New(c *Config, env Env) *Detector {
	d := &Detector{env: env, rates: [2]Averages{unknown, unknown}}
	d.Configure(c)
	return d
}

// Configure takes another configuration; what is known of the hosts stays.
func (d *Detector) Configure(c *Config) {
	d.values.Store(c.on(d.env.Runtime))
	d.config.Store(c)
}

// Interval is how long after a sweep the next one is due.
func (d *Detector) Interval() time.Duration {
	return max(milliseconds(d.values.Load().interval), time.Millisecond)
}

// Add begins to watch a host.
func (d *Detector) Add(h Host) *Monitor {
	m := &Monitor{d: d, host: h}
	m.rates[external].percent, m.rates[local].percent = -1, -1
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hosts = append(d.hosts, m)
	return m
}

// Remove forgets hosts: those of them that are ejected count no more. Their flags stay as
// they are.
func (d *Detector) Remove(gone []*Monitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range gone {
		if m == nil || m.removed {
			continue
		}
		m.removed = true
		d.stopTrial(m)
		if m.ejected {
			d.out--
			d.env.Stats.Active.Dec()
		}
	}
	kept := d.hosts[:0]
	for _, m := range d.hosts {
		if !m.removed {
			kept = append(kept, m)
		}
	}
	clear(d.hosts[len(kept):])
	d.hosts = kept
}

// Stop lets all hosts come back and forgets them.
func (d *Detector) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.hosts {
		m.removed = true
		d.stopTrial(m)
		if m.ejected {
			d.out--
			d.env.Stats.Active.Dec()
			m.host.Eject(false)
		}
		if m.degraded {
			m.host.Degrade(false)
		}
	}
	d.hosts = nil
}

// consecutive follows failures in a row.
func (d *Detector) consecutive(m *Monitor, k Kind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.removed || m.ejected {
		return
	}
	d.detected(k)
	d.eject(m, k, time.Now())
	if k == Consecutive5xx {
		d.env.Stats.Old5xx.Inc()
	}
	m.row[k].Store(0)
}

func (d *Detector) detected(k Kind) {
	detected, _ := d.env.Stats.of(k)
	detected.Inc()
}

// eject takes a host out, if the limits and enforcing_* allow. The lock is held.
func (d *Detector) eject(m *Monitor, k Kind, now time.Time) {
	st, v := d.env.Stats, d.values.Load()
	if m.ejected {
		return
	}
	if !d.fits(v) {
		st.Overflow.Inc()
		return
	}
	if k == Consecutive5xx || k == SuccessRate {
		st.OldTotal.Inc()
	}
	if !v.enforcing[k].Match(d.env.Rand()) {
		d.log(m, k, false, now)
		return
	}
	_, enforced := st.of(k)
	enforced.Inc()
	d.takeOut(m, k, now)
}

// expel takes a host out that has failed on trial, if the limits allow. The lock is held.
func (d *Detector) expel(m *Monitor, k Kind, now time.Time) {
	switch {
	case m.ejected:
	case d.fits(d.values.Load()):
		d.takeOut(m, k, now)
	default:
		d.env.Stats.Overflow.Inc()
	}
}

// fits reports whether max_ejection_percent allows one more. The lock is held.
func (d *Detector) fits(v *values) bool {
	return 100*float64(d.out+1)/float64(len(d.hosts)) <= float64(min(v.percent.Get(), 100)) ||
		d.config.Load().AlwaysOne && d.out == 0
}

func (d *Detector) takeOut(m *Monitor, k Kind, now time.Time) {
	st, v := d.env.Stats, d.values.Load()
	st.Enforced.Inc()
	st.Active.Inc()
	d.out++
	d.stopTrial(m)
	m.ejected, m.out, m.why = true, now, k
	m.ejections++
	m.jitter = d.jitter(v)
	m.backOff = grown(m.backOff, milliseconds(v.base), milliseconds(v.longest))
	m.host.Eject(true)
	d.log(m, k, true, now)
}

// jitter is by how much an ejection is longer than it had to be.
func (d *Detector) jitter(v *values) time.Duration {
	most := uint64(milliseconds(v.jitter) / time.Millisecond)
	return time.Duration(d.env.Rand()%(most+1)) * time.Millisecond
}

// grown is the number of ejections in short order that times are multiplied by, after one
// more: it grows while that makes a difference.
func grown(n int64, base, longest time.Duration) int64 {
	if base == 0 || n <= int64(longest/base) {
		n++
	}
	return n
}

// back lets a host come back. The lock is held.
func (d *Detector) back(m *Monitor, now time.Time) {
	d.out--
	d.env.Stats.Active.Dec()
	m.ejected, m.back = false, now
	for _, k := range [...]Kind{Consecutive5xx, ConsecutiveGateway, ConsecutiveLocal} {
		m.row[k].Store(0)
	}
	m.host.Eject(false)
	d.logBack(m, now)
}

// CheckPassed lets a host come back at once that an active health check has found well.
func (d *Detector) CheckPassed(m *Monitor) {
	if m == nil || d.config.Load().KeepOnCheck {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.ejected && !m.removed {
		d.back(m, time.Now())
	}
}

// degrade marks a host that says to be degraded. It stays so as long as an ejection takes.
func (d *Detector) degrade(m *Monitor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.removed || m.degraded {
		return
	}
	v := d.values.Load()
	d.env.Stats.DetectedDegradation.Inc()
	m.degraded, m.degradedAt = true, time.Now()
	m.degradeOff = grown(m.degradeOff, milliseconds(v.base), milliseconds(v.longest))
	m.degradeWait = d.jitter(v)
	m.host.Degrade(true)
}
