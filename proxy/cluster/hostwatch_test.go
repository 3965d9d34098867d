package cluster

import (
	"slices"
	"sync"
	"testing"
)

// checker is a health checker for which hosts are what the test says.
type checker struct {
	mu    sync.Mutex
	hosts []string
	calls int
}

func (k *checker) watch(c *Cluster) (stop func()) {
	return c.WatchHosts(HostWatcher{
		Begin: func(*Host) HealthFlags { return FailedActiveHC | FailedEDSHealth },
		Changed: func(added, removed []*Host) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.calls++
			for _, h := range removed {
				k.hosts = slices.DeleteFunc(k.hosts, func(a string) bool { return a == h.Addr.String() })
			}
			for _, h := range added {
				k.hosts = append(k.hosts, h.Addr.String())
			}
		},
	})
}

func (k *checker) want(t *testing.T, what string, calls int, hosts ...string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Equal(k.hosts, hosts) || k.calls != calls {
		t.Errorf("%s: %v after %d calls, want %v after %d", what, k.hosts, k.calls, hosts, calls)
	}
}

func newAssignment(hash uint64, hosts ...HostSpec) *Assignment {
	a := assignment("svc-web", hosts...)
	a.Hash = hash
	return a
}

// TestACheckerSeesHostsComeAndGo across updates and versions of the cluster, and what it
// finds out counts with the next pick.
func TestACheckerSeesHostsComeAndGo(t *testing.T) {
	m := newTestManager(t, Options{})
	if err := m.Set(edsSpec("web")); err != nil {
		t.Fatal(err)
	}
	mustAssign(t, m, newAssignment(1, hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80")))
	c := m.Cluster("web")
	k := &checker{}
	stop := k.watch(c)
	k.want(t, "at first", 1, "10.0.0.1:80", "10.0.0.2:80")
	for _, h := range c.Hosts() {
		if h.Flags() != FailedActiveHC {
			t.Errorf("%s begins with %x: a checker has no say in what discovery says", h.Addr, h.Flags())
		}
	}
	c.SetFlags(c.Hosts()[1], 0, FailedActiveHC)
	for range 50 {
		if h := mustPick(t, c); h.Addr.String() != "10.0.0.2:80" {
			t.Fatalf("%s is picked, which was not checked", h.Addr)
		}
	}

	weighty := hostAt("10.0.0.2:80")
	weighty.Weight = 7
	mustAssign(t, m, newAssignment(2, weighty, hostAt("10.0.0.3:80")))
	k.want(t, "one came, one went, one changed", 2, "10.0.0.2:80", "10.0.0.3:80")
	if h := c.Hosts(); h[0].Flags() != 0 || h[1].Flags() != FailedActiveHC {
		t.Errorf("flags are %x and %x", h[0].Flags(), h[1].Flags())
	}

	s := edsSpec("web")
	s.Hash = 2
	s.PanicThreshold = 0
	c = mustSet(t, m, s)
	k.want(t, "a new version with the same hosts", 2, "10.0.0.2:80", "10.0.0.3:80")
	c.SetFlags(c.Hosts()[0], FailedOutlierCheck, 0)
	if h, err := c.Pick(&Attempt{}); err == nil {
		t.Errorf("%s is picked: nobody is well and there is no panic", h.Addr)
	}
	c.SetFlags(c.Hosts()[0], 0, FailedOutlierCheck)
	mustPick(t, c)

	m.Remove("web")
	k.want(t, "the cluster was removed", 3)
	stop()
}

func TestAWatchEnds(t *testing.T) {
	m := newTestManager(t, Options{})
	if err := m.Set(edsSpec("web")); err != nil {
		t.Fatal(err)
	}
	mustAssign(t, m, newAssignment(1))
	k := &checker{}
	stop := k.watch(m.Cluster("web"))
	mustAssign(t, m, newAssignment(2, hostAt("10.0.0.1:80")))
	stop()
	mustAssign(t, m, newAssignment(3))
	k.want(t, "nothing is told after the end", 1, "10.0.0.1:80")
}
