package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func hostNames(c *Cluster) string {
	var out []string
	for _, h := range c.Hosts() {
		out = append(out, strings.TrimSuffix(strings.TrimPrefix(h.Addr.String(), "10.0.0."), ":80"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestWellHostsStay: one that has left discovery is used until it fails a check, and comes
// back as if nothing had been.
func TestWellHostsStay(t *testing.T) {
	withHosts(t, func(t *testing.T, m *Manager, w *reach) {
		s := checkedSpec()
		s.Type, s.Assignment = EDS, nil
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		off := hostAt("10.0.0.4:80")
		off.Check = &HostCheck{Disabled: true}
		set := func(hosts ...HostSpec) {
			t.Helper()
			if err := m.SetAssignment(assignment("web", hosts...)); err != nil {
				t.Fatal(err)
			}
			after(0)
		}
		w.set("10.0.0.3:80", true)
		set(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"), hostAt("10.0.0.3:80"), off)
		c := m.Cluster("web")
		second := c.Hosts()[1]
		set(hostAt("10.0.0.1:80"))
		if got := hostNames(c); got != "1 2" || second.Flags() != PendingDynamicRemoval {
			t.Fatalf("hosts %s, flags %b: what is ill, or not checked, goes at once, what is well stays", got, second.Flags())
		}
		if st := c.Stats(); st.MembershipTotal.Value() != 2 || st.MembershipHealthy.Value() != 2 {
			t.Errorf("%d of %d healthy", st.MembershipHealthy.Value(), st.MembershipTotal.Value())
		}
		seen := false
		for range 8 {
			seen = seen || mustPick(t, c).Same(second)
		}
		if !seen {
			t.Error("a host that is well is not used")
		}
		set(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"))
		if second.Flags() != 0 {
			t.Errorf("flags %b of a host that is back", second.Flags())
		}
		set(hostAt("10.0.0.1:80"))
		w.set("10.0.0.2:80", true)
		after(10 * time.Second)
		if got := hostNames(c); got != "1" {
			t.Errorf("hosts %s after a check that failed", got)
		}
		asked := w.count("10.0.0.2:80")
		after(time.Minute)
		if w.count("10.0.0.2:80") != asked {
			t.Error("a host that is gone is checked")
		}
	})
}

// TestHealthIgnoredOnRemoval: ignore_health_on_host_removal.
func TestHealthIgnoredOnRemoval(t *testing.T) {
	withHosts(t, func(t *testing.T, m *Manager, _ *reach) {
		s := checkedSpec()
		s.Type, s.Assignment, s.IgnoreHealthOnRemoval = EDS, nil, true
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		for _, hosts := range [][]HostSpec{{hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80")}, {hostAt("10.0.0.1:80")}} {
			if err := m.SetAssignment(assignment("web", hosts...)); err != nil {
				t.Fatal(err)
			}
			after(0)
		}
		if got := hostNames(m.Cluster("web")); got != "1" {
			t.Errorf("hosts %s", got)
		}
	})
}
