package adaptiveconcurrency

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// controller finds the limit. Each window ends in an update, and counts only requests that
// began in it: what a limit does is seen in requests that were admitted under it.
//
// The limit follows Envoy's gradient: it is multiplied by how much longer requests took
// than one does that waits for no other, plus a buffer, and gets a square root of room for
// bursts. What that base time is, Envoy finds out by letting hardly anything through, at
// intervals. Here three rules do (see RATIONALE.md):
//
//   - the least time seen in a sliding interval counts, as long as there was a moment in it
//     in which the limit was not in use;
//   - a limit that was halved and requests that take as long as before: the base has
//     changed, and is what they take now;
//   - where the limit was in use all the time, it is lowered in small steps while as much
//     gets done as before; what requests take then may lower the base, never raise it.
type controller struct {
	config   Gradient
	counters *counters
	random   func() float64

	limit  atomic.Int64
	flight atomic.Int64
	peak   atomic.Int64 // most that were in flight in this window
	epoch  atomic.Int64 // when the window began, nanoseconds since begin
	begin  time.Time
	times  latencies

	mu    sync.Mutex // for what follows, held by who updates
	exact float64    // the limit
	base  base
	fall  fall
	probe probe
}

// first is the limit to begin with, as long as nothing is known.
const first = 20

// few is how many samples a window has at least, unless it takes Interval.
const few = 10

func newController(g Gradient, n *counters, now time.Time, random func() float64) *controller {
	c := &controller{config: g, counters: n, random: random, begin: now}
	c.exact = float64(max(g.Least, min(g.Most, max(first, g.Few))))
	c.base.init(g, now)
	c.probe.next = now.Add(c.pause())
	c.limit.Store(int64(c.exact))
	c.tell(0, 0)
	return c
}

// pause is how long the limit may be in use before it is probed.
func (c *controller) pause() time.Duration {
	return c.config.Interval + time.Duration(c.random()*c.config.Jitter*float64(c.config.Interval))
}

// admit reports whether one more request may be under way. done or cancel ends it.
func (c *controller) admit() bool {
	n := c.flight.Add(1)
	if n > c.limit.Load() {
		c.flight.Add(-1)
		c.counters.Blocked.Inc()
		return false
	}
	for {
		old := c.peak.Load()
		if n <= old || c.peak.CompareAndSwap(old, n) {
			return true
		}
	}
}

// cancel ends a request that says nothing of how long requests take.
func (c *controller) cancel() { c.flight.Add(-1) }

// done ends a request, and with it perhaps the window.
func (c *controller) done(begin, now time.Time) {
	c.flight.Add(-1)
	epoch := c.begin.Add(time.Duration(c.epoch.Load()))
	if begin.Before(epoch) {
		return
	}
	c.times.add(now.Sub(begin))
	if age := now.Sub(epoch); age < c.config.Update || c.times.n.Load() < few && age < max(c.config.Interval, c.config.Update) {
		return
	}
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		if now.Sub(c.begin.Add(time.Duration(c.epoch.Load()))) >= c.config.Update {
			c.update(now)
		}
	}
}

// window is what one has seen.
type window struct {
	sample time.Duration
	n      int64
	took   time.Duration
	peak   int64
	limit  float64
	end    time.Time
}

// rate is how many requests a second were done.
func (w *window) rate() float64 { return float64(w.n) / w.took.Seconds() }

// idle reports that the limit was not in use.
func (w *window) idle() bool { return float64(w.peak) <= w.limit/2 }

// full reports that the limit was in the way.
func (w *window) full() bool { return float64(w.peak) >= w.limit*0.9 }

// update ends a window. The lock is held.
func (c *controller) update(now time.Time) {
	w := window{took: now.Sub(c.begin) - time.Duration(c.epoch.Load()), limit: c.exact, end: now}
	w.sample, w.n = c.times.take(c.config.Percentile)
	w.peak = c.peak.Swap(c.flight.Load())
	c.epoch.Store(int64(now.Sub(c.begin)))
	if w.n == 0 {
		return
	}
	c.base.see(&w)
	if c.fall.see(&w, c.config.Requests) {
		c.base.become(&w)
	}
	if c.config.Interval == 0 || !c.probing(&w) {
		c.follow(&w)
	}
	c.limit.Store(int64(c.exact))
}

// follow sets the limit by the gradient.
func (c *controller) follow(w *window) {
	gradient := c.base.value().Seconds() * (1 + c.config.Buffer) / w.sample.Seconds()
	gradient = max(0.5, min(2, gradient))
	limit := c.exact * gradient
	burst := math.Sqrt(limit)
	if next := limit + burst; next < c.exact || !w.idle() { // what is not used need not grow
		c.set(next)
	}
	c.counters.Slope.Set(int64(gradient * 1000))
	c.tell(burst, w.sample)
}

func (c *controller) set(limit float64) {
	c.exact = max(float64(c.config.Least), min(float64(c.config.Most), limit))
}

func (c *controller) tell(burst float64, sample time.Duration) {
	c.counters.Burst.Set(int64(burst))
	c.counters.RTT.Set(sample.Milliseconds())
	c.counters.MinRTT.Set(c.base.value().Milliseconds())
	c.counters.Limit.Set(int64(c.exact))
}

// probe lowers a limit that has been in use for long, to see whether that makes requests
// faster and nothing less done.
type probe struct {
	next  time.Time // when the next one is due
	on    bool
	rate  float64 // before
	until float64 // no lower than this
}

const (
	probeStep  = 0.9  // of the limit, each time
	probeDepth = 0.5  // of the limit, at most
	probeLoss  = 0.05 // of what gets done ends it
)

// probing moves the probe on, and reports whether the limit is its business.
func (c *controller) probing(w *window) bool {
	p := &c.probe
	switch {
	case p.on && (w.rate() < p.rate*(1-probeLoss) || c.exact*probeStep < p.until || !w.full()):
		p.on = false
		p.next = w.end.Add(c.pause())
		c.counters.Probing.Set(0)
	case p.on:
		c.set(c.exact * probeStep)
		c.tell(0, w.sample)
	case w.idle():
		p.next = w.end.Add(c.pause())
	case w.full() && w.end.After(p.next):
		p.on, p.rate, p.until = true, w.rate(), max(c.exact*probeDepth, float64(c.config.Least))
		c.counters.Probing.Set(1)
		c.set(c.exact * probeStep)
	}
	return p.on
}
