package server

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// asker notes what it is asked.
type asker struct {
	mu            sync.Mutex
	asked, forgot []filter.Wanted
}

func (a *asker) Ask(w filter.Wanted) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, w)
}

func (a *asker) Idle(string) {}

func (a *asker) Forget(w filter.Wanted) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgot = append(a.forgot, w)
}

func newDemand(a Asker) *demand {
	return &demand{asker: a, wants: map[filter.Wanted]*want{}, present: func(filter.Wanted) bool { return false }}
}

// TestWaitsAreBounded: no more than maxWaiting wait, each no longer than it says, for one
// question; what does not come is forgotten once.
func TestWaitsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{}
		d := newDemand(a)
		w := filter.Wanted{Kind: filter.WantedCluster, Name: "c"}
		start := time.Now()
		var all sync.WaitGroup
		for range maxWaiting {
			all.Go(func() {
				if d.Wait(t.Context(), w, time.Second) {
					t.Error("found")
				}
			})
		}
		synctest.Wait()
		if d.Wait(t.Context(), w, time.Second) || time.Since(start) > 0 {
			t.Error("one too many waited")
		}
		all.Wait()
		if took := time.Since(start); took != time.Second {
			t.Errorf("they waited %s", took)
		}
		if len(a.asked) != 1 || len(a.forgot) != 1 {
			t.Errorf("asked %d times, forgot %d times", len(a.asked), len(a.forgot))
		}
		if n, m := d.counters.Overflow.Value(), d.counters.Timeout.Value(); n != 1 || m != maxWaiting {
			t.Errorf("overflow %d, timeout %d", n, m)
		}
		if len(d.wants) != 0 || d.waiting != 0 || d.counters.Waiting.Value() != 0 {
			t.Errorf("%d things, %d who wait", len(d.wants), d.waiting)
		}
	})
}

// TestWaitsEnd: with what came, with the news that there is none, and with the stream.
func TestWaitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{}
		d := newDemand(a)
		ctx, cancel := context.WithCancel(t.Context())
		got := map[string]bool{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for _, name := range []string{"comes", "missing", "gone"} {
			all.Go(func() {
				c := t.Context()
				if name == "gone" {
					c = ctx
				}
				found := d.Wait(c, filter.Wanted{Kind: filter.WantedHost, From: "r", Name: name}, time.Hour)
				mu.Lock()
				defer mu.Unlock()
				got[name] = found
			})
		}
		synctest.Wait()
		d.arrived(filter.Wanted{Kind: filter.WantedHost, From: "r", Name: "comes"}, true)
		d.arrived(filter.Wanted{Kind: filter.WantedHost, From: "r", Name: "missing"}, false)
		d.arrived(filter.Wanted{Kind: filter.WantedHost, From: "other", Name: "gone"}, true)
		cancel()
		all.Wait()
		if fmt.Sprint(got) != "map[comes:true gone:false missing:false]" {
			t.Errorf("%v", got)
		}
		if len(a.forgot) != 2 {
			t.Errorf("forgot %v", a.forgot)
		}
	})
}
