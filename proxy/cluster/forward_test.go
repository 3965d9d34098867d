package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

func forwardSpec() *Spec {
	s := staticSpec()
	s.Type, s.Assignment = DynamicForward, nil
	s.Forward = &Forward{Cache: dnscache.Spec{
		Name: "n", Refresh: time.Minute, MinRefresh: 5 * time.Second, HostTTL: time.Minute, MaxHosts: 8, MaxPending: 8,
	}}
	return s
}

func asking(host string) *Attempt {
	m := &header.Map{}
	m.Add(":authority", host)
	return &Attempt{Headers: m}
}

// state is filter state.
type state map[string]any

func (s state) FilterState(key string) any { return s[key] }

func TestDynamicForward(t *testing.T) {
	z := &zone{}
	z.set("a.test", 10*time.Second, "10.0.0.1", "10.0.0.2")
	onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
		c := mustSet(t, m, forwardSpec())
		if _, err := c.Pick(asking("a.test")); !errors.Is(err, ErrNoHealthyHost) {
			t.Errorf("a name that nobody has resolved: %v", err)
		}
		cache, release, err := m.DNSCache(c.Spec().Forward)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cache.Resolve(t.Context(), dnscache.Key{Host: "a.test", Port: 80}); err != nil {
			t.Fatal(err)
		}
		h, err := c.Pick(asking("A.test"))
		if err != nil || h.Addr.String() != "10.0.0.1:80" || h.Hostname != "a.test" || len(h.extra) != 1 {
			t.Fatalf("%+v, %v", h, err)
		}
		if again, _ := c.Pick(asking("a.test")); again != h {
			t.Error("another host for the same answer")
		}
		if by, err := c.Pick(&Attempt{State: state{DynamicHostKey: "a.test", DynamicPortKey: "80"}}); err != nil || by != h {
			t.Errorf("by filter state: %v, %v", by, err)
		}
		if by, err := c.Pick(&Attempt{Conn: &meta.Conn{ServerName: "a.test"}}); err != nil || by != h {
			t.Errorf("by server name: %v, %v", by, err)
		}
		conn := mustAcquire(t, c, h)
		c.Release(conn, true)
		z.set("a.test", 10*time.Second, "10.0.0.9")
		after(11 * time.Second)
		moved, err := c.Pick(asking("a.test"))
		if err != nil || moved.Addr.String() != "10.0.0.9:80" || !moved.Same(h) {
			t.Errorf("after the change: %+v, %v", moved, err)
		}
		after(3 * time.Minute)
		if n := len(c.Hosts()); n != 0 || c.Stats().MembershipTotal.Value() != 0 || c.Stats().UpstreamCxActive.Value() != 0 {
			t.Errorf("%d hosts are left, %d connections", n, c.Stats().UpstreamCxActive.Value())
		}
		other := forwardSpec()
		other.Forward.Cache.MaxHosts = 9
		if _, _, err := m.DNSCache(other.Forward); err == nil {
			t.Error("one name for two caches")
		}
		release()
		m.Remove("web")
		if len(m.caches) != 0 {
			t.Error("the cache is kept when nobody has it")
		}
	})
}

func TestOriginalDestinationOfState(t *testing.T) {
	s := staticSpec()
	s.Type, s.Assignment = OriginalDestination, nil
	s.OriginalDst.MetadataKey, s.OriginalDst.MetadataPath = "ns", []string{"to"}
	c := mustSet(t, newTestManager(t, Options{}), s)
	var md meta.Metadata
	md.Set("ns", "to", "10.0.0.3:3")
	for _, tc := range []struct {
		a    *Attempt
		want string
	}{
		{&Attempt{State: state{originalDstState: "10.0.0.2:2"}}, "10.0.0.2:2"},
		{&Attempt{State: state{originalDstState: "10.0.0.2:2"}, Metadata: &md}, "10.0.0.3:3"},
		{&Attempt{State: state{originalDstState: "nowhere"}}, ""},
		{&Attempt{}, ""},
	} {
		h, err := c.Pick(tc.a)
		if got := ""; err == nil {
			if got = h.Addr.String(); got != tc.want {
				t.Errorf("%+v leads to %s, want %s", tc.a, got, tc.want)
			}
		} else if tc.want != "" {
			t.Errorf("%+v: %v", tc.a, err)
		}
	}
	if n := c.Stats().OriginalDstHostInvalid.Value(); n != 1 {
		t.Errorf("original_dst_host_invalid is %d, want 1", n)
	}
}
