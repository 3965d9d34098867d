package cluster

import (
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// breaker is what is in flight to a cluster at one priority, across all versions of
// its configuration. How many connections there are, and who waits for one, the pool
// knows.
type breaker struct {
	requests, retries level
	stats             breakerStats
	remaining         atomic.Pointer[remainingStats] // nil unless track_remaining
}

func (b *breaker) init() {
	b.requests.open, b.retries.open = &b.stats.RqOpen, &b.stats.RqRetryOpen
}

// track makes the remaining_* gauges follow. It may be called again.
func (b *breaker) track(r *remainingStats, t *Thresholds) {
	b.requests.left.Store(&r.Rq)
	b.retries.left.Store(&r.Retries)
	b.remaining.Store(r)
	r.Cx.Set(int64(t.MaxConnections))
	r.Pending.Set(int64(t.MaxPending))
	r.Rq.Set(int64(t.MaxRequests))
	r.Retries.Set(int64(t.MaxRetries))
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
func (c *Cluster) Admit(p Priority) (Ticket, error) {
	r := c.running()
	limit := int64(c.Spec().Breakers[p].MaxRequests)
	l := &r.core.breakers[p].requests
	if !l.take(limit) {
		r.core.stats.UpstreamRqPendingOverflow.Inc()
		return Ticket{}, ErrOverflow
	}
	return Ticket{l, limit}, nil
}

// AdmitRetry takes a place for a retry (retry_budget, or max_retries without one). It
// returns ErrOverflow if there is none. The caller holds the ticket until the retry
// is over.
func (c *Cluster) AdmitRetry(p Priority) (Ticket, error) {
	r := c.running()
	b := &r.core.breakers[p]
	limit := retryLimit(&c.Spec().Breakers[p], b.requests.n.Load())
	if !b.retries.take(limit) {
		r.core.stats.UpstreamRqRetryOverflow.Inc()
		return Ticket{}, ErrOverflow
	}
	return Ticket{&b.retries, limit}, nil
}

// retryLimit returns how many retries may be in flight while so many requests are.
func retryLimit(t *Thresholds, requests int64) int64 {
	if t.RetryBudget == nil {
		return int64(t.MaxRetries)
	}
	return max(int64(t.RetryBudget.Percent/100*float64(requests)), int64(t.RetryBudget.MinConcurrency))
}
