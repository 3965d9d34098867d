package bandwidth_test

import (
	"math"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/bandwidth"
)

// TestTake: one interval's worth at first, then as much as time brings, at most a second's.
func TestTake(t *testing.T) {
	b := &bandwidth.Bucket{}
	b.Set(10, 50*time.Millisecond)
	now := time.Unix(1000, 0)
	for i, c := range []struct {
		after time.Duration
		n     int
		want  int
	}{
		{0, 1 << 20, 512},
		{0, 1, 0},
		{100 * time.Millisecond, 1 << 20, 1024},
		{time.Second, 100, 100},
		{time.Hour, 1 << 20, 10240},
		{-time.Hour, 1, 0}, // a clock that goes back gives nothing
	} {
		now = now.Add(c.after)
		got, again := b.Take(c.n, now)
		if got != c.want || (got < c.n) != (again == 50*time.Millisecond) {
			t.Errorf("%d: %d of %d, again after %v", i, got, c.n, again)
		}
	}
}

// TestNew: a shared bucket begins full.
func TestNew(t *testing.T) {
	if got, _ := bandwidth.New(10, time.Second/20).Take(1<<20, time.Now()); got != 10240 {
		t.Errorf("got %d", got)
	}
}

// TestGreatLimits: no limit overflows.
func TestGreatLimits(t *testing.T) {
	b := bandwidth.New(math.MaxUint64, time.Second)
	now := time.Unix(1000, 0)
	for range 3 {
		if got, _ := b.Take(math.MaxInt, now); got != math.MaxInt {
			t.Fatalf("granted %d", got)
		}
		now = now.Add(time.Hour)
	}
}

// TestAllocs: asking costs no memory.
func TestAllocs(t *testing.T) {
	b := bandwidth.New(1, time.Second)
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { b.Take(10, now) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
