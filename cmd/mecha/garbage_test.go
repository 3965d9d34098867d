package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestGarbageWorthACollection(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 1600, 1 << 20: 1600, 4 << 20: 400, 8 << 20: 200, 16 << 20: 100, 1 << 30: 100,
	} {
		if got := lazyGC(live, garbageFloor); got != want {
			t.Errorf("%d bytes live: GOGC=%d, want %d", live, got, want)
		}
	}
}

// Each collection looks again at how much there is, until the end.
func TestGarbageFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(normalGC))
	g := garbage{floor: 512 << 20}
	defer g.end()
	g.begin()
	if got := gogc(); got < 2*normalGC {
		t.Errorf("GOGC is %d, though little is live", got)
	}
	big := make([]byte, 600<<20) // never touched
	for end := time.Now().Add(20 * time.Second); gogc() != normalGC && time.Now().Before(end); runtime.Gosched() {
		runtime.GC()
	}
	if got := gogc(); got != normalGC {
		t.Errorf("GOGC is %d with 600 MiB live", got)
	}
	runtime.KeepAlive(big)
}

// gogc is the setting that is in effect.
func gogc() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
