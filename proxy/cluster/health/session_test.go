package health

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// rig checks one host whose connections go as the test says.
type rig struct {
	stats   Stats
	traffic bool
	events  []Event

	mu    sync.Mutex
	flags Flags
	fails bool
	hangs bool
	times []time.Duration // of checks, since the start
	begun time.Time
}

func config() *Config {
	return &Config{
		Timeout: time.Second, Interval: 10 * time.Second, Unhealthy: 3, Healthy: 2,
		NoTraffic: 60 * time.Second, NoTrafficHealthy: 50 * time.Second,
		UnhealthyInterval: 20 * time.Second, UnhealthyEdge: 2 * time.Second, HealthyEdge: 4 * time.Second,
		TCP: &TCP{},
	}
}

func (r *rig) start(c *Config, flags Flags, rt *runtime.Runtime) *Session {
	r.flags, r.begun = flags, time.Now()
	k := NewChecker(c, Env{
		Stats: &r.stats, Runtime: rt, Rand: rand.New(rand.NewPCG(1, 2)).Uint64,
		Traffic: func() bool { return r.traffic }, Begin: func() bool { return true }, End: func() {},
		Log: func(e *Event) { r.events = append(r.events, *e) },
	})
	return k.Start(Host{
		Name: "c",
		Dial: func(ctx context.Context) (*netio.Conn, error) {
			r.mu.Lock()
			r.times = append(r.times, time.Since(r.begun))
			fails, hangs := r.fails, r.hangs
			r.mu.Unlock()
			switch {
			case hangs:
				<-ctx.Done()
				return nil, ctx.Err()
			case fails:
				return nil, errors.New("refused")
			}
			near, _ := net.Pipe()
			return netio.NewConn(near), nil
		},
		Set: func(set, clear Flags) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.flags = r.flags&^clear | set
		},
		Checked: func(bool) {},
	}, flags)
}

func (r *rig) now() Flags {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flags
}

// TestIntervals: which pause follows which check, and that thresholds hold.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{traffic: true}
		s := r.start(config(), Failed, nil)
		defer s.Stop()
		at := func(d time.Duration, want Flags) {
			t.Helper()
			time.Sleep(d - time.Since(r.begun) + time.Millisecond)
			synctest.Wait()
			if got := r.now(); got != want {
				t.Errorf("after %v: flags %b, want %b", d, got, want)
			}
		}
		set := func(fails bool) {
			r.mu.Lock()
			r.fails = fails
			r.mu.Unlock()
		}
		at(0, 0)              // the first one is enough
		at(10*time.Second, 0) // interval
		set(true)             //
		at(20*time.Second, 0) // 1 of 3
		at(22*time.Second, 0) // unhealthy_edge_interval, 2 of 3
		at(24*time.Second, Failed)
		at(44*time.Second, Failed) // unhealthy_interval
		set(false)
		at(64*time.Second, Failed) // 1 of 2
		at(68*time.Second, 0)      // healthy_edge_interval
		at(78*time.Second, 0)
		want := []time.Duration{0, 10, 20, 22, 24, 44, 64, 68, 78}
		if got := len(r.times); got != len(want) {
			t.Fatalf("checks at %v", r.times)
		}
		for i, d := range r.times {
			if d != want[i]*time.Second {
				t.Errorf("checks at %v", r.times)
				break
			}
		}
		if r.stats.Healthy.Value() != 1 || r.stats.Attempt.Value() != 9 || r.stats.NetworkFailure.Value() != 4 {
			t.Errorf("healthy %d, attempts %d, failures %d", r.stats.Healthy.Value(), r.stats.Attempt.Value(), r.stats.NetworkFailure.Value())
		}
		var what []What
		for _, e := range r.events {
			what = append(what, e.What)
		}
		if !slices.Equal(what, []What{AddHealthy, Eject, AddHealthy}) {
			t.Errorf("events %v", what)
		}
	})
}

func TestWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{}
		s := r.start(config(), Failed, nil)
		time.Sleep(50*time.Second + 1)
		r.mu.Lock()
		r.fails = true
		r.mu.Unlock()
		time.Sleep(170 * time.Second)
		s.Stop()
		if want := []time.Duration{0, 50, 100, 160, 220}; len(r.times) != len(want) || r.times[2] != 100*time.Second || r.times[4] != 220*time.Second {
			t.Errorf("checks at %v", r.times)
		}
		time.Sleep(time.Hour)
		if len(r.times) != 5 || r.stats.Healthy.Value() != 0 {
			t.Errorf("after the end: checks at %v, healthy %d", r.times, r.stats.Healthy.Value())
		}
	})
}

// TestTimeout: who hangs is told apart from who refuses.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{traffic: true, hangs: true}
		c := config()
		c.Unhealthy, c.LogFailures = 1, true
		s := r.start(c, 0, nil)
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if r.now() != Failed|TimedOut || r.stats.NetworkFailure.Value() != 1 {
			t.Errorf("flags %b", r.now())
		}
		if len(r.events) != 2 || r.events[0].Failure != late || !strings.Contains(string(r.events[1].Line()), `"health_check_failure_event":{"failure_type":"NETWORK_TIMEOUT","first_check":true,"http_status_code":0},"locality":{"region":"","zone":"","sub_zone":""}}`) {
			t.Errorf("events %+v", r.events)
		}
		time.Sleep(20*time.Second + 100*time.Millisecond) // it hangs again
		s.Stop()
		synctest.Wait() // the check under way ends with the session
	})
}

// TestReports: a host that asks for it is out at once, and excluded until it passes again.
func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{traffic: true}
		s := r.start(config(), Failed|Pending, nil)
		defer s.Stop()
		synctest.Wait()
		if r.now() != 0 {
			t.Fatalf("flags %b", r.now())
		}
		s.Report()
		if r.now() != Failed|Excluded || r.stats.PassiveFailure.Value() != 1 || r.stats.Healthy.Value() != 0 {
			t.Errorf("flags %b", r.now())
		}
		time.Sleep(14*time.Second + time.Millisecond)
		synctest.Wait()
		if r.now() != 0 {
			t.Errorf("after two checks: flags %b", r.now())
		}
	})
}

// TestJitter: pauses are as the configuration and the runtime bound them.
func TestJitter(t *testing.T) {
	c := config()
	c.IntervalJitter, c.IntervalJitterPercent = 2*time.Second, 10
	k := NewChecker(c, Env{Rand: rand.Uint64, Traffic: func() bool { return true }})
	seen := map[bool]bool{}
	for range 200 {
		d := k.pause(true, false)
		if d < 10*time.Second || d >= 13*time.Second {
			t.Fatalf("%v is not between 10 s and 13 s", d)
		}
		seen[d > 11*time.Second] = true
	}
	if len(seen) != 2 {
		t.Error("no jitter")
	}
	rt := runtime.New([]runtime.Layer{{Name: "l", Kind: runtime.Static, Values: map[string]string{"health_check.max_interval": "500"}}}, nil)
	k = NewChecker(c, Env{Rand: rand.Uint64, Runtime: rt, Traffic: func() bool { return true }})
	if d := k.pause(true, false); d != 500*time.Millisecond {
		t.Errorf("%v, want what health_check.max_interval allows", d)
	}
	c = &Config{}
	k = NewChecker(c, Env{Rand: rand.Uint64, Traffic: func() bool { return true }})
	if d := k.pause(true, false); d < time.Millisecond {
		t.Errorf("a pause of %v would not end", d)
	}
}
