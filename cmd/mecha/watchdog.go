package main

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// watchdogStats are the counters of a watchdog, under Envoy's names.
type watchdogStats struct {
	Miss     stats.Counter `stat:"watchdog_miss" help:"Times that what is watched did not answer within miss_timeout."`
	MegaMiss stats.Counter `stat:"watchdog_mega_miss" help:"Times that what is watched did not answer within megamiss_timeout."`
}

// watchdogs watch over two things that must go on: the control of the process, which can
// hang in a lock, and goroutines, which can be kept from running. They work only where
// the bootstrap has watchdogs: a process at rest should not wake ten times a second.
type watchdogs struct {
	dogs  [2]dog // main, workers
	log   *slog.Logger
	kill  func()
	every time.Duration
}

// dog watches over one thing.
type dog struct {
	name  string
	c     config.Watchdog
	stats []*watchdogStats // all of them count the same
	probe func()           // returns when what is watched has answered
	beat  atomic.Int64     // when it did last, in nanoseconds since the start
	miss  bool             // counted, and not answered since
	mega  bool
}

// newWatchdogs returns watchdogs over main, which returns once the control of the process
// has answered. c may be nil: then nobody watches.
func newWatchdogs(c *config.Watchdogs, st *stats.Store, main func(), log *slog.Logger) *watchdogs {
	w := &watchdogs{log: log, kill: abort}
	bind := func(scopes ...*stats.Scope) (all []*watchdogStats) {
		for _, sc := range scopes {
			s := new(watchdogStats)
			sc.Bind(s)
			all = append(all, s)
		}
		return all
	}
	w.dogs[0].name, w.dogs[0].probe = "main_thread", main
	w.dogs[0].stats = bind(st.Scope("main_thread"), st.Scope("server").Child("main_thread"))
	w.dogs[1].name, w.dogs[1].probe = "workers", func() {}
	w.dogs[1].stats = bind(st.Scope("workers"))
	if c != nil {
		w.dogs[0].c, w.dogs[1].c = c.Main, c.Workers
		w.every = max(min(shortest(&c.Main), shortest(&c.Workers))/2, 5*time.Millisecond)
	}
	return w
}

// shortest is the least time after which a watchdog does something.
func shortest(c *config.Watchdog) time.Duration {
	least := time.Duration(math.MaxInt64)
	for _, d := range []time.Duration{c.Miss, c.MegaMiss, c.Kill, c.MultiKill} {
		if d > 0 {
			least = min(least, d)
		}
	}
	return min(least, time.Second)
}

// abort ends the process with the stacks of all goroutines, and a core where one is
// allowed, as Envoy's watchdog does.
func abort() { _ = syscall.Kill(syscall.Getpid(), syscall.SIGABRT) }

// run watches until ctx ends.
func (w *watchdogs) run(ctx context.Context) {
	if w.every == 0 {
		return
	}
	start := time.Now()
	for i := range w.dogs {
		go w.dogs[i].answer(ctx, start, w.every)
	}
	t := time.NewTicker(w.every)
	defer t.Stop()
	last := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Since(start)
		// When we are late ourselves, the process was stopped, or nothing ran: that counts, and
		// kills only if it goes on now that something runs.
		w.look(now, now-last < 3*w.every)
		last = now
	}
}

// answer notes again and again that what is watched answers.
func (d *dog) answer(ctx context.Context, start time.Time, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		d.probe()
		d.beat.Store(int64(time.Since(start)))
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// look counts who has not answered for too long.
func (w *watchdogs) look(now time.Duration, mayKill bool) {
	silent := 0
	for i := range w.dogs {
		d := &w.dogs[i]
		gone := now - time.Duration(d.beat.Load()) - w.every // it is asked so often
		d.count(gone)
		if d.c.MultiKill > 0 && gone >= d.c.MultiKill {
			silent++
		}
		if mayKill && d.c.Kill > 0 && gone >= d.c.Kill {
			w.end(d.name+" has not answered within kill_timeout", gone)
		}
	}
	if mayKill && silent == len(w.dogs) {
		w.end("nothing has answered within multikill_timeout", now)
	}
}

func (w *watchdogs) end(why string, after time.Duration) {
	go w.log.Error("watchdog: "+why, "after", after) // which may hang, too
	w.kill()
}

func (d *dog) count(gone time.Duration) {
	missed, mega := d.c.Miss > 0 && gone >= d.c.Miss, d.c.MegaMiss > 0 && gone >= d.c.MegaMiss
	for _, s := range d.stats {
		if missed && !d.miss {
			s.Miss.Inc()
		}
		if mega && !d.mega {
			s.MegaMiss.Inc()
		}
	}
	d.miss, d.mega = missed, mega
}
