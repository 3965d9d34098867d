package main

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestTrim: memory is given back once connections have stopped being parked, not
// after a few, and not again at once.
func TestTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var trims atomic.Int32 // look runs on a timer's goroutine
		tr := newTrimmer()
		tr.trim = func() { trims.Add(1) }
		park := func(n int, after time.Duration, want int32) {
			t.Helper()
			for range n {
				tr.note()
			}
			time.Sleep(after)
			synctest.Wait()
			if got := trims.Load(); got != want {
				t.Errorf("%d trims, want %d", got, want)
			}
		}
		park(trimParked-1, time.Minute, 0)
		park(1000, trimSettle/2, 0)
		park(1000, trimSettle, 0) // some more came meanwhile
		park(0, 2*trimSettle, 1)
		park(trimParked, trimPause/2, 1)
		park(0, trimPause, 2)
		park(0, time.Hour, 2)
		for range trimParked/trimBuilt - 1 {
			tr.built()
		}
		park(0, time.Minute, 2)
		tr.built()
		park(0, time.Minute, 3) // many clusters were used for the first time
	})
}
