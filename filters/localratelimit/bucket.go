package localratelimit

import (
	"math"
	"sync/atomic"
	"time"
)

// Rate is how a bucket fills (envoy.type.v3.TokenBucket).
type Rate struct {
	Max       float64 // tokens at most, and at first; 0: there is never one
	PerSecond float64
}

// bucket holds tokens, which come continuously. It is safe for concurrent use.
type bucket struct {
	Rate
	shadow bool // it is only tried out: without a token nobody is refused
	start  time.Time
	empty  atomic.Uint64 // bits of the time, in seconds since start, when there were no tokens
}

func newBucket(r Rate, now time.Time) *bucket {
	b := &bucket{Rate: r, start: now}
	b.empty.Store(math.Float64bits(-b.full()))
	return b
}

// full is how many seconds an empty bucket takes to be full.
func (b *bucket) full() float64 { return b.Max / b.PerSecond }

// at is a time in seconds since start. A request may have begun before the bucket was made that
// is its own, and finds it full.
func (b *bucket) at(now time.Time) float64 { return max(now.Sub(b.start).Seconds(), 0) }

// slack is what rounding may take of a token.
const slack = 1e-6

// take takes n tokens, or none if there are not as many.
func (b *bucket) take(n float64, now time.Time) bool {
	at := b.at(now)
	for {
		old := b.empty.Load()
		since := max(math.Float64frombits(old), at-b.full())
		if b.Max == 0 || (at-since)*b.PerSecond+slack < n {
			return false
		}
		if b.empty.CompareAndSwap(old, math.Float64bits(since+n/b.PerSecond)) {
			return true
		}
	}
}

// give puts n tokens back, as far as there is room.
func (b *bucket) give(n float64, now time.Time) {
	at := b.at(now)
	for {
		old := b.empty.Load()
		since := max(math.Float64frombits(old)-n/b.PerSecond, at-b.full())
		if b.empty.CompareAndSwap(old, math.Float64bits(since)) {
			return
		}
	}
}

// left is how many tokens there are.
func (b *bucket) left(now time.Time) float64 {
	at := b.at(now)
	since := max(math.Float64frombits(b.empty.Load()), at-b.full())
	return max((at-since)*b.PerSecond, 0)
}

// whole is how many whole tokens there are.
func (b *bucket) whole(now time.Time) int64 { return int64(b.left(now) + slack) }

// untilNext is in how many seconds, rounded up, there is a token.
func (b *bucket) untilNext(now time.Time) int64 {
	return int64(math.Ceil(max(1-b.left(now)-slack, 0) / b.PerSecond))
}
