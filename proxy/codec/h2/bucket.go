package h2

import "time"

// bucket is a token bucket. The zero value is full.
type bucket struct {
	used float64
	last time.Time
}

// take takes a token, of which there are burst at most and rate more each second. It
// reports false if there is none.
func (b *bucket) take(now time.Time, burst, rate float64) bool {
	if !b.last.IsZero() {
		b.used = max(0, b.used-now.Sub(b.last).Seconds()*rate)
	}
	b.last = now
	if b.used+1 > burst {
		return false
	}
	b.used++
	return true
}
