package cluster

import (
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// value returns what the store shows under a name, -1 if nothing.
func value(st *stats.Store, name string) int64 {
	v := int64(-1)
	st.Each(func(m stats.Metric) {
		switch {
		case m.Name != name:
		case m.Counter != nil:
			v = int64(m.Counter.Value())
		case m.Gauge != nil:
			v = m.Gauge.Value()
		}
	})
	return v
}

func TestMaxRequests(t *testing.T) {
	st := stats.NewStore()
	s := staticSpec()
	s.Breakers[Default].MaxRequests, s.Breakers[Default].TrackRemaining = 2, true
	c := mustSet(t, newTestManager(t, Options{Stats: st}), s)
	first, err1 := c.Admit(Default)
	second, err2 := c.Admit(Default)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if _, err := c.Admit(Default); !errors.Is(err, ErrOverflow) {
		t.Errorf("the error is %v, want ErrOverflow", err)
	}
	if _, err := c.Admit(High); err != nil {
		t.Errorf("the other priority: %v", err)
	}
	check := func(name string, want int64) {
		t.Helper()
		if got := value(st, "cluster.web."+name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	check("circuit_breakers.default.rq_open", 1)
	check("circuit_breakers.default.remaining_rq", 0)
	check("circuit_breakers.default.remaining_cx", 1024)
	check("circuit_breakers.high.rq_open", 0)
	check("circuit_breakers.high.remaining_rq", -1)
	check("upstream_rq_active_overflow", 1)
	check("circuit_breakers.default.remaining_cx_pools", math.MaxInt64)
	first.Done()
	check("circuit_breakers.default.rq_open", 0)
	check("circuit_breakers.default.remaining_rq", 1)
	second.Done()
	Ticket{}.Done()
	check("circuit_breakers.default.remaining_rq", 2)
}

func TestMaxRetries(t *testing.T) {
	s := staticSpec()
	s.Breakers[Default].MaxRetries = 1
	c := mustSet(t, newTestManager(t, Options{}), s)
	ticket, err := c.AdmitRetry(Default, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AdmitRetry(Default, time.Now()); !errors.Is(err, ErrOverflow) {
		t.Errorf("the error is %v, want ErrOverflow", err)
	}
	ticket.Done()
	if _, err := c.AdmitRetry(Default, time.Now()); err != nil {
		t.Error(err)
	}
	if n := c.Stats().UpstreamRqRetryOverflow.Value(); n != 1 {
		t.Errorf("upstream_rq_retry_overflow is %d, want 1", n)
	}
}

func TestRetryBudget(t *testing.T) {
	for _, tc := range []struct{ requests, want int }{{0, 3}, {10, 3}, {20, 4}, {100, 20}} {
		s := staticSpec()
		s.Breakers[Default].RetryBudget = &RetryBudget{Percent: 20, MinConcurrency: 3}
		c := mustSet(t, newTestManager(t, Options{}), s)
		for range tc.requests {
			if _, err := c.Admit(Default); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for {
			if _, err := c.AdmitRetry(Default, time.Now()); err != nil {
				break
			}
			n++
		}
		if n != tc.want {
			t.Errorf("with %d requests in flight %d retries are allowed, want %d", tc.requests, n, tc.want)
		}
	}
}

// However requests come and go, the gauge is right in the end.
func TestTheGaugeIsRightInTheEnd(t *testing.T) {
	s := staticSpec()
	s.Breakers[Default].MaxRequests = 2
	c := mustSet(t, newTestManager(t, Options{}), s)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				if ticket, err := c.Admit(Default); err == nil {
					ticket.Done()
				}
			}
		})
	}
	wg.Wait()
	b := &c.running().core.breakers[Default]
	if b.requests.n.Load() != 0 || b.stats.RqOpen.Value() != 0 {
		t.Errorf("at rest %d requests are in flight and rq_open is %d", b.requests.n.Load(), b.stats.RqOpen.Value())
	}
}

// TestBudgetInterval: requests that began lately count as if they were in flight.
func TestBudgetInterval(t *testing.T) {
	s := staticSpec()
	s.Breakers[Default].RetryBudget = &RetryBudget{Percent: 20, Interval: time.Second}
	c := mustSet(t, newTestManager(t, Options{}), s)
	now := time.Now()
	for range 10 {
		ticket, err := c.AdmitAt(Default, now)
		if err != nil {
			t.Fatal(err)
		}
		ticket.Done()
	}
	retries := func(at time.Time) (n int) {
		for {
			ticket, err := c.AdmitRetry(Default, at)
			if err != nil {
				return n
			}
			defer ticket.Done()
			n++
		}
	}
	if n := retries(now); n != 2 {
		t.Errorf("%d retries, want 2", n)
	}
	if n := retries(now.Add(2 * time.Second)); n != 0 {
		t.Errorf("%d retries when those requests are old, want 0", n)
	}
}

// TestRetryStorm: where nothing is said, retries are a fifth of the requests at most, and
// ten a second, however fast they fail.
func TestRetryStorm(t *testing.T) {
	s := staticSpec()
	s.Breakers[Default].RetryBudget = UnsaidBudget()
	c := mustSet(t, newTestManager(t, Options{}), s)
	now, retries := time.Now(), 0
	const seconds, perSecond = 60, 1000
	for range seconds * perSecond {
		now = now.Add(time.Second / perSecond)
		ticket, err := c.AdmitAt(Default, now)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // each fails at once, and so does every retry
			again, err := c.AdmitRetry(Default, now)
			if err != nil {
				break
			}
			retries++
			again.Done()
		}
		ticket.Done()
	}
	if most := seconds * (perSecond/5 + 10); retries > most+perSecond || retries < most*8/10 {
		t.Errorf("%d retries of %d requests, the budget is %d", retries, seconds*perSecond, most)
	}
}
