package ads

import "time"

// RateLimit is rate_limit_settings: how many requests a client may send. The zero value
// is no limit.
type RateLimit struct {
	Tokens  float64 // max_tokens: 100 where the message says nothing
	PerSec  float64 // fill_rate: 10 where the message says nothing
	Enabled bool
}

// bucket is a token bucket.
type bucket struct {
	limit  RateLimit
	tokens float64
	last   time.Time
}

func newBucket(l RateLimit) *bucket { return &bucket{limit: l, tokens: l.Tokens} }

// take uses a token, or says how long to wait for one.
func (b *bucket) take(now time.Time) (wait time.Duration) {
	if !b.limit.Enabled {
		return 0
	}
	if !b.last.IsZero() {
		b.tokens = min(b.limit.Tokens, b.tokens+now.Sub(b.last).Seconds()*b.limit.PerSec)
	}
	b.last = now
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return max(time.Millisecond, time.Duration((1-b.tokens)/b.limit.PerSec*float64(time.Second)))
}
