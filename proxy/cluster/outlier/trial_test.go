package outlier

import (
	"testing"
	"testing/synctest"
	"time"
)

// trials is a fleet whose hosts are put on trial when they come back.
func trials(n int, requests, successes uint32) *fleet {
	c := all()
	c.HalfOpen = &HalfOpen{requests, successes}
	return newFleet(n, c, nil, nil)
}

// back ejects host 0 and lets it come back.
func (f *fleet) back(t *testing.T) {
	t.Helper()
	f.codes(0, 500, 500, 500, 500, 500)
	if !f.out[0] {
		t.Fatal("the host is not out")
	}
	time.Sleep(time.Hour)
	f.Sweep()
	if f.out[0] || f.stats.HalfOpen.Value() != 1 {
		t.Fatalf("out: %v, %d on trial", f.out[0], f.stats.HalfOpen.Value())
	}
}

// admitted is how many requests in a row the host gets.
func (f *fleet) admitted(host int) (n int) {
	for n < 10 && f.monitors[host].Admit() {
		n++
	}
	return n
}

// TestTrialPassed: a host on trial gets few requests at a time, all when it has passed.
func TestTrialPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trials(2, 2, 3)
		if n := f.admitted(0); n != 10 {
			t.Errorf("a host that is well gets %d requests", n)
		}
		f.back(t)
		if n := f.admitted(0); n != 2 {
			t.Errorf("a host on trial gets %d requests, want 2", n)
		}
		f.codes(0, 200)
		if n := f.admitted(0); n != 1 {
			t.Errorf("after one has ended it gets %d, want 1", n)
		}
		f.codes(0, 200, 404)
		if n := f.admitted(0); n != 10 || f.stats.HalfOpenPassed.Value() != 1 || f.stats.HalfOpen.Value() != 0 {
			t.Errorf("after the trial it gets %d; %d passed, %d on trial", n, f.stats.HalfOpenPassed.Value(), f.stats.HalfOpen.Value())
		}
	})
}

// TestTrialFailed: one failure is enough, and the ejection is longer.
func TestTrialFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trials(2, 1, 3)
		f.back(t)
		f.codes(0, 200, 503)
		if !f.out[0] || f.stats.HalfOpenFailed.Value() != 1 || f.stats.HalfOpen.Value() != 0 || f.stats.Active.Value() != 1 {
			t.Fatalf("out: %v, %+v", f.out[0], &f.stats)
		}
		time.Sleep(45 * time.Second)
		f.Sweep()
		if !f.out[0] {
			t.Error("the second ejection is as short as the first")
		}
		time.Sleep(time.Hour)
		f.Sweep()
		f.monitors[0].Put(ConnectFailed, 0)
		if !f.out[0] || f.stats.HalfOpenFailed.Value() != 2 {
			t.Error("a connection that cannot be made is no failure of the trial")
		}
	})
}

// TestTrialIsNotLost: a request that nobody reports on makes room after a while.
func TestTrialIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trials(2, 1, 1)
		f.back(t)
		if n := f.admitted(0); n != 1 {
			t.Fatalf("%d requests", n)
		}
		time.Sleep(lost)
		if n := f.admitted(0); n != 1 {
			t.Errorf("%d requests when the first is lost, want 1", n)
		}
	})
}

// TestTrialTooMany: where max_ejection_percent does not allow another ejection, the host
// stays on trial.
func TestTrialTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trials(2, 1, 1)
		f.back(t)
		c := *f.config.Load()
		c.MaxPercent = 0
		f.Configure(&c)
		f.codes(0, 500)
		if f.out[0] || f.stats.Overflow.Value() != 1 || f.stats.HalfOpen.Value() != 1 {
			t.Errorf("out: %v, %d overflows, %d on trial", f.out[0], f.stats.Overflow.Value(), f.stats.HalfOpen.Value())
		}
		f.codes(0, 200)
		if f.stats.HalfOpen.Value() != 0 {
			t.Error("it is still on trial")
		}
	})
}

// TestTrialEnds: hosts that go leave nothing behind.
func TestTrialEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := trials(2, 1, 1)
		f.back(t)
		f.Remove(f.monitors[:1])
		if n := f.stats.HalfOpen.Value(); n != 0 {
			t.Errorf("%d on trial", n)
		}
		f = trials(2, 1, 1)
		f.back(t)
		f.Stop()
		if n := f.stats.HalfOpen.Value(); n != 0 {
			t.Errorf("%d on trial", n)
		}
	})
}
