package main

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTrim: memory is given back once connections have stopped being parked, not
// after a few, and not again at once.
func TestTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trims := 0
		tr := newTrimmer()
		tr.trim = func() { trims++ }
		park := func(n int, after time.Duration, want int) {
			t.Helper()
			for range n {
				tr.note()
			}
			time.Sleep(after)
			synctest.Wait()
			if trims != want {
				t.Errorf("%d trims, want %d", trims, want)
			}
		}
		park(trimParked-1, time.Minute, 0)
		park(1000, trimSettle/2, 0)
		park(1000, trimSettle, 0) // some more came meanwhile
		park(0, 2*trimSettle, 1)
		park(trimParked, trimPause/2, 1)
		park(0, trimPause, 2)
		park(0, time.Hour, 2)
	})
}
