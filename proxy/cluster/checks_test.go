package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/health"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

func tcpChecks() *health.Config {
	return &health.Config{
		Timeout: time.Second, Interval: 10 * time.Second, Unhealthy: 1, Healthy: 1, TCP: &health.TCP{},
		NoTraffic: 10 * time.Second, NoTrafficHealthy: 10 * time.Second, UnhealthyInterval: 10 * time.Second,
		UnhealthyEdge: 10 * time.Second, HealthyEdge: 10 * time.Second,
	}
}

func checkedSpec(hosts ...HostSpec) *Spec {
	s := staticSpec(hosts...)
	s.Checks = tcpChecks()
	return s
}

// reach is the hosts that can be connected to.
type reach struct {
	mu     sync.Mutex
	down   map[string]bool
	dialed map[string]int
}

func (w *reach) dial(ctx context.Context, s *Spec, to meta.Addr) (*netio.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dialed[to.String()]++
	if w.down[to.String()] {
		return nil, errors.New("refused")
	}
	return dialPipe(ctx, s, to)
}

func (w *reach) set(addr string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[addr] = down
}

func (w *reach) count(addr string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dialed[addr]
}

func withHosts(t *testing.T, f func(t *testing.T, m *Manager, w *reach)) {
	w := &reach{down: map[string]bool{}, dialed: map[string]int{}}
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		m.dial = w.dial
		f(t, m, w)
	})
}

// TestFirstRound: a cluster is not there before its hosts were checked, and then only
// those that have passed are picked.
func TestFirstRound(t *testing.T) {
	withHosts(t, func(t *testing.T, m *Manager, w *reach) {
		w.set("10.0.0.2:80", true)
		s := checkedSpec(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"), hostAt("10.0.0.3:80"))
		s.Checks.InitialJitter = 2 * time.Second
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		if m.Cluster("web") != nil || !m.IsWarming("web") || m.Warming() != 1 {
			t.Fatal("usable before the first round")
		}
		if active, warming := m.All(); len(active) != 0 || len(warming) != 1 {
			t.Errorf("%d active, %d warming", len(active), len(warming))
		}
		after(2 * time.Second)
		c := m.Cluster("web")
		if c == nil || m.Warming() != 0 {
			t.Fatal("not usable after the first round")
		}
		for range 20 {
			if h := mustPick(t, c); h.Addr.String() == "10.0.0.2:80" {
				t.Fatal("a host is picked that has failed its check")
			}
		}
		if n := c.Stats().MembershipHealthy.Value(); n != 2 {
			t.Errorf("%d healthy, want 2", n)
		}
		w.set("10.0.0.2:80", false)
		after(10 * time.Second)
		if n := c.Stats().MembershipHealthy.Value(); n != 3 {
			t.Errorf("%d healthy after another round, want 3", n)
		}
	})
}

// TestChecksFollowHosts: new hosts wait for a check, removed ones are checked no more, and
// what is disabled is not checked at all.
func TestChecksFollowHosts(t *testing.T) {
	withHosts(t, func(t *testing.T, m *Manager, w *reach) {
		s := checkedSpec()
		s.Type, s.Assignment, s.IgnoreUnchecked, s.IgnoreHealthOnRemoval = EDS, nil, true, true
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		off := hostAt("10.0.0.9:80")
		off.Check = &HostCheck{Disabled: true}
		other := hostAt("10.0.0.8:80")
		other.Check = &HostCheck{Port: 8080}
		set := func(hosts ...HostSpec) {
			if err := m.SetAssignment(assignment("web", hosts...)); err != nil {
				t.Fatal(err)
			}
		}
		set(hostAt("10.0.0.1:80"), off, other)
		after(0)
		c := m.Cluster("web")
		if w.count("10.0.0.9:80") != 0 || w.count("10.0.0.8:80") != 0 || w.count("10.0.0.8:8080") != 1 {
			t.Errorf("checked: %v", w.dialed)
		}
		set(hostAt("10.0.0.2:80"), off)
		for _, h := range c.Hosts() {
			if h.Addr.String() == "10.0.0.2:80" && h.Flags() != FailedActiveHC|PendingActiveHC {
				t.Errorf("a new host has flags %b", h.Flags())
			}
		}
		if n := c.Stats().MembershipExcluded.Value(); n != 1 {
			t.Errorf("%d excluded, want 1", n)
		}
		after(0)
		if n := c.Stats().MembershipHealthy.Value(); n != 2 {
			t.Errorf("%d healthy, want 2", n)
		}
		before := w.count("10.0.0.1:80")
		after(time.Minute)
		if w.count("10.0.0.1:80") != before || w.count("10.0.0.2:80") < 6 {
			t.Errorf("checked: %v", w.dialed)
		}
		m.Remove("web")
		before = w.count("10.0.0.2:80")
		after(time.Minute)
		if w.count("10.0.0.2:80") != before {
			t.Error("a host of a removed cluster is checked")
		}
	})
}

// TestChecksOutliveVersions: a new version knows what the one before has found, even if its
// connections are others.
func TestChecksOutliveVersions(t *testing.T) {
	withHosts(t, func(t *testing.T, m *Manager, w *reach) {
		if err := m.Set(checkedSpec(hostAt("10.0.0.1:80"))); err != nil {
			t.Fatal(err)
		}
		after(0)
		next := checkedSpec(hostAt("10.0.0.1:80"))
		next.Hash, next.BufferLimit, next.Checks.Interval = 2, 99, 5*time.Second
		if err := m.Set(next); err != nil {
			t.Fatal(err)
		}
		c := m.Cluster("web")
		if f := c.Hosts()[0].Flags(); c.Spec() != next || f != 0 {
			t.Errorf("flags %b of the host of the next version", f)
		}
		after(0)
		n := w.count("10.0.0.1:80")
		after(10 * time.Second)
		if got := w.count("10.0.0.1:80") - n; got != 1 { // no traffic: no_traffic_healthy_interval
			t.Errorf("%d checks in 10 s, want 1", got)
		}
		plain := staticSpec(hostAt("10.0.0.1:80"))
		plain.Hash, plain.BufferLimit = 3, 99
		w.set("10.0.0.1:80", true)
		after(10 * time.Second)
		if f := c.Hosts()[0].Flags(); f != FailedActiveHC {
			t.Errorf("flags %b, want a failed check", f)
		}
		if err := m.Set(plain); err != nil {
			t.Fatal(err)
		}
		after(0)
		if f := m.Cluster("web").Hosts()[0].Flags(); f != 0 {
			t.Errorf("flags %b without checks", f)
		}
	})
}

// TestPassedCheckEndsEjection, and an answer can take a host out.
func TestPassedCheckEndsEjection(t *testing.T) {
	withHosts(t, func(t *testing.T, m *Manager, w *reach) {
		s := checkedSpec(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"))
		c := outlier.Default()
		c.MaxPercent, c.Consecutive[outlier.Consecutive5xx] = 100, 1
		s.Outlier = &c
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		after(0)
		h := m.Cluster("web").Hosts()[0]
		h.Outlier().Code(500, false)
		h.SetUnhealthy()
		if f := h.Flags(); f != FailedOutlierCheck|FailedActiveHC|ExcludedViaImmediateHCFail {
			t.Errorf("flags %b", f)
		}
		after(10 * time.Second)
		if f := h.Flags(); f != 0 {
			t.Errorf("flags %b after a check that was passed", f)
		}
	})
}

// TestManyChecks measures a thousand hosts: they hold no goroutine while nothing happens.
func TestManyChecks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); c.Close() }() // until the other end closes
		}
	}()
	m := newTestManager(t, Options{Log: slog.New(slog.DiscardHandler)})
	port := l.Addr().(*net.TCPAddr).Port
	var hosts []HostSpec
	for i := range 1000 {
		hosts = append(hosts, hostAt(fmt.Sprintf("127.1.%d.%d:80", i/250, i%250+1)))
		hosts[i].Check = &HostCheck{Addr: meta.Addr{AddrPort: hostAt(fmt.Sprintf("127.0.0.1:%d", port)).Addr.AddrPort}}
	}
	s := checkedSpec(hosts...)
	s.Checks.InitialJitter, s.Checks.Timeout = 100*time.Millisecond, 20*time.Second
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	idle := runtime.NumGoroutine()
	if err := m.Set(s); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first round", func() bool { return m.Cluster("web") != nil })
	c := m.Cluster("web")
	eventually(t, "all are healthy", func() bool { return c.Stats().MembershipHealthy.Value() == 1000 })
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() < idle+50 })
	runtime.GC()
	runtime.ReadMemStats(&now)
	t.Logf("%d bytes for each host", (int64(now.HeapAlloc)-int64(before.HeapAlloc))/1000)
}
