// Package bandwidth is how many bytes may go in a time: a bucket of bytes that fills
// steadily, for all that share a limit or for one stream.
package bandwidth

import (
	"sync"
	"time"
)

// Interval is how often who waits asks again, unless configuration says otherwise.
const Interval = 50 * time.Millisecond

// Bucket holds at most what fills it in a second. It is used concurrently.
type Bucket struct {
	perSecond float64
	interval  time.Duration

	mu     sync.Mutex
	tokens float64
	last   time.Time // when it was filled; zero: not yet
}

// Set makes b a bucket that lets kib KiB pass in a second, which is at least 1, and whose
// users ask again each interval. It begins with what fills it in one: for one stream, so
// that short ones are no exception. b is not in use.
func (b *Bucket) Set(kib uint64, interval time.Duration) {
	b.perSecond, b.interval = float64(kib)*1024, interval
	b.tokens, b.last = b.perSecond*interval.Seconds(), time.Time{}
}

// New is Set for a bucket that many streams share: it begins full.
func New(kib uint64, interval time.Duration) *Bucket {
	b := &Bucket{}
	b.Set(kib, interval)
	b.tokens = b.perSecond
	return b
}

// Take takes up to n bytes. If that is not all, again is after how long to ask for the
// rest.
func (b *Bucket) Take(n int, now time.Time) (granted int, again time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() {
		b.last = now
	}
	if d := now.Sub(b.last); d > 0 {
		b.tokens = min(b.tokens+d.Seconds()*b.perSecond, b.perSecond)
		b.last = now
	}
	if b.tokens < 1 {
		return 0, b.interval
	}
	granted = n
	if float64(n) > b.tokens {
		granted, again = int(b.tokens), b.interval
	}
	b.tokens -= float64(granted)
	return granted, again
}
