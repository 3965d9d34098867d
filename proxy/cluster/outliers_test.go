package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

func watched(hosts ...HostSpec) *Spec {
	s := staticSpec(hosts...)
	c := outlier.Default()
	c.MaxPercent, c.Consecutive[outlier.Consecutive5xx] = 50, 1
	s.Outlier = &c
	return s
}

// TestEjectedHostsAreNotPicked: out at once, back after its time, through a new version of
// the cluster.
func TestEjectedHostsAreNotPicked(t *testing.T) {
	var lines []string
	o := Options{Stats: stats.NewStore(), OutlierLog: func(line []byte) { lines = append(lines, string(line)) }}
	onFakeTime(t, o, func(t *testing.T, m *Manager) {
		c := mustSet(t, m, watched(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80")))
		bad := mustPick(t, c)
		bad.Outlier().Code(503, false)
		if bad.Flags() != FailedOutlierCheck {
			t.Fatalf("flags %b", bad.Flags())
		}
		picked := func() bool {
			for range 10 {
				if mustPick(t, m.Cluster("web")).Same(bad) {
					return true
				}
			}
			return false
		}
		if picked() {
			t.Error("an ejected host is picked")
		}
		if n := c.Stats().MembershipHealthy.Value(); n != 1 {
			t.Errorf("%d healthy members, want 1", n)
		}
		next := watched(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"))
		next.Hash, next.ConnectTimeout = 2, time.Second
		mustSet(t, m, next)
		if picked() {
			t.Error("a new version of the cluster has forgotten the ejection")
		}
		after(30*time.Second - time.Millisecond)
		if picked() {
			t.Error("back before its time")
		}
		after(10 * time.Second)
		if !picked() {
			t.Error("not back")
		}
		if len(lines) != 2 || !strings.Contains(lines[0], `"cluster_name":"web","upstream_url":"`+bad.Addr.String()+`","action":"EJECT"`) {
			t.Errorf("logged: %q", lines)
		}
	})
}

// TestWithoutOutlierDetection: a version without it lets hosts come back.
func TestWithoutOutlierDetection(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		c := mustSet(t, m, watched(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80")))
		bad := mustPick(t, c)
		bad.Outlier().Code(503, false)
		plain := staticSpec(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"))
		plain.Hash = 2
		c = mustSet(t, m, plain)
		after(0)
		if bad.Flags() != 0 || c.Stats().MembershipHealthy.Value() != 2 {
			t.Errorf("flags %b, %d healthy", bad.Flags(), c.Stats().MembershipHealthy.Value())
		}
		bad.Outlier().Code(503, false)
		if bad.Flags() != 0 {
			t.Error("still watched")
		}
	})
}

// TestEjectionsFollowMembers: a host that leaves takes its ejection along.
func TestEjectionsFollowMembers(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		s := watched()
		s.Type, s.Assignment = EDS, nil
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		assign := func(hosts ...string) {
			var list []HostSpec
			for _, h := range hosts {
				list = append(list, hostAt(h))
			}
			if err := m.SetAssignment(assignment("web", list...)); err != nil {
				t.Fatal(err)
			}
		}
		assign("10.0.0.1:80", "10.0.0.2:80")
		c := m.Cluster("web")
		bad := mustPick(t, c)
		bad.Outlier().Code(503, false)
		active := func() int64 { return c.running().core.outlierStats.Active.Value() }
		if active() != 1 {
			t.Fatalf("%d ejected", active())
		}
		assign("10.0.0.3:80")
		if active() != 0 {
			t.Errorf("%d ejected after all hosts have gone", active())
		}
		assign(bad.Addr.String(), "10.0.0.3:80")
		for _, h := range c.Hosts() {
			if h.Flags() != 0 {
				t.Errorf("%v comes back with flags %b", h.Addr, h.Flags())
			}
		}
	})
}

// TestEjectionsNeverEmpty: where panic is turned off, ejected hosts are used when nobody
// else is left; who is ill otherwise is not.
func TestEjectionsNeverEmpty(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		ill := hostAt("10.0.0.3:80")
		ill.Health = Unhealthy
		s := watched(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"), ill)
		s.Outlier.MaxPercent, s.PanicThreshold = 100, 0
		c := mustSet(t, m, s)
		for _, h := range c.Hosts()[:2] {
			h.Outlier().Code(503, false)
		}
		seen := map[string]bool{}
		for range 40 {
			seen[mustPick(t, c).Addr.String()] = true
		}
		if len(seen) != 2 || seen["10.0.0.3:80"] {
			t.Errorf("picked %v", seen)
		}
		if n := c.Stats().MembershipHealthy.Value(); n != 0 {
			t.Errorf("%d healthy, want 0", n)
		}
		after(40 * time.Second)
		if n := c.Stats().MembershipHealthy.Value(); n != 2 {
			t.Errorf("%d healthy after the ejections, want 2", n)
		}
	})
}

// TestOutlierDetectionKeepsNoClusterInUse: who is only watched is given back, and watched
// again with the next request.
func TestOutlierDetectionKeepsNoClusterInUse(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		again := func() *Spec { return watched(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80")) }
		s := again()
		s.Thaw = func() (*Spec, error) { return again(), nil }
		c := mustSet(t, m, s)
		mustPick(t, c)
		if c.Outlier() == nil {
			t.Fatal("not watched")
		}
		after(2 * idleCluster)
		if c.Used() {
			t.Fatal("still in use")
		}
		bad := mustPick(t, c)
		bad.Outlier().Code(503, false)
		if bad.Flags() != FailedOutlierCheck {
			t.Errorf("flags %b of a host that fails after the return", bad.Flags())
		}
	})
}

// TestPanicBeatsEjections: with too few healthy hosts load goes to all, as in Envoy.
func TestPanicBeatsEjections(t *testing.T) {
	onFakeTime(t, Options{}, func(t *testing.T, m *Manager) {
		s := watched(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"))
		s.Outlier.MaxPercent = 100
		c := mustSet(t, m, s)
		for _, h := range c.Hosts() {
			h.Outlier().Code(503, false)
		}
		seen := map[string]bool{}
		for range 10 {
			seen[mustPick(t, c).Addr.String()] = true
		}
		if len(seen) != 2 || c.Stats().LBHealthyPanic.Value() == 0 {
			t.Errorf("picked %v", seen)
		}
	})
}
