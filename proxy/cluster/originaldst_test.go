package cluster

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

func originalSpec() *Spec {
	s := staticSpec()
	s.Type, s.Policy.Kind, s.Assignment = OriginalDestination, ClusterProvided, nil
	return s
}

// to is an attempt on a connection that was redirected.
func to(addr string) *Attempt {
	return &Attempt{Conn: &meta.Conn{Local: meta.Addr{AddrPort: netip.MustParseAddrPort(addr)}, LocalRestored: true}}
}

func TestOriginalDestination(t *testing.T) {
	withHeader := func(a *Attempt, v string) *Attempt {
		a.Headers = &header.Map{}
		a.Headers.Add("x-envoy-original-dst-host", v)
		return a
	}
	direct := to("10.0.0.1:80")
	direct.Conn.LocalRestored = false
	for _, tc := range []struct {
		name    string
		conf    OriginalDst
		attempt *Attempt
		want    string // "" is no host
		invalid uint64
	}{
		{"redirected", OriginalDst{}, to("10.0.0.1:80"), "10.0.0.1:80", 0},
		{"IPv6", OriginalDst{}, to("[fd00::1]:80"), "[fd00::1]:80", 0},
		{"not redirected", OriginalDst{}, direct, "", 0},
		{"nothing known", OriginalDst{}, nil, "", 0},
		{"header not asked for", OriginalDst{}, withHeader(to("10.0.0.1:80"), "10.0.0.2:81"), "10.0.0.1:80", 0},
		{"header", OriginalDst{UseHTTPHeader: true}, withHeader(to("10.0.0.1:80"), "10.0.0.2:81"), "10.0.0.2:81", 0},
		{"no header", OriginalDst{UseHTTPHeader: true}, to("10.0.0.1:80"), "10.0.0.1:80", 0},
		{"bad header", OriginalDst{UseHTTPHeader: true}, withHeader(to("10.0.0.1:80"), "web:80"), "", 1},
		{"named header", OriginalDst{UseHTTPHeader: true, HTTPHeader: "x-to"}, withHeader(to("10.0.0.1:80"), "10.0.0.2:81"), "10.0.0.1:80", 0},
		{"port override", OriginalDst{PortOverride: 9000}, to("10.0.0.1:80"), "10.0.0.1:9000", 0},
	} {
		s := originalSpec()
		s.OriginalDst = tc.conf
		c := mustSet(t, newTestManager(t, Options{}), s)
		got := ""
		h, err := c.Pick(tc.attempt)
		switch {
		case err == nil:
			got = h.Addr.String()
		case !errors.Is(err, ErrNoHealthyHost):
			t.Errorf("%s: the error is %v", tc.name, err)
		}
		if got != tc.want || c.Stats().OriginalDstHostInvalid.Value() != tc.invalid {
			t.Errorf("%s: the host is %q, want %q; original_dst_host_invalid %d", tc.name, got, tc.want, c.Stats().OriginalDstHostInvalid.Value())
		}
	}
}

func TestOriginalDestinationsAreForgotten(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		c := mustSet(t, m, originalSpec())
		pick := func(addr string) *Host {
			h, err := c.Pick(to(addr))
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		used, busy := pick("10.0.0.1:80"), pick("10.0.0.2:80")
		idle := pick("10.0.0.3:80")
		conn := mustAcquire(t, c, busy)
		c.Release(mustAcquire(t, c, idle), true)
		for range 3 {
			after(4 * time.Second)
			if pick("10.0.0.1:80") != used {
				t.Error("a destination in use was forgotten")
			}
		}
		if got := addrs(c); got != "10.0.0.1:80 10.0.0.2:80" {
			t.Errorf("the destinations are %s", got)
		}
		if st := c.Stats(); st.UpstreamCxActive.Value() != 1 || st.MembershipTotal.Value() != 2 {
			t.Errorf("upstream_cx_active %d, want the busy one; membership_total %d, want 2", st.UpstreamCxActive.Value(), st.MembershipTotal.Value())
		}
		c.Release(conn, true)
		after(20 * time.Second)
		if got := addrs(c); got != "" {
			t.Errorf("the destinations are %s", got)
		}
		if c.running().own.(*originalHosts).cleanup.index != 0 {
			t.Error("the cleanup goes on with nothing to clean")
		}
	})
}

// A new version of the cluster keeps the connections.
func TestOriginalDestinationsOutliveAVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Options{})
		defer m.Close()
		m.dial = dialPipe
		old := mustSet(t, m, originalSpec())
		h, _ := old.Pick(to("10.0.0.1:80"))
		conn := mustAcquire(t, old, h)
		old.Release(conn, true)
		c := mustSet(t, m, changed(old.Spec(), func(s *Spec) { s.CleanupEvery = time.Hour }))
		h, _ = c.Pick(to("10.0.0.1:80"))
		if got := mustAcquire(t, c, h); got != conn {
			t.Error("the connection was not kept")
		}
		m.Remove("web")
		c.Release(conn, true)
		if n := c.Stats().UpstreamCxActive.Value(); n != 0 {
			t.Errorf("%d connections after the cluster was removed", n)
		}
	})
}

func TestPickOfAKnownDestinationAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := originalSpec()
	s.OriginalDst.UseHTTPHeader = true
	c := mustSet(t, newTestManager(t, Options{}), s)
	a := to("10.0.0.1:80")
	a.Headers = &header.Map{}
	a.Headers.Add("x-envoy-original-dst-host", "10.0.0.2:81")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := c.Pick(a); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a pick allocates %v times", n)
	}
}

// What can be remembered is bounded; beyond it everything works, but costs more.
func TestTooManyDestinations(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		c := mustSet(t, m, originalSpec())
		o := c.running().own.(*originalHosts)
		for i := range maxOriginalHosts {
			a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80)
			o.hosts[meta.Addr{AddrPort: a}] = &originalHost{}
		}
		h, err := c.Pick(to("192.0.2.1:80"))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := c.Acquire(context.Background(), h, nil, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		c.Release(conn, true)
		if n := c.Stats().UpstreamCxActive.Value(); len(o.hosts) != maxOriginalHosts || n != 0 {
			t.Errorf("%d destinations, %d connections", len(o.hosts), n)
		}
		clear(o.hosts)
	})
}
