package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// TestWatchdogs: what does not answer is counted, once each time, and ends the process if the
// configuration says so.
func TestWatchdogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		control := make(chan struct{}, 1) // a lock that time passes by
		killed := atomic.Int32{}
		c := config.Watchdog{Miss: 200 * time.Millisecond, MegaMiss: time.Second}
		main := c
		main.Kill = 3 * time.Second
		w := newWatchdogs(&config.Watchdogs{Main: main, Workers: c}, stats.NewStore(), func() {
			control <- struct{}{}
			<-control
		}, slog.New(slog.DiscardHandler))
		w.kill = func() { killed.Add(1) }
		go w.run(ctx)
		stuck := func(d time.Duration) {
			control <- struct{}{}
			time.Sleep(d)
			<-control
			time.Sleep(time.Second)
		}
		want := func(what string, miss, mega uint64, kills bool) {
			t.Helper()
			for _, s := range w.dogs[0].stats {
				if s.Miss.Value() != miss || s.MegaMiss.Value() != mega || (killed.Load() > 0) != kills {
					t.Errorf("%s: %d, %d, killed %d; want %d, %d, %t", what, s.Miss.Value(), s.MegaMiss.Value(), killed.Load(), miss, mega, kills)
				}
			}
		}
		time.Sleep(10 * time.Second)
		want("all is well", 0, 0, false)
		stuck(150 * time.Millisecond)
		want("a moment", 0, 0, false)
		stuck(600 * time.Millisecond)
		want("a miss", 1, 0, false)
		stuck(2 * time.Second)
		want("a mega miss", 2, 1, false)
		stuck(4 * time.Second)
		want("a kill", 3, 2, true)
		if n := w.dogs[1].stats[0].Miss.Value(); n != 0 {
			t.Errorf("%d misses of workers", n)
		}
	})
}

// Two that are silent end it together.
func TestMultiKill(t *testing.T) {
	c := config.Watchdog{MultiKill: time.Second}
	w := newWatchdogs(&config.Watchdogs{Main: c, Workers: c}, stats.NewStore(), nil, slog.New(slog.DiscardHandler))
	kills := 0
	w.kill = func() { kills++ }
	w.dogs[1].beat.Store(int64(500 * time.Millisecond))
	w.look(1700*time.Millisecond, true)
	if kills != 0 {
		t.Error("one of two is silent, and the process ends")
	}
	if w.look(2*time.Second, false); kills != 0 {
		t.Error("the watchdog itself was late, and the process ends")
	}
	if w.look(2*time.Second, true); kills != 1 {
		t.Error("both are silent, and nothing happens")
	}
}

// Without watchdogs in the bootstrap nothing wakes.
func TestNoWatchdogs(t *testing.T) {
	w := newWatchdogs(nil, stats.NewStore(), nil, slog.New(slog.DiscardHandler))
	w.run(t.Context()) // returns
}
