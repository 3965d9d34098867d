package healthcheck

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPeriods: an answer is remembered until the period that it came in is over.
func TestPeriods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(10 * time.Second)
		if _, ok := c.get(); ok {
			t.Fatal("something is remembered that never came")
		}
		time.Sleep(7 * time.Second)
		c.put(outcome{200, true})
		time.Sleep(2 * time.Second)
		if o, ok := c.get(); !ok || o != (outcome{200, true}) {
			t.Fatalf("2s later: %v %v", o, ok)
		}
		time.Sleep(time.Second)
		if _, ok := c.get(); ok {
			t.Fatal("still remembered in the next period")
		}
	})
}
