package wasm

import (
	"sync"
	"sync/atomic"
	"time"
)

// A plugin that fails tripping times within window is stopped for a while.
const (
	tripping = 5
	window   = 10 * time.Second
)

// breaker stops a plugin that keeps failing: for base first, for twice as long each time
// that it fails again soon afterwards, up to most.
type breaker struct {
	base, most time.Duration

	until atomic.Int64 // Unix time in ns until which it is open; 0: closed

	mu    sync.Mutex
	times [tripping - 1]time.Time // of the failures before, a ring
	next  int
	pause time.Duration // the newest one
}

// open reports whether the plugin is stopped.
func (b *breaker) open() bool {
	until := b.until.Load()
	return until != 0 && time.Now().UnixNano() < until
}

// fail notes a failure, and reports whether the breaker opens for it.
func (b *breaker) fail() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	opened := b.until.Load()
	if now.UnixNano() < opened {
		return false // of a stream that was under way
	}
	oldest := b.times[b.next]
	b.times[b.next] = now
	b.next = (b.next + 1) % len(b.times)
	// Soon after it was stopped one failure is enough.
	again := opened != 0 && now.Sub(time.Unix(0, opened)) < window
	if !again && (oldest.IsZero() || now.Sub(oldest) > window) {
		return false
	}
	if again {
		b.pause = min(2*b.pause, b.most)
	} else {
		b.pause = b.base
	}
	b.times = [tripping - 1]time.Time{}
	b.until.Store(now.Add(b.pause).UnixNano())
	return true
}
