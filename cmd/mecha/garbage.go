package main

import (
	"cmp"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// A collection costs the same few hundred microseconds however little there is to find. A
// proxy's live heap is a few megabytes, so GOGC=100 collects after every few megabytes of
// garbage: every hundred TLS handshakes.
const (
	garbageFloor = 16 << 20 // at least so much garbage before a collection
	normalGC     = 100      // GOGC beyond
)

// garbage keeps the collector from running before it is worth it.
type garbage struct {
	floor   uint64 // 0: garbageFloor
	live    []metrics.Sample
	percent int
	over    atomic.Bool
}

// cycle is what a collection finds dead, to tell of itself.
type cycle struct{ _ [16]byte }

// begin sets GOGC after each collection so that the next one comes when there is garbage
// worth it, until end. GOGC in the environment wins. The memory limit holds in any case.
func (g *garbage) begin() {
	if os.Getenv("GOGC") != "" {
		return
	}
	g.live = []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	g.adjust()
	g.await()
}

func (g *garbage) end() { g.over.Store(true) }

// await calls adjust after the next collection.
func (g *garbage) await() {
	runtime.SetFinalizer(&cycle{}, func(*cycle) {
		if !g.over.Load() {
			g.adjust()
			g.await()
		}
	})
}

// adjust is called by one goroutine at a time.
func (g *garbage) adjust() {
	metrics.Read(g.live)
	want := lazyGC(g.live[0].Value.Uint64(), cmp.Or(g.floor, garbageFloor))
	// The setting stops the world for a moment: small changes are not worth it.
	if d := want - g.percent; d > want/8 || -d > want/8 {
		g.percent = want
		debug.SetGCPercent(want)
	}
}

// lazyGC is GOGC for a heap with so many live bytes.
func lazyGC(live, floor uint64) int {
	// The runtime's heap begins at four megabytes whatever lives.
	const least = 1 << 20
	return max(normalGC, int(floor*100/max(live, least)))
}
