package cluster

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// breaker is what is in flight to a cluster at one priority, across all versions of
// its configuration. How many connections there are, and who waits for one, the pool
// knows.
type breaker struct {
	requests, retries level
	stats             breakerStats
	remaining         atomic.Pointer[remainingStats] // nil unless track_remaining
	recent            atomic.Pointer[recent]         // nil: nobody needs it
}

func (b *breaker) init() {
	b.requests.open, b.retries.open = &b.stats.RqOpen, &b.stats.RqRetryOpen
}

// track makes the remaining_* gauges follow. It may be called again.
func (b *breaker) track(r *remainingStats, t *Thresholds) {
	b.requests.left.Store(&r.Rq)
	b.remaining.Store(r)
	r.Cx.Set(int64(t.MaxConnections))
	r.Pending.Set(int64(t.MaxPending))
	r.Rq.Set(int64(t.MaxRequests))
	r.Pools.Set(remainingPools(t, 0))
	if t.RetryBudget != nil && t.RetryBudget.Rate == 0 { // as in Envoy: a budget is no number
		b.retries.left.Store(nil)
		r.Retries.Set(0)
		return
	}
	b.retries.left.Store(&r.Retries)
	r.Retries.Set(int64(t.MaxRetries))
}

// remainingPools is how many pools there may be beside those that there are.
func remainingPools(t *Thresholds, pools int) int64 {
	if t.MaxPools == 0 {
		return math.MaxInt64
	}
	return max(int64(t.MaxPools)-int64(pools), 0)
}

// level is a count that has a limit. The limit is the configuration's and comes with
// each call.
type level struct {
	n    atomic.Int64
	open *stats.Gauge
	left atomic.Pointer[stats.Gauge] // limit minus n, nil if nobody looks
}

func (l *level) take(limit int64) bool {
	n := l.n.Add(1)
	if n > limit {
		l.n.Add(-1)
		l.show(limit)
		return false
	}
	if n == limit {
		l.show(limit)
	}
	if g := l.left.Load(); g != nil {
		g.Set(limit - n)
	}
	return true
}

func (l *level) give(limit int64) {
	n := l.n.Add(-1)
	if n == limit-1 {
		l.show(limit)
	}
	if g := l.left.Load(); g != nil {
		g.Set(limit - n)
	}
}

// show sets the gauge. It looks again afterwards: whoever crosses the limit last is
// right, whoever stores last might not be.
func (l *level) show(limit int64) {
	for {
		open := l.n.Load() >= limit
		l.open.Set(flag(open))
		if (l.n.Load() >= limit) == open {
			return
		}
	}
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// Ticket is a place among what is in flight. Done gives it back, once. The zero value
// is no place.
type Ticket struct {
	level *level
	limit int64
}

// Done gives the place back.
func (t Ticket) Done() {
	if t.level != nil {
		t.level.give(t.limit)
	}
}

// Admit takes a place for a request (max_requests). It returns ErrOverflow if there is
// none. The caller holds the ticket until the request is over, retries included.
func (c *Cluster) Admit(p Priority) (Ticket, error) { return c.AdmitAt(p, time.Now()) }

// AdmitAt is Admit for who knows what time it is, about.
func (c *Cluster) AdmitAt(p Priority, now time.Time) (Ticket, error) {
	r := c.running()
	t, b := &c.Spec().Breakers[p], &r.core.breakers[p]
	limit := int64(t.MaxRequests)
	if !b.requests.take(limit) {
		r.core.stats.UpstreamRqActiveOverflow.Inc()
		return Ticket{}, ErrOverflow
	}
	if t.RetryBudget.counts() {
		b.counted(t.RetryBudget, now).Add(now, false)
	}
	return Ticket{&b.requests, limit}, nil
}

// AdmitRetry takes a place for a retry (retry_budget, or max_retries without one). It
// returns ErrOverflow if there is none. The caller holds the ticket until the retry
// is over.
func (c *Cluster) AdmitRetry(p Priority, now time.Time) (Ticket, error) {
	r := c.running()
	t, b := &c.Spec().Breakers[p], &r.core.breakers[p]
	limit, counted := int64(t.MaxRetries), (*stats.Recent)(nil)
	if budget := t.RetryBudget; budget != nil {
		requests, within := b.requests.n.Load(), true
		if budget.counts() {
			counted = b.counted(budget, now)
			total, retries, _ := counted.Sums(now)
			began := total - retries
			if budget.Interval > 0 {
				requests = max(requests, int64(began))
			}
			within = budget.within(began, retries)
		}
		if limit = budget.limit(requests); !within {
			limit = 0
		}
	}
	if !b.retries.take(limit) {
		r.core.stats.UpstreamRqRetryOverflow.Inc()
		return Ticket{}, ErrOverflow
	}
	if counted != nil {
		counted.Add(now, true)
	}
	return Ticket{&b.retries, limit}, nil
}

// counts reports whether the budget depends on what was before now.
func (b *RetryBudget) counts() bool { return b != nil && (b.Interval > 0 || b.Rate > 0) }

// limit returns how many retries may be in flight while so many requests are.
func (b *RetryBudget) limit(requests int64) int64 {
	return max(int64(b.Percent/100*float64(requests)), int64(b.MinConcurrency))
}

// within reports whether one more retry is within Rate, in which so many requests and
// retries began.
func (b *RetryBudget) within(requests, retries uint64) bool {
	return b.Rate == 0 || float64(retries) < b.Percent/100*float64(requests)+b.PerSecond*b.Rate.Seconds()
}

// recent counts, for a budget, what began lately: requests, and retries as the good ones.
type recent struct {
	over time.Duration
	*stats.Recent
}

// counted returns the count for a budget, a new one where another configuration has
// another interval.
func (b *breaker) counted(budget *RetryBudget, now time.Time) *stats.Recent {
	over := max(budget.Interval, budget.Rate)
	old := b.recent.Load()
	if old != nil && old.over == over {
		return old.Recent
	}
	fresh := &recent{over, stats.NewRecent(over, max(min(over/10, time.Second), time.Millisecond), now)}
	if b.recent.CompareAndSwap(old, fresh) {
		return fresh.Recent
	}
	return b.recent.Load().Recent
}
