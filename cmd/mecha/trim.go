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
	trimBuilt  = 4                      // parked connections, as much as one cluster that is used for the first time
	trimSettle = 250 * time.Millisecond // without another one being parked
	trimPause  = 10 * time.Second       // at least, between two trims
)

// trimmer collects garbage and returns memory to the system after many connections
// were parked, much configuration was read, or many clusters were used for the first time. It has no timer while nothing happens.
type trimmer struct {
	parked atomic.Int64 // connections since the last trim, and what is worth as much
	armed  atomic.Bool  // look will be called

	seen int64 // what follows is look's
	last time.Time
	trim func()
}

func newTrimmer() *trimmer { return &trimmer{trim: giveBack} }

// giveBack returns memory to the system that an idle proxy does not need.
func giveBack() {
	debug.FreeOSMemory()
	dropCode()
}

// note counts a connection that was parked.
func (t *trimmer) note() { t.add(1) }

// applied counts bytes of configuration that were read: most of what that took is
// garbage, which an idle proxy would keep as long.
func (t *trimmer) applied(bytes int) { t.add(int64(bytes / trimBytes)) }

// built counts a cluster that is used for the first time: its configuration was read again,
// from the bytes that it came in, and most of what that took is garbage.
func (t *trimmer) built() { t.add(trimBuilt) }

func (t *trimmer) add(n int64) {
	if t.parked.Add(n) >= trimParked && t.armed.CompareAndSwap(false, true) {
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
