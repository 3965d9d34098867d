package stats

import (
	"testing"
	"time"
)

// TestRecent: what is older than the window is forgotten, cell by cell.
func TestRecent(t *testing.T) {
	begin := time.Unix(1000, 0)
	w := NewRecent(3*time.Second, time.Second, begin)
	at := func(s float64) time.Time { return begin.Add(time.Duration(s * float64(time.Second))) }
	see := func(s float64, total, good uint64) {
		t.Helper()
		if gotTotal, gotGood, _ := w.Sums(at(s)); gotTotal != total || gotGood != good {
			t.Errorf("after %v s: %d of %d, want %d of %d", s, gotGood, gotTotal, good, total)
		}
	}
	w.Add(at(0), true)
	w.Add(at(0.5), false)
	see(0.9, 2, 1)
	w.Add(at(1.5), true)
	see(1.6, 3, 2)
	see(2.9, 3, 2)
	see(3, 1, 1) // the first second is gone
	see(4, 0, 0)
	w.Add(at(100), false)
	see(100.5, 1, 0)
	see(90, 1, 0) // a clock that is behind
	if _, _, age := w.Sums(at(101.5)); age != 1500*time.Millisecond {
		t.Errorf("the oldest is %v old", age)
	}
}

// TestRecentIsBounded: a long window has larger cells, not more.
func TestRecentIsBounded(t *testing.T) {
	begin := time.Unix(1000, 0)
	for _, d := range []time.Duration{0, time.Millisecond, time.Second, 24 * time.Hour, 1 << 62} {
		w := NewRecent(d, time.Second, begin)
		if len(w.cells) < 1 || len(w.cells) > maxRecentCells {
			t.Errorf("%v: %d cells", d, len(w.cells))
		}
		w.Add(begin, true)
		if total, _, _ := w.Sums(begin); total != 1 {
			t.Errorf("%v: %d requests", d, total)
		}
	}
}

// TestRecentReset: nothing is left.
func TestRecentReset(t *testing.T) {
	now := time.Unix(1000, 0)
	w := NewRecent(10*time.Second, time.Second, now)
	w.Add(now, true)
	w.Add(now.Add(3*time.Second), false)
	w.Reset(now.Add(4 * time.Second))
	if total, good, _ := w.Sums(now.Add(4 * time.Second)); total != 0 || good != 0 {
		t.Errorf("%d of %d", good, total)
	}
}
