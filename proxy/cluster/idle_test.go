package cluster

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

func requestsShown(st *stats.Store) (n int) {
	st.Each(func(x stats.Metric) {
		if x.Family == "cluster.upstream_rq_total" {
			n++
		}
	})
	return n
}

// A cluster that is used stays; one that has had no request for long enough is as if it had
// never been used, and comes back with the hosts of then.
func TestIdleClustersAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := stats.NewStore()
		built := 0
		m := NewManager(Options{Stats: st, Built: func() { built++ }})
		defer m.Close()
		thaws, hostThaws := 0, 0
		for _, s := range []*Spec{thawable("static", &thaws), serviceSpec("eds", "s")} {
			if s.Thaw == nil {
				s.Thaw = func() (*Spec, error) { thaws++; return serviceSpec("eds", "s"), nil }
			}
			if err := m.Set(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.SetAssignment(frozenHosts("s", &hostThaws, 1)); err != nil {
			t.Fatal(err)
		}
		a, b := m.Cluster("static"), m.Cluster("eds")
		early := func() { // its connections cannot be made: a use all the same
			for _, c := range []*Cluster{a, b} {
				c.running().core.stats.UpstreamRqPendingTotal.Inc()
			}
		}
		early()
		for range 5 {
			time.Sleep(idleCluster - time.Second)
			early()
			if !a.Used() || !b.Used() {
				t.Fatal("a cluster in use was given back")
			}
		}
		if built != 2 {
			t.Errorf("two clusters were built %d times", built)
		}
		before := b.run.Load()
		time.Sleep(2*idleCluster + time.Second)
		m.mu.Lock()
		for _, c := range []*Cluster{a, b} {
			if c.Used() || c.full.Load() != nil || c.slot.core != nil || c.slot.group != nil {
				t.Errorf("%s is still in use", c.name)
			}
		}
		held := b.assigned.Localities
		m.mu.Unlock()
		if len(held) != 0 || requestsShown(st) != 0 {
			t.Errorf("hosts are held: %v, %d clusters have counters", held, requestsShown(st))
		}
		if err := m.SetAssignment(frozenHosts("s", &hostThaws, 2)); err != nil {
			t.Fatal(err)
		}
		if h := before.hosts.pick(nil); h == nil || h.Addr.Port() != 1 {
			t.Errorf("who had it before picks %v", h)
		}
		if got := portPicked(t, m, "eds") + " " + portPicked(t, m, "static"); got != "2 1" || requestsShown(st) != 2 {
			t.Errorf("used again, the hosts are %s, %d clusters have counters", got, requestsShown(st))
		}
		if built != 4 {
			t.Errorf("two clusters that came back were built %d times in all", built)
		}
	})
}

// What has a connection is not idle.
func TestConnectedClustersStay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was sent
	m := NewManager(Options{})
	defer m.Close()
	thaws := 0
	s := thawable("a", &thaws)
	s.Assignment.Localities[0].Hosts[0].Addr.AddrPort = netip.MustParseAddrPort(l.Addr().String())
	again := *s
	s.Breakers = [2]Thresholds{{MaxConnections: 1}, {MaxConnections: 1}}
	s.Thaw = func() (*Spec, error) { c := again; c.Breakers = s.Breakers; return &c, nil }
	if err := m.Set(s); err != nil {
		t.Fatal(err)
	}
	c := m.Cluster("a")
	h, err := c.Pick(nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.Dial(context.Background(), h, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		m.sweepIdle()
	}
	if !c.Used() {
		t.Error("a cluster with a connection was given back")
	}
	_ = conn.Close()
	for range 2 {
		m.sweepIdle()
	}
	if c.Used() {
		t.Error("an idle cluster was not given back")
	}
	if _, err := c.Dial(context.Background(), h, nil); err != nil { // a host picked the moment before
		t.Error(err)
	}
}

// A cluster that a request asked for is told of when nobody has used it for long enough, also
// if it was never used; whoever asked for it removes it.
func TestIdleOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *Manager
		var mu sync.Mutex
		var told []string
		m = NewManager(Options{Idle: func(name string) {
			mu.Lock()
			told = append(told, name)
			mu.Unlock()
			m.Remove(name)
		}})
		defer m.Close()
		for _, name := range []string{"used", "unused", "kept"} {
			s := staticSpec(hostAt("127.0.0.1:1"))
			s.Name, s.OnDemand = name, name != "kept"
			if err := m.Set(s); err != nil {
				t.Fatal(err)
			}
		}
		pass := func(d time.Duration) []string {
			time.Sleep(d)
			synctest.Wait() // for what is told meanwhile
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(told)
		}
		use := func() { m.Cluster("used").running().core.stats.UpstreamRqTotal.Inc() }
		use()
		if idle := pass(idleCluster - time.Second); len(idle) != 0 {
			t.Errorf("too early: %v", idle)
		}
		pass(2 * time.Second)
		use()
		idle := pass(idleCluster)
		use()
		if len(idle) != 1 || idle[0] != "unused" {
			t.Errorf("after an hour: %v", idle)
		}
		idle = pass(2*idleCluster + time.Second)
		if len(idle) != 2 || idle[1] != "used" || m.Cluster("used") != nil || m.Cluster("kept") == nil {
			t.Errorf("in the end: %v", idle)
		}
	})
}
