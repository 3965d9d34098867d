package outlier

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// fleet is a detector with hosts that do nothing but remember who is out.
type fleet struct {
	*Detector
	stats    Stats
	monitors []*Monitor
	out      map[int]bool
	degraded map[int]bool
	events   []Event
}

func newFleet(n int, c Config, r *runtime.Runtime, rnd func() uint64) *fleet {
	f := &fleet{out: map[int]bool{}, degraded: map[int]bool{}}
	if rnd == nil {
		rnd = func() uint64 { return 0 }
	}
	f.Detector = New(&c, Env{Stats: &f.stats, Runtime: r, Rand: rnd, Log: func(e *Event) { f.events = append(f.events, *e) }})
	for i := range n {
		f.monitors = append(f.monitors, f.Add(Host{
			Address: fmt.Sprintf("10.0.0.%d:80", i),
			Eject:   func(on bool) { f.out[i] = on },
			Degrade: func(on bool) { f.degraded[i] = on },
		}))
	}
	return f
}

func (f *fleet) codes(host int, codes ...int) {
	for _, c := range codes {
		f.monitors[host].Code(c, false)
	}
}

func (f *fleet) ejected() (n int) {
	for _, out := range f.out {
		if out {
			n++
		}
	}
	return n
}

// all lets every host out that is found.
func all() Config {
	c := Default()
	c.MaxPercent = 100
	for k := range c.Enforcing {
		c.Enforcing[k] = 100
	}
	return c
}

func TestConsecutive(t *testing.T) {
	for _, tt := range []struct {
		name  string
		codes []int
		want  Kind
		out   bool
	}{
		{"five in a row", []int{500, 501, 599, 500, 500}, Consecutive5xx, true},
		{"four are not enough", []int{500, 500, 500, 500}, 0, false},
		{"a success begins anew", []int{500, 500, 500, 500, 404, 500, 500, 500, 500}, 0, false},
		{"gateway failures come first", []int{502, 503, 504, 502, 503}, ConsecutiveGateway, true},
		{"500 among them makes them 5xx", []int{502, 503, 500, 502, 503}, Consecutive5xx, true},
		{"600 is no failure", []int{600, 600, 600, 600, 600}, 0, false},
	} {
		f := newFleet(1, all(), nil, nil)
		f.codes(0, tt.codes...)
		if f.out[0] != tt.out {
			t.Errorf("%s: out is %v", tt.name, f.out[0])
		}
		if tt.out && f.events[0].Kind != tt.want {
			t.Errorf("%s: found by %v, want %v", tt.name, f.events[0].Kind, tt.want)
		}
	}
}

func TestLocalFailures(t *testing.T) {
	c := all()
	c.Consecutive[ConsecutiveLocal] = 2
	f := newFleet(1, c, nil, nil)
	for range 4 {
		f.monitors[0].Put(ConnectFailed, 0)
	}
	f.monitors[0].Put(TimedOut, 204) // what the client is told counts
	f.monitors[0].Put(ConnectFailed, 0)
	if f.ejected() != 0 {
		t.Error("a timeout that is told as 204 is a failure")
	}
	c.Split = true
	f = newFleet(1, c, nil, nil)
	f.monitors[0].Put(TimedOut, 204)
	f.monitors[0].Put(Connected, 0)
	f.monitors[0].Put(ConnectFailed, 0)
	if f.ejected() != 0 {
		t.Error("failures that a connection has come between are not in a row")
	}
	f.codes(0, 500, 500)
	f.monitors[0].Put(TimedOut, 204)
	if f.ejected() != 1 || f.events[0].Kind != ConsecutiveLocal {
		t.Errorf("two local failures in a row: %v, %+v", f.out, f.events)
	}
}

// TestTermsGrow: each ejection in short order takes longer by one base_ejection_time, up
// to max_ejection_time; with every interval that goes well, it is less again.
func TestTermsGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := all()
		c.Interval, c.BaseEjection, c.MaxEjection = time.Second, 10*time.Second, 25*time.Second
		f := newFleet(1, c, nil, nil)
		term := func() time.Duration {
			f.codes(0, 500, 500, 500, 500, 500)
			begun := time.Now()
			for f.out[0] {
				time.Sleep(time.Second)
				f.Sweep()
			}
			return time.Since(begun)
		}
		for i, want := range []time.Duration{10, 20, 25, 25} {
			if got := term(); got != want*time.Second {
				t.Errorf("ejection %d took %v, want %ds", i+1, got, want)
			}
		}
		for range 10 {
			time.Sleep(time.Second)
			f.Sweep()
		}
		if got := term(); got != 10*time.Second {
			t.Errorf("after a good while an ejection takes %v", got)
		}
		last := f.events[len(f.events)-1]
		if !last.Back || last.Ejections != 5 || last.Since != 10*time.Second {
			t.Errorf("the last event is %+v", last)
		}
	})
}

func TestJitterAndRuntime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runtime.New([]runtime.Layer{{Name: "l", Kind: runtime.Static, Values: map[string]string{
			"outlier_detection.base_ejection_time_ms": "2000", "outlier_detection.consecutive_5xx": "1",
			"outlier_detection.max_ejection_time_jitter_ms": "1000", "outlier_detection.interval_ms": "100",
		}}}, nil)
		f := newFleet(1, all(), r, func() uint64 { return 1000 })
		if f.Interval() != 100*time.Millisecond {
			t.Errorf("interval %v", f.Interval())
		}
		f.codes(0, 500)
		time.Sleep(2999 * time.Millisecond)
		f.Sweep()
		if !f.out[0] {
			t.Error("back before its jitter is over")
		}
		time.Sleep(time.Millisecond)
		f.Sweep()
		if f.out[0] {
			t.Error("not back after 2 s and 1 s of jitter")
		}
	})
}

func TestSuccessRate(t *testing.T) {
	c := all()
	c.RateVolume, c.FailureHosts = 10, 100
	f := newFleet(5, c, nil, nil)
	for i := range 5 {
		for n := range 10 {
			code := 200
			if i == 4 && n%2 == 0 { // never two in a row
				code = 500
			}
			f.codes(i, code)
		}
	}
	f.Sweep()
	if answers, _ := f.Averages(); answers.Average != 90 || answers.Threshold != 90-1.9*20 {
		t.Errorf("%+v, want 90 and 52", answers)
	}
	if !f.out[4] || f.ejected() != 1 {
		t.Errorf("out: %v", f.out)
	}
	e := f.events[0]
	if e.Kind != SuccessRate || e.Rate != 50 || e.Averages.Average != 90 {
		t.Errorf("event %+v", e)
	}
	if rate, _ := f.monitors[0].Rates(); rate != 100 {
		t.Errorf("rate of a good host: %v", rate)
	}
	f.Sweep()
	if answers, _ := f.Averages(); answers != unknown {
		t.Errorf("an interval without requests has an average: %+v", answers)
	}
}

func TestFailurePercentage(t *testing.T) {
	c := all()
	c.Split, c.FailureRequests, c.FailureHosts, c.RateHosts = true, 20, 3, 100
	f := newFleet(3, c, nil, nil)
	for i, good := range []int{0, 3, 4} { // of 20: 100, 85 and 80 percent failures
		for n := range 20 {
			if n < good {
				f.monitors[i].Put(Connected, 0)
			} else {
				f.monitors[i].rates[local].count(false) // not in a row
			}
		}
	}
	f.Sweep()
	if !f.out[0] || !f.out[1] || f.out[2] {
		t.Errorf("out: %v", f.out)
	}
	if f.stats.EnforcedPercentageLocal.Value() != 2 || f.stats.EnforcedPercentage.Value() != 0 {
		t.Error("not counted as local failures")
	}
}

func TestDegraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := all()
		f := newFleet(2, c, nil, nil)
		f.monitors[0].Code(200, true)
		if f.degraded[0] {
			t.Error("degraded without detect_degraded_hosts")
		}
		c.Degraded = true
		f.Configure(&c)
		f.monitors[0].Code(200, true)
		if !f.degraded[0] || f.stats.DetectedDegradation.Value() != 1 {
			t.Error("not degraded")
		}
		time.Sleep(30*time.Second - time.Millisecond)
		f.Sweep()
		if !f.degraded[0] {
			t.Error("well again too early")
		}
		time.Sleep(time.Millisecond)
		f.Sweep()
		if f.degraded[0] {
			t.Error("still degraded")
		}
	})
}

func TestCheckPassed(t *testing.T) {
	c := all()
	f := newFleet(1, c, nil, nil)
	f.codes(0, 500, 500, 500, 500, 500)
	f.CheckPassed(f.monitors[0])
	if f.out[0] || f.stats.Active.Value() != 0 {
		t.Error("a passed check does not bring the host back")
	}
	c.KeepOnCheck = true
	f.Configure(&c)
	f.codes(0, 500, 500, 500, 500, 500)
	f.CheckPassed(f.monitors[0])
	if !f.out[0] {
		t.Error("a passed check brings the host back, against the configuration")
	}
}

// TestLimits plays much by chance and looks whether the limits hold at every moment.
func TestLimits(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		c := all()
		c.MaxPercent, c.AlwaysOne = rnd.Uint32N(101), rnd.IntN(2) == 0
		c.Consecutive[Consecutive5xx] = 1 + rnd.Uint32N(3)
		c.RateHosts, c.RateVolume, c.FailureHosts, c.FailureRequests = 1, 1, 1, 1
		for k := range c.Enforcing {
			c.Enforcing[k] = rnd.Uint32N(101)
		}
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(1+rnd.IntN(20), c, nil, rnd.Uint64)
			before := f.stats.Enforced.Value()
			for range 300 {
				m := f.monitors[rnd.IntN(len(f.monitors))]
				switch rnd.IntN(8) {
				case 0:
					time.Sleep(time.Duration(rnd.IntN(60)) * time.Second)
					f.Sweep()
				case 1:
					m.Put(ConnectFailed, 0)
				case 2:
					f.CheckPassed(m)
				case 3:
					m.Code(200, false)
				default:
					m.Code(500+rnd.IntN(6), false)
				}
				n, limit := f.ejected(), int(c.MaxPercent)*len(f.monitors)/100
				if c.AlwaysOne {
					limit = max(limit, 1)
				}
				if n > limit || int64(n) != f.stats.Active.Value() || n != f.Detector.out {
					t.Fatalf("seed %d: %d of %d are out, %d allowed; gauge %d", seed, n, len(f.monitors), limit, f.stats.Active.Value())
				}
			}
			ejections := 0
			for _, e := range f.events {
				if !e.Back && e.Enforced {
					ejections++
				}
			}
			if got := f.stats.Enforced.Value() - before; int(got) != ejections {
				t.Errorf("seed %d: %d ejections counted, %d logged", seed, got, ejections)
			}
			f.Stop()
			if f.ejected() != 0 || f.stats.Active.Value() != 0 {
				t.Errorf("seed %d: hosts are out after the end", seed)
			}
		})
	}
}

// TestRemovedHostsCountNoMore: who leaves makes no room, and takes none.
func TestRemovedHostsCountNoMore(t *testing.T) {
	c := all()
	c.MaxPercent, c.Consecutive[Consecutive5xx] = 50, 1
	f := newFleet(2, c, nil, nil)
	f.codes(0, 500)
	f.codes(1, 500)
	if f.ejected() != 1 || f.stats.Overflow.Value() != 1 {
		t.Fatalf("out: %v", f.out)
	}
	f.Remove([]*Monitor{f.monitors[0], nil})
	f.codes(0, 500)
	if f.stats.Active.Value() != 0 {
		t.Error("a removed host is ejected")
	}
	f.Sweep()
	f.codes(1, 500)
	if f.out[1] {
		t.Error("the only host is out, which is 100 %")
	}
}

func TestLine(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	for _, tt := range []struct {
		event Event
		want  string
	}{
		{Event{Cluster: "c", Address: "1.2.3.4:80", Time: at, Since: -1, Kind: Consecutive5xx, Ejections: 1, Enforced: true},
			`{"type":"CONSECUTIVE_5XX","timestamp":"2026-01-02T03:04:05.006Z","cluster_name":"c","upstream_url":"1.2.3.4:80","action":"EJECT","num_ejections":1,"enforced":true,"eject_consecutive_event":{}}`},
		{Event{Cluster: "c", Address: "a", Time: at, Since: 1500 * time.Millisecond, Kind: SuccessRate, Averages: Averages{90.9, -3}, Rate: 12.5},
			`{"type":"SUCCESS_RATE","timestamp":"2026-01-02T03:04:05.006Z","secs_since_last_action":"1","cluster_name":"c","upstream_url":"a","action":"EJECT","num_ejections":0,"enforced":false,"eject_success_rate_event":{"host_success_rate":12,"cluster_average_success_rate":90,"cluster_success_rate_ejection_threshold":0}}`},
		{Event{Cluster: "c", Address: "a", Time: at, Since: 0, Back: true, Ejections: 2},
			`{"type":"CONSECUTIVE_5XX","timestamp":"2026-01-02T03:04:05.006Z","secs_since_last_action":"0","cluster_name":"c","upstream_url":"a","action":"UNEJECT","num_ejections":2,"enforced":false}`},
	} {
		got := string(tt.event.Line())
		if got != tt.want+"\n" || !json.Valid([]byte(got)) {
			t.Errorf("got  %swant %s", got, tt.want)
		}
	}
}
