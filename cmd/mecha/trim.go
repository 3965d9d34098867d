package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

// The runtime gives stacks of ended goroutines back at the next collection, which an
// idle proxy has no reason to begin for two minutes. Many connections that fall silent
// and are parked would keep their stacks for that long.
const (
	trimEvery = 500 * time.Millisecond
	trimPause = 10 * time.Second // at least, between two trims
	trimDrop  = 500              // so many goroutines less than at the most since the last trim
)

// trimIdle collects garbage and returns memory to the system when many goroutines
// have ended.
func trimIdle(ctx context.Context) {
	t := time.NewTicker(trimEvery)
	defer t.Stop()
	most, last := 0, time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			n := runtime.NumGoroutine()
			most = max(most, n)
			if most-n >= trimDrop && now.Sub(last) >= trimPause {
				debug.FreeOSMemory()
				most, last = n, now
			}
		}
	}
}
