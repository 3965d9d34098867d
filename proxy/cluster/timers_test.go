package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// dialPipe is a dialFunc whose connections end in memory, for tests on fake time.
func dialPipe(_ context.Context, _ *Spec, _ meta.Addr) (*netio.Conn, error) {
	near, _ := net.Pipe()
	return netio.NewConn(near), nil
}

// onFakeTime runs f with a manager whose clock stands still while f runs.
func onFakeTime(t *testing.T, o Options, f func(t *testing.T, m *Manager)) {
	synctest.Test(t, func(t *testing.T) {
		o.Log = slog.New(slog.DiscardHandler)
		m := NewManager(o)
		defer m.Close()
		m.dial = dialPipe
		f(t, m)
	})
}

// after sleeps on the fake clock and lets everything settle.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestIdleTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{200 * time.Millisecond, 10 * time.Second, time.Hour} {
		onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
			s := staticSpec(hostAt("10.0.0.1:80"))
			s.HTTP.IdleTimeout = timeout
			c := mustSet(t, m, s)
			h := mustPick(t, c)
			conn := mustAcquire(t, c, h)
			after(2 * timeout)
			c.Release(conn, true)
			after(timeout - time.Millisecond)
			if again := mustAcquire(t, c, h); again != conn {
				t.Errorf("%v: the connection is gone before its time", timeout)
			}
			c.Release(conn, true)
			after(timeout - time.Millisecond)
			if n := c.Stats().UpstreamCxActive.Value(); n != 1 {
				t.Errorf("%v: the connection is gone before its time", timeout)
			}
			after(2 * time.Millisecond)
			if st := c.Stats(); st.UpstreamCxActive.Value() != 0 || st.UpstreamCxIdleTimeout.Value() != 1 {
				t.Errorf("%v: upstream_cx_active %d, upstream_cx_idle_timeout %d, want 0 and 1", timeout, st.UpstreamCxActive.Value(), st.UpstreamCxIdleTimeout.Value())
			}
		})
	}
}

func TestNoIdleTimeout(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		s := staticSpec(hostAt("10.0.0.1:80"))
		s.HTTP.IdleTimeout = 0
		c := mustSet(t, m, s)
		c.Release(mustAcquire(t, c, mustPick(t, c)), true)
		after(1000 * time.Hour)
		if n := c.Stats().UpstreamCxActive.Value(); n != 1 {
			t.Error("the connection is gone")
		}
	})
}

// At rest there is no timer but for the end of what is idle.
func TestNothingTicksAtRest(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		c := mustSet(t, m, staticSpec(hostAt("10.0.0.1:80")))
		for range 10 {
			c.Release(mustAcquire(t, c, mustPick(t, c)), true)
		}
		after(5 * time.Second)
		m.agenda.mu.Lock()
		if n, in := len(m.agenda.heap), time.Until(m.agenda.heap[0].at); n != 1 || in < 59*time.Minute {
			t.Errorf("%d things to do, the first in %v, want one in an hour", n, in)
		}
		m.agenda.mu.Unlock()
		after(time.Hour)
		m.agenda.mu.Lock()
		defer m.agenda.mu.Unlock()
		if n := len(m.agenda.heap); n != 0 {
			t.Errorf("%d things to do with no connection left", n)
		}
	})
}

func TestMaxConnectionDuration(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		s := staticSpec(hostAt("10.0.0.1:80"))
		s.HTTP.MaxConnDuration = time.Minute
		c := mustSet(t, m, s)
		h := mustPick(t, c)
		idle, busy := mustAcquire(t, c, h), mustAcquire(t, c, h)
		c.Release(idle, true)
		after(59 * time.Second)
		if n := c.Stats().UpstreamCxActive.Value(); n != 2 {
			t.Errorf("%d connections before a minute, want 2", n)
		}
		after(2 * time.Second)
		if n := c.Stats().UpstreamCxActive.Value(); n != 1 {
			t.Errorf("%d connections after a minute, want the busy one", n)
		}
		c.Release(busy, true)
		if st := c.Stats(); st.UpstreamCxActive.Value() != 0 || st.UpstreamCxMaxDurationReached.Value() != 2 {
			t.Errorf("upstream_cx_active %d, upstream_cx_max_duration_reached %d, want 0 and 2", st.UpstreamCxActive.Value(), st.UpstreamCxMaxDurationReached.Value())
		}
	})
}

func TestConnectTimeoutBoundsADial(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		m.dial = func(ctx context.Context, _ *Spec, _ meta.Addr) (*netio.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		s := staticSpec(hostAt("10.0.0.1:80"))
		s.ConnectTimeout = 3 * time.Second
		c := mustSet(t, m, s)
		h := mustPick(t, c)
		begun := time.Now()
		_, err := c.Acquire(context.Background(), h, &Attempt{}, time.Time{})
		var failed *ConnectError
		if !errors.As(err, &failed) || !failed.Timeout || time.Since(begun) != 3*time.Second {
			t.Errorf("after %v the error is %v, want a connection timeout after 3 s", time.Since(begun), err)
		}
		_, err = c.Dial(context.Background(), h, &Attempt{})
		if !errors.As(err, &failed) || !failed.Timeout {
			t.Errorf("the error is %v, want a connection timeout", err)
		}
		st := c.Stats()
		if st.UpstreamCxConnectTimeout.Value() != 2 || st.UpstreamCxConnectFail.Value() != 2 || st.UpstreamCxActive.Value() != 0 || st.UpstreamCxDestroyLocal.Value() != 2 {
			t.Error("the timeouts are not counted as such")
		}
	})
}

// The first address of a host that does not answer costs 300 ms, not the timeout.
func TestAdditionalAddresses(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		var refuse atomic.Bool
		m.dial = func(ctx context.Context, s *Spec, to meta.Addr) (*netio.Conn, error) {
			if to.Port() != 3 {
				if refuse.Load() {
					return nil, errors.New("refused")
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dialPipe(ctx, s, to)
		}
		hs := hostAt("10.0.0.1:1")
		hs.Extra = []meta.Addr{hostAt("10.0.0.1:2").Addr, hostAt("10.0.0.1:3").Addr}
		c := mustSet(t, m, staticSpec(hs))
		h := mustPick(t, c)
		begun := time.Now()
		mustAcquire(t, c, h)
		if d := time.Since(begun); d != 2*eyeballsDelay {
			t.Errorf("the third address was reached after %v", d)
		}
		refuse.Store(true)
		begun = time.Now()
		mustAcquire(t, c, h)
		if d := time.Since(begun); d != 0 {
			t.Errorf("past refusals the third address was reached after %v", d)
		}
		hs.Extra = hs.Extra[:1]
		hs.Addr = hostAt("10.0.0.9:1").Addr
		s := staticSpec(hs)
		s.Name = "down"
		down := mustSet(t, m, s)
		var failed *ConnectError
		if _, err := down.Acquire(context.Background(), mustPick(t, down), nil, time.Time{}); !errors.As(err, &failed) || failed.Timeout {
			t.Errorf("the error is %v, want a refusal", err)
		}
		synctest.Wait()
	})
}

func TestAgendaKeepsTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a agenda
		var done []int
		events := make([]event, 50)
		start := time.Now()
		for i := range events {
			events[i].run = func() {
				if d := time.Since(start); d != time.Duration(i)*time.Second {
					t.Errorf("event %d ran after %v", i, d)
				}
				done = append(done, i)
			}
		}
		for i := range events { // in an order of no sense
			j := (i * 37) % len(events)
			a.set(&events[j], start.Add(time.Duration(100-j)*time.Second))
			a.set(&events[j], start.Add(time.Duration(j)*time.Second))
		}
		a.cancel(&events[10])
		a.cancel(&events[10])
		after(60 * time.Second)
		if len(done) != 49 {
			t.Errorf("%d events ran, want 49", len(done))
		}
		a.set(&events[10], time.Now().Add(time.Second))
		a.close()
		after(time.Minute)
		if len(done) != 49 {
			t.Error("an event ran after the agenda was closed")
		}
	})
}
