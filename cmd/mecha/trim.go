package main

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// The runtime gives stacks of ended goroutines back at the next collection, which an
// idle proxy has no reason to begin for two minutes. Many connections that fall silent
// and are parked would keep their stacks for that long.
const (
	trimParked = 500                    // so many connections parked since the last trim are worth one
	trimBytes  = 4 << 10                // of configuration, as much as one parked connection
	trimSettle = 250 * time.Millisecond // without another one being parked
	trimPause  = 10 * time.Second       // at least, between two trims
)

// trimmer collects garbage and returns memory to the system after many connections
// were parked, or much configuration was read. It has no timer while nothing happens.
type trimmer struct {
	parked atomic.Int64 // since the last trim
	armed  atomic.Bool  // look will be called

	seen int64 // what follows is look's
	last time.Time
	trim func()
}

func newTrimmer() *trimmer { return &trimmer{trim: debug.FreeOSMemory} }

// note counts a connection that was parked.
func (t *trimmer) note() {
	if t.parked.Add(1) >= trimParked && t.armed.CompareAndSwap(false, true) {
		time.AfterFunc(trimSettle, t.look)
	}
}

// applied counts bytes of configuration that were read: most of what that took is
// garbage, which an idle proxy would keep as long.
func (t *trimmer) applied(bytes int) {
	if t.parked.Add(int64(bytes/trimBytes)) >= trimParked && t.armed.CompareAndSwap(false, true) {
		time.AfterFunc(trimSettle, t.look)
	}
}

// look trims when no more connections are being parked.
func (t *trimmer) look() {
	n := t.parked.Load()
	pause := trimPause - time.Since(t.last)
	switch {
	case n != t.seen:
		t.seen = n
		time.AfterFunc(trimSettle, t.look)
	case !t.last.IsZero() && pause > 0:
		time.AfterFunc(pause, t.look)
	default:
		t.parked.Add(-n)
		t.seen, t.last = 0, time.Now()
		t.trim()
		t.armed.Store(false)
	}
}
