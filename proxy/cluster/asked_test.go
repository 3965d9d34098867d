package cluster

import (
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
)

// TestOriginalDestinationsAreWatched: they are checked and ejected, and used all the same;
// the gauges tell, and nothing is left of those that are forgotten.
func TestOriginalDestinationsAreWatched(t *testing.T) {
	withHosts(t, func(t *testing.T, m *Manager, w *reach) {
		s := originalSpec()
		s.CleanupEvery = 30 * time.Second
		s.Checks = tcpChecks()
		o := outlier.Default()
		o.MaxPercent, o.Consecutive[outlier.Consecutive5xx] = 100, 1
		s.Outlier = &o
		c := mustSet(t, m, s)
		w.set("10.0.0.2:80", true)
		pick := func(addr string) *Host {
			t.Helper()
			h, err := c.Pick(to(addr))
			if err != nil {
				t.Fatalf("%s: %v", addr, err)
			}
			return h
		}
		good, ill := pick("10.0.0.1:80"), pick("10.0.0.2:80")
		if good.Flags()|ill.Flags() != 0 {
			t.Errorf("flags %b and %b before the first check", good.Flags(), ill.Flags())
		}
		after(time.Second)
		st := c.Stats()
		if ill.Flags() != FailedActiveHC || pick("10.0.0.2:80") != ill || st.MembershipHealthy.Value() != 1 || st.MembershipTotal.Value() != 2 {
			t.Errorf("flags %b, %d of %d healthy", ill.Flags(), st.MembershipHealthy.Value(), st.MembershipTotal.Value())
		}
		good.Outlier().Code(500, false)
		if good.Flags() != FailedOutlierCheck || st.MembershipHealthy.Value() != 0 || pick("10.0.0.1:80") != good {
			t.Errorf("flags %b, %d healthy", good.Flags(), st.MembershipHealthy.Value())
		}
		after(2 * time.Minute)
		if st.MembershipTotal.Value() != 0 || st.MembershipHealthy.Value() != 0 || len(c.Hosts()) != 0 {
			t.Fatalf("%d members are left, %d healthy", st.MembershipTotal.Value(), st.MembershipHealthy.Value())
		}
		asked := w.count("10.0.0.1:80")
		after(5 * time.Minute)
		if n := w.count("10.0.0.1:80"); n != asked {
			t.Errorf("%d checks of a host that is forgotten", n-asked)
		}
		if h := pick("10.0.0.1:80"); h.Flags() != 0 {
			t.Errorf("flags %b of a host that is new again", h.Flags())
		}
	})
}

// TestForwardedHostsAreWatched: an ejected one is not picked.
func TestForwardedHostsAreWatched(t *testing.T) {
	z := &zone{}
	z.set("a.test", 10*time.Second, "10.0.0.1")
	z.set("b.test", 10*time.Second, "10.0.0.2")
	onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
		s := forwardSpec()
		o := outlier.Default()
		o.MaxPercent, o.Consecutive[outlier.Consecutive5xx] = 100, 1
		s.Outlier = &o
		c := mustSet(t, m, s)
		cache, release, err := m.DNSCache(s.Forward)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		for _, name := range []string{"a.test", "b.test"} {
			if _, err := cache.Resolve(t.Context(), dnscache.Key{Host: name, Port: 80}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Pick(asking(name)); err != nil {
				t.Fatal(err)
			}
		}
		h, _ := c.Pick(asking("a.test"))
		h.Outlier().Code(500, false)
		if _, err := c.Pick(asking("a.test")); err == nil {
			t.Error("an ejected host is picked")
		}
		if _, err := c.Pick(asking("b.test")); err != nil {
			t.Errorf("another host: %v", err)
		}
		if st := c.Stats(); st.MembershipHealthy.Value() != 1 || st.MembershipTotal.Value() != 2 {
			t.Errorf("%d of %d healthy", st.MembershipHealthy.Value(), st.MembershipTotal.Value())
		}
		after(45 * time.Second)
		if _, err := c.Pick(asking("a.test")); err != nil {
			t.Errorf("after its time: %v", err)
		}
	})
}
