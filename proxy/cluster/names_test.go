package cluster

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
)

// zone is a Resolver whose answers the test changes.
type zone struct {
	mu      sync.Mutex
	answers map[string]dns.Answer
	err     error
	slow    time.Duration
	asked   []string
}

func (z *zone) Lookup(ctx context.Context, name string, _ dns.Want) (dns.Answer, error) {
	if z.slow > 0 {
		select {
		case <-time.After(z.slow):
		case <-ctx.Done():
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked = append(z.asked, name)
	return z.answers[name], z.err
}

func (z *zone) set(name string, ttl time.Duration, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	a := dns.Answer{TTL: ttl}
	for _, s := range addrs {
		if ip := netip.MustParseAddr(s); ip.Is4() {
			a.V4 = append(a.V4, ip)
		} else {
			a.V6 = append(a.V6, ip)
		}
	}
	if z.answers == nil {
		z.answers = map[string]dns.Answer{}
	}
	z.answers[name] = a
}

func (z *zone) fail(err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.err = err
}

func (z *zone) count() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.asked)
}

func named(names ...string) *Spec {
	s := staticSpec()
	s.Type = StrictDNS
	for _, n := range names {
		s.Assignment.Localities[0].Hosts = append(s.Assignment.Localities[0].Hosts, HostSpec{DNSName: n, Port: 80, Weight: 3})
	}
	return s
}

// Without wait_for_warm_on_init a cluster is there at once, and hosts come name by name.
func TestDNSWithoutWait(t *testing.T) {
	z := &zone{slow: time.Second}
	z.set("a.test", 0, "10.0.0.1")
	z.set("b.test", 0, "10.0.0.2")
	onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
		s := named("a.test", "b.test")
		s.DNS.NoWait = true
		s.Assignment.Localities[0].Hosts = append(s.Assignment.Localities[0].Hosts, hostAt("10.0.9.9:90"))
		mustSet(t, m, s)
		c := m.Cluster("web")
		if c == nil || m.Warming() != 0 {
			t.Fatal("the cluster waits")
		}
		if got := addrs(c); got != "10.0.9.9:90" {
			t.Errorf("before any answer the hosts are %s", got)
		}
		after(2 * time.Second)
		if got := addrs(c); got != "10.0.0.1:80 10.0.0.2:80 10.0.9.9:90" {
			t.Errorf("the hosts are %s", got)
		}
	})
}

func TestStrictDNS(t *testing.T) {
	z := &zone{}
	z.set("a.test", 0, "10.0.0.2", "10.0.0.1")
	z.set("b.test", 0, "10.0.1.1", "10.0.0.1")
	onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
		s := named("a.test", "b.test")
		s.DNS.Refresh = 10 * time.Second
		s.Assignment.Localities[0].Hosts[1].Hostname = "beta"
		s.Assignment.Localities[0].Hosts = append(s.Assignment.Localities[0].Hosts, hostAt("10.0.9.9:90"))
		mustSet(t, m, s)
		after(0)
		c := m.Cluster("web")
		if c == nil {
			t.Fatal("the cluster is not ready")
		}
		if got := addrs(c); got != "10.0.0.1:80 10.0.0.2:80 10.0.1.1:80 10.0.9.9:90" {
			t.Errorf("the hosts are %s", got)
		}
		for _, h := range c.Hosts() {
			want := map[string]string{"10.0.0.1:80": "a.test", "10.0.0.2:80": "a.test", "10.0.1.1:80": "beta", "10.0.9.9:90": ""}[h.Addr.String()]
			if h.Hostname != want {
				t.Errorf("the hostname of %s is %q, want %q", h.Addr, h.Hostname, want)
			}
		}
		conn := mustAcquire(t, c, c.Hosts()[0])
		c.Release(conn, true)
		z.set("a.test", 0, "10.0.0.1", "10.0.0.3")
		after(11 * time.Second)
		if got := addrs(c); got != "10.0.0.1:80 10.0.0.3:80 10.0.1.1:80 10.0.9.9:90" {
			t.Errorf("after the change the hosts are %s", got)
		}
		if mustAcquire(t, c, c.Hosts()[0]) != conn {
			t.Error("the connection to a host that stays was not kept")
		}
		st, before := c.Stats(), c.run.Load()
		z.set("a.test", 0, "10.0.0.3", "10.0.0.1")
		after(10 * time.Second)
		if c.run.Load() != before {
			t.Error("another order of the same addresses is no change")
		}
		z.fail(errors.New("no server"))
		after(time.Hour)
		if got := addrs(c); got != "10.0.0.1:80 10.0.0.3:80 10.0.1.1:80 10.0.9.9:90" {
			t.Errorf("after failures the hosts are %s", got)
		}
		if st.UpdateFailure.Value() == 0 || st.UpdateSuccess.Value() == 0 || st.UpdateAttempt.Value() != st.UpdateFailure.Value()+st.UpdateSuccess.Value() {
			t.Error("the lookups are not counted")
		}
		z.fail(nil)
		z.set("a.test", 0)
		after(21 * time.Second)
		if got := addrs(c); got != "10.0.0.1:80 10.0.1.1:80 10.0.9.9:90" {
			t.Errorf("a name that has no addresses any more leaves %s", got)
		}
		asked := z.count()
		m.Remove("web")
		after(time.Hour)
		if z.count() != asked {
			t.Error("the names of a removed cluster are still looked up")
		}
	})
}

func TestDNSPauses(t *testing.T) {
	for _, tc := range []struct {
		name string
		dns  DNS
		ttl  time.Duration
		err  error
		want []time.Duration // pauses between lookups
	}{
		{"default", DNS{}, 0, nil, []time.Duration{5 * time.Second, 5 * time.Second}},
		{"refresh rate", DNS{Refresh: time.Minute}, 7 * time.Second, nil, []time.Duration{time.Minute, time.Minute}},
		{"TTL", DNS{Refresh: time.Minute, RespectTTL: true}, 7 * time.Second, nil, []time.Duration{7 * time.Second, 7 * time.Second}},
		{"no TTL", DNS{Refresh: time.Minute, RespectTTL: true}, 0, nil, []time.Duration{time.Minute}},
		{"failures", DNS{Refresh: 3 * time.Second}, 0, errors.New("x"), []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second}},
		{"failure rate", DNS{FailureBase: 2 * time.Second, FailureMax: 5 * time.Second}, 0, errors.New("x"), []time.Duration{2 * time.Second, 4 * time.Second, 5 * time.Second}},
	} {
		z := &zone{err: tc.err}
		z.set("a.test", tc.ttl, "10.0.0.1")
		onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
			s := named("a.test")
			s.DNS = tc.dns
			mustSet(t, m, s)
			after(0)
			for i, want := range tc.want {
				n := z.count()
				if after(want - time.Millisecond); z.count() != n {
					t.Errorf("%s: pause %d is shorter than %v", tc.name, i, want)
				}
				if after(time.Millisecond); z.count() != n+1 {
					t.Errorf("%s: pause %d is longer than %v", tc.name, i, want)
				}
			}
		})
	}
}

func TestDNSJitter(t *testing.T) {
	z := &zone{}
	z.set("a.test", 0, "10.0.0.1")
	onFakeTime(t, Options{Resolver: z, Rand: seeded()}, func(t *testing.T, m *Manager) {
		s := named("a.test")
		s.DNS = DNS{Refresh: 10 * time.Second, Jitter: 10 * time.Second}
		mustSet(t, m, s)
		after(3000 * time.Second)
		// The mean pause is 15 s.
		if n := z.count(); n < 180 || n > 220 {
			t.Errorf("%d lookups, want about 200", n)
		}
	})
}

func TestDNSWarming(t *testing.T) {
	z := &zone{slow: 3 * time.Second}
	z.set("a.test", 0, "10.0.0.1")
	onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
		mustSet(t, m, named("a.test"))
		if after(2 * time.Second); m.Ready("web") {
			t.Error("the cluster is ready before its name was looked up")
		}
		if after(2 * time.Second); !m.Ready("web") {
			t.Fatal("the cluster is not ready")
		}
		old := m.Cluster("web")
		mustPick(t, old)
		// The same name: the new version is ready at once. Another one: it warms.
		if c := mustSet(t, m, changed(old.Spec(), func(s *Spec) { s.Policy.Kind = Random })); c == old || addrs(c) != "10.0.0.1:80" {
			t.Error("what is known of a name is not taken over")
		}
		old = m.Cluster("web")
		two := named("b.test")
		two.Hash = 9
		if c := mustSet(t, m, two); c != old {
			t.Error("a version whose name is unknown replaced the old one")
		}
		z.fail(errors.New("no server"))
		if after(10 * time.Second); m.Cluster("web") == old {
			t.Error("a name that can't be looked up holds a cluster up")
		}
	})
}

func TestFamilies(t *testing.T) {
	z := &zone{}
	z.set("both.test", 0, "10.0.0.1", "fd00::1")
	z.set("four.test", 0, "10.0.0.1")
	for _, tc := range []struct {
		family Family
		name   string
		want   string
	}{
		{Auto, "both.test", "[fd00::1]:80"},
		{Auto, "four.test", "10.0.0.1:80"},
		{V4Only, "both.test", "10.0.0.1:80"},
		{V4Preferred, "both.test", "10.0.0.1:80"},
		{V4Preferred, "four.test", "10.0.0.1:80"},
		{AllFamilies, "both.test", "10.0.0.1:80 [fd00::1]:80"},
	} {
		onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
			s := named(tc.name)
			s.DNS.Family = tc.family
			mustSet(t, m, s)
			after(0)
			if got := addrs(m.Cluster("web")); got != tc.want {
				t.Errorf("family %d of %s: %s, want %s", tc.family, tc.name, got, tc.want)
			}
		})
	}
}

// A LOGICAL_DNS cluster is one host: connections stay when its address changes.
func TestLogicalDNS(t *testing.T) {
	z := &zone{}
	z.set("a.test", 0, "10.0.0.1", "10.0.0.2")
	onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
		s := named("a.test")
		s.Type = LogicalDNS
		mustSet(t, m, s)
		after(0)
		c := m.Cluster("web")
		h := mustPick(t, c)
		if len(c.Hosts()) != 1 || h.Addr.String() != "10.0.0.1:80" || len(h.extra) != 1 {
			t.Fatalf("the host is %+v", h)
		}
		conn := mustAcquire(t, c, h)
		c.Release(conn, true)
		z.set("a.test", 0, "10.0.0.3")
		after(6 * time.Second)
		h = mustPick(t, c)
		if h.Addr.String() != "10.0.0.3:80" {
			t.Errorf("new connections go to %s", h.Addr)
		}
		if mustAcquire(t, c, h) != conn {
			t.Error("the connection was not kept")
		}
		if n := c.Stats().MembershipChange.Value(); n != 1 {
			t.Errorf("membership_change is %d, want 1", n)
		}
	})
}
