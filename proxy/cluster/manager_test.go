package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

func edsSpec(name string) *Spec {
	s := staticSpec()
	s.Name, s.Type, s.ServiceName, s.Assignment = name, EDS, "svc-"+name, nil
	return s
}

// changed is a copy of a spec with another hash and what f changes.
func changed(s *Spec, f func(*Spec)) *Spec {
	c := *s
	c.Hash++
	f(&c)
	return &c
}

func mustAssign(t *testing.T, m *Manager, a *Assignment) {
	t.Helper()
	if err := m.SetAssignment(a); err != nil {
		t.Fatal(err)
	}
}

func addrs(c *Cluster) string {
	var all []string
	for _, h := range c.Hosts() {
		all = append(all, h.Addr.String())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestSetOfAnEqualSpecChangesNothing(t *testing.T) {
	m := newTestManager(t, Options{})
	c := mustSet(t, m, staticSpec(hostAt("10.0.0.1:80")))
	if again := mustSet(t, m, staticSpec(hostAt("10.0.0.2:80"))); again != c {
		t.Error("a spec with an equal hash replaced the cluster")
	}
}

func TestSetRefusesWhatCannotWork(t *testing.T) {
	m := newTestManager(t, Options{})
	for want, f := range map[string]func(*Spec){
		"name":                               func(s *Spec) { s.Name = "" },
		"connect_timeout":                    func(s *Spec) { s.ConnectTimeout = 0 },
		"load_assignment.endpoints[0].prior": func(s *Spec) { s.Assignment.Localities[0].Priority = 1 << 30 },
		"LOGICAL_DNS":                        func(s *Spec) { s.Type = LogicalDNS },
	} {
		s := staticSpec()
		f(s)
		if err := m.Set(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one that says %q", err, want)
		}
	}
	if len(m.Names()) != 0 {
		t.Error("a refused cluster is there")
	}
	a := assignment("x")
	a.Localities[0].Priority = 129
	if err := m.SetAssignment(a); err == nil {
		t.Error("an assignment with a priority of 129 was accepted")
	}
}

// A new version that connects in the same way goes on with connections and counters.
func TestConnectionsOutliveAVersion(t *testing.T) {
	o := newOrigin(t)
	m := newTestManager(t, Options{})
	old := mustSet(t, m, staticSpec(o.host()))
	idle, busy := mustAcquire(t, old, mustPick(t, old)), mustAcquire(t, old, mustPick(t, old))
	old.Release(idle, true)
	c := mustSet(t, m, changed(old.Spec(), func(s *Spec) {
		s.Policy.Kind = Random
		s.Breakers[Default].MaxConnections = 2
	}))
	if c == old || c.Spec().Policy.Kind != Random {
		t.Fatal("the cluster was not replaced")
	}
	h := mustPick(t, c)
	if got := mustAcquire(t, c, h); got != idle {
		t.Error("the idle connection was not kept")
	}
	old.Release(busy, true)
	if got := mustAcquire(t, c, h); got != busy {
		t.Error("a connection that was released to the old version was not kept")
	}
	if n := h.Stats().RqTotal.Value(); n != 4 {
		t.Errorf("the host's rq_total is %d, want 4", n)
	}
	if _, err := c.Acquire(context.Background(), h, nil, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the new limit is not obeyed: %v", err)
	}
}

func TestConnectionsDoNotOutliveTheirSocketOptions(t *testing.T) {
	o := newOrigin(t)
	m := newTestManager(t, Options{})
	old := mustSet(t, m, staticSpec(o.host()))
	idle, busy := mustAcquire(t, old, mustPick(t, old)), mustAcquire(t, old, mustPick(t, old))
	old.Release(idle, true)
	c := mustSet(t, m, changed(old.Spec(), func(s *Spec) { s.KeepAlive = &TCPKeepAlive{} }))
	receive(t, o.gone)
	conn := mustAcquire(t, c, mustPick(t, c))
	if ok, err := exchange(busy); err != nil || !ok {
		t.Errorf("what was under way does not go on: %v", err)
	}
	old.Release(busy, true)
	receive(t, o.gone)
	c.Release(conn, true)
	// Who still works with the old version can.
	late := mustAcquire(t, old, mustPick(t, old))
	if _, err := exchange(late); err != nil {
		t.Error(err)
	}
	old.Release(late, true)
	receive(t, o.gone)
	if st := c.Stats(); st != old.Stats() || st.UpstreamRqTotal.Value() != 4 {
		t.Error("the counters do not go on")
	}
}

func TestRemove(t *testing.T) {
	o := newOrigin(t)
	st := stats.NewStore()
	m := newTestManager(t, Options{Stats: st})
	c := mustSet(t, m, staticSpec(o.host()))
	idle, busy := mustAcquire(t, c, mustPick(t, c)), mustAcquire(t, c, mustPick(t, c))
	c.Release(idle, true)
	m.Remove("web")
	m.Remove("web")
	receive(t, o.gone)
	if m.Cluster("web") != nil || value(st, "cluster.web.upstream_cx_total") != -1 {
		t.Error("the cluster is still there")
	}
	if ok, err := exchange(busy); err != nil || !ok {
		t.Errorf("what was under way does not go on: %v", err)
	}
	c.Release(busy, true)
	receive(t, o.gone)
	if a, b := value(st, "cluster_manager.active_clusters"), value(st, "cluster_manager.cluster_removed"); a != 0 || b != 1 {
		t.Errorf("active_clusters %d, cluster_removed %d, want 0 and 1", a, b)
	}
	// Nobody had used this one before it was removed; who has got hold of it can.
	c = mustSet(t, m, changed(staticSpec(o.host()), func(s *Spec) { s.Name = "late" }))
	m.Remove("late")
	conn := mustAcquire(t, c, mustPick(t, c))
	c.Release(conn, true)
	receive(t, o.gone)
	if value(st, "cluster.late.upstream_cx_total") != -1 {
		t.Error("the counters of a removed cluster came back")
	}
}

func TestEDSWarming(t *testing.T) {
	var ready []string
	st := stats.NewStore()
	m := newTestManager(t, Options{Stats: st, Ready: func(n string) { ready = append(ready, n) }})
	if c := mustSet(t, m, edsSpec("a")); c != nil {
		t.Fatal("the cluster is there before its hosts")
	}
	if _, warming := m.All(); len(warming) != 1 || value(st, "cluster_manager.warming_clusters") != 1 {
		t.Error("the cluster is not warming")
	}
	mustAssign(t, m, assignment("another", hostAt("10.0.0.9:80")))
	if m.Ready("a") {
		t.Error("another's hosts made it usable")
	}
	mustAssign(t, m, assignment("svc-a", hostAt("10.0.0.1:80")))
	c := m.Cluster("a")
	if c == nil || addrs(c) != "10.0.0.1:80" {
		t.Fatal("the cluster does not have its hosts")
	}
	// A new version finds the assignment that is known.
	if c = mustSet(t, m, changed(c.Spec(), func(s *Spec) { s.Policy.Kind = Random })); c.Spec().Policy.Kind != Random || addrs(c) != "10.0.0.1:80" {
		t.Error("the new version did not get the hosts at once")
	}
	// A new version that waits for another assignment leaves the old one in place.
	if got := mustSet(t, m, changed(c.Spec(), func(s *Spec) { s.ServiceName = "other" })); got != c {
		t.Error("a warming version replaced the active one")
	}
	mustAssign(t, m, assignment("other", hostAt("10.0.0.2:80")))
	if c = m.Cluster("a"); addrs(c) != "10.0.0.2:80" {
		t.Error("the new version did not replace the old one")
	}
	if got := strings.Join(ready, " "); got != "a a a" {
		t.Errorf("Ready was called for %q", got)
	}
	if m.Assignment("svc-a") != nil {
		t.Error("an assignment that nobody wants any more is kept")
	}
	m.Remove("a")
	if m.Assignment("other") != nil {
		t.Error("the assignment outlives the cluster")
	}
	if c := mustSet(t, m, edsSpec("a")); c != nil {
		t.Error("a cluster that came back found old hosts")
	}
}

func TestInitialFetchTimeout(t *testing.T) {
	for _, tc := range []struct{ set, want time.Duration }{{0, 15 * time.Second}, {time.Second, time.Second}, {-1, 0}} {
		onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
			s := edsSpec("a")
			s.InitialFetchTimeout = tc.set
			mustSet(t, m, s)
			if tc.want == 0 {
				if after(time.Hour); m.Ready("a") {
					t.Error("the cluster did not wait for ever")
				}
				return
			}
			if after(tc.want - time.Millisecond); m.Ready("a") {
				t.Errorf("%v: the cluster did not wait", tc.set)
			}
			if after(2 * time.Millisecond); !m.Ready("a") {
				t.Fatalf("%v: the cluster waits for ever", tc.set)
			}
			c := m.Cluster("a")
			if _, err := c.Pick(nil); !errors.Is(err, ErrNoHealthyHost) || c.Stats().InitFetchTimeout.Value() != 1 {
				t.Errorf("without hosts the error is %v", err)
			}
			mustAssign(t, m, assignment("svc-a", hostAt("10.0.0.1:80")))
			if addrs(c) != "10.0.0.1:80" {
				t.Error("hosts that came late were not taken")
			}
		})
	}
}

// Hosts come and go; connections to those that stay, stay.
func TestHostsChange(t *testing.T) {
	o1, o2 := newOrigin(t), newOrigin(t)
	m := newTestManager(t, Options{})
	mustSet(t, m, edsSpec("a"))
	mustAssign(t, m, assignment("svc-a", o1.host(), o2.host()))
	c := m.Cluster("a")
	hosts := c.Hosts()
	idle1, idle2 := mustAcquire(t, c, hosts[0]), mustAcquire(t, c, hosts[1])
	busy2 := mustAcquire(t, c, hosts[1])
	c.Release(idle1, true)
	c.Release(idle2, true)
	h1 := o1.host()
	h1.Weight, h1.Hostname = 7, "first"
	mustAssign(t, m, assignment("svc-a", h1))
	<-o2.gone
	h := mustPick(t, c)
	if !h.Same(hosts[0]) || h == hosts[0] || h.Weight != 7 || h.Hostname != "first" {
		t.Errorf("the host is %+v", h)
	}
	if got := mustAcquire(t, c, h); got != idle1 {
		t.Error("the connection to the host that stays was not kept")
	}
	if ok, err := exchange(busy2); err != nil || !ok {
		t.Errorf("what was under way does not go on: %v", err)
	}
	c.Release(busy2, true)
	<-o2.gone
	st := c.Stats()
	if st.MembershipTotal.Value() != 1 || st.MembershipChange.Value() != 2 || st.MaxHostWeight.Value() != 7 {
		t.Errorf("membership_total %d, membership_change %d, max_host_weight %d", st.MembershipTotal.Value(), st.MembershipChange.Value(), st.MaxHostWeight.Value())
	}
	// An equal assignment changes nothing.
	same := assignment("svc-a", h1)
	same.Hash = 5
	mustAssign(t, m, same)
	before := c.run.Load()
	again := *same
	mustAssign(t, m, &again)
	if c.run.Load() != before || st.UpdateNoRebuild.Value() != 1 {
		t.Error("an equal assignment was taken over again")
	}
}

func TestTheSameAddressTwice(t *testing.T) {
	m := newTestManager(t, Options{})
	mustSet(t, m, edsSpec("a"))
	mustAssign(t, m, assignment("svc-a", hostAt("10.0.0.1:80"), hostAt("10.0.0.1:80")))
	if got := addrs(m.Cluster("a")); got != "10.0.0.1:80" {
		t.Errorf("the hosts are %s", got)
	}
}

func TestStatNames(t *testing.T) {
	st := stats.NewStore()
	m := newTestManager(t, Options{Stats: st})
	s := staticSpec(hostAt("10.0.0.1:80"))
	s.Name, s.StatName = "outbound|80||web", "web:80;"
	c := mustSet(t, m, s)
	if value(st, "cluster.web_80;.upstream_cx_total") != -1 {
		t.Error("an unused cluster has counters")
	}
	mustPick(t, c)
	if value(st, "cluster.web_80;.membership_total") != 1 {
		t.Error("a used cluster has no counters")
	}
}

func TestCloseEndsWaits(t *testing.T) {
	o := newOrigin(t)
	m := NewManager(Options{})
	s := staticSpec(o.host())
	s.Breakers[Default].MaxConnections = 1
	c := mustSet(t, m, s)
	h := mustPick(t, c)
	conn := mustAcquire(t, c, h)
	ch := acquireLater(c, h, time.Time{})
	eventually(t, "the request queues", waiting(c, 1))
	m.Close()
	m.Close()
	if got := receive(t, ch); !errors.Is(got.err, ErrClosed) {
		t.Errorf("the error is %v, want ErrClosed", got.err)
	}
	c.Release(conn, true)
	receive(t, o.gone)
	if _, err := c.Acquire(context.Background(), h, nil, time.Time{}); !errors.Is(err, ErrClosed) {
		t.Errorf("the error is %v, want ErrClosed", err)
	}
	if err := m.Set(s); !errors.Is(err, ErrClosed) {
		t.Errorf("the error is %v, want ErrClosed", err)
	}
}

// Ten thousand clusters that nobody uses must fit into a sidecar.
func TestUnusedClustersAreSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	const n, most = 10000, 3 << 10
	m := NewManager(Options{Stats: stats.NewStore()})
	defer m.Close()
	heap := func() uint64 {
		var ms runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&ms)
		return ms.HeapAlloc
	}
	before := heap()
	for i := range n {
		s := edsSpec(fmt.Sprintf("outbound|%d||service-%d.default.svc.cluster.local", i, i))
		s.ServiceName = s.Name
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		mustAssign(t, m, assignment(s.Name, hostAt(fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)), hostAt(fmt.Sprintf("10.1.%d.%d:80", i/250, i%250))))
	}
	each := (heap() - before) / n
	t.Logf("%d bytes for each cluster with two hosts", each)
	if each > most {
		t.Errorf("a cluster that nobody uses takes %d bytes, want at most %d", each, most)
	}
	runtime.KeepAlive(m)
}
