package cluster

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/lb"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// chiSquare reports whether counts can be what chance makes of the shares: less than one
// run in a thousand is farther off (Wilson and Hilferty's approximation).
func chiSquare(counts []int, shares []float64) bool {
	n, x, k := 0, 0.0, float64(len(counts)-1)
	for _, c := range counts {
		n += c
	}
	for i, c := range counts {
		want := shares[i] * float64(n)
		x += (float64(c) - want) * (float64(c) - want) / want
	}
	const z = 3.09
	limit := k * math.Pow(1-2/(9*k)+z*math.Sqrt(2/(9*k)), 3)
	return x <= limit
}

// everyPolicy is each policy that chooses among hosts by itself.
func everyPolicy() map[string]Policy {
	return map[string]Policy{
		"round robin":     {Kind: RoundRobin},
		"least request":   leastOf(2, 1),
		"least of all":    {Kind: LeastRequestLB, LeastRequest: LeastRequest{Choices: 2, FullScan: true, Bias: runtime.DoubleSetting{Default: 1}}},
		"random":          {Kind: Random},
		"ring hash":       {Kind: RingHashLB, Ring: lb.RingSize{Min: 1024, Max: 8 << 20}},
		"maglev":          {Kind: MaglevLB, TableSize: 65537},
		"bounded maglev":  {Kind: MaglevLB, TableSize: 65537, Hashing: Hashing{BalanceFactor: 150}},
		"client weighted": {Kind: ClientWeightedLB, Reports: LoadReports{Update: time.Second}},
		"peak EWMA":       {Kind: PeakEWMALB, Latency: Latency{Decay: 10 * time.Second, Default: 10 * time.Millisecond, Penalty: 1e6}},
	}
}

// hostsAt returns n healthy hosts.
func hostsAt(n int) []HostSpec {
	hosts := make([]HostSpec, n)
	for i := range hosts {
		hosts[i] = hostAt(fmt.Sprintf("10.%d.%d.%d:80", i>>16, i>>8&255, i&255))
	}
	return hosts
}

func policyCluster(t testing.TB, o Options, p Policy, a *Assignment) *Cluster {
	t.Helper()
	if o.Rand == nil {
		o.Rand = seeded()
	}
	m := NewManager(o)
	t.Cleanup(m.Close)
	s := staticSpec()
	s.Policy, s.Assignment, s.OverrideStatus = p, a, HealthSet(0).With(Healthy).With(Degraded)
	if err := m.Set(s); err != nil {
		t.Fatal(err)
	}
	return m.Cluster(s.Name)
}

// countPicks returns how often each host was picked, in the order of the assignment.
func countPicks(t *testing.T, c *Cluster, a *Attempt, n int) []int {
	t.Helper()
	at := map[*Host]int{}
	for i, h := range c.Hosts() {
		at[h] = i
	}
	counts := make([]int, len(at))
	for range n {
		h, err := c.Pick(a)
		if err != nil {
			t.Fatal(err)
		}
		counts[at[h]]++
	}
	return counts
}

func TestEveryPolicySpreadsEvenly(t *testing.T) {
	const n = 10
	even := make([]float64, n)
	for i := range even {
		even[i] = 1.0 / n
	}
	for name, p := range everyPolicy() {
		p.Ring.Min = 1 << 20 // a ring is as even as its points are many
		c := policyCluster(t, Options{}, p, assignment("web", hostsAt(n)...))
		if counts := countPicks(t, c, nil, 20000); !chiSquare(counts, even) {
			t.Errorf("%s: %v", name, counts)
		}
	}
}

// A pick never returns a host that is out while there is another one, from the very
// moment on, however many hosts there are.
func TestNobodyPicksTheSick(t *testing.T) {
	for _, n := range []int{3, sortAtOnce + 100} {
		for name, p := range everyPolicy() {
			c := policyCluster(t, Options{}, p, assignment("web", hostsAt(n)...))
			hosts := c.Hosts()
			mustPick(t, c)
			for round := range 30 {
				sick := hosts[round%n]
				c.SetFlags(sick, FailedOutlierCheck, 0)
				for range 50 {
					if h := mustPick(t, c); h.Same(sick) {
						t.Fatalf("%s, %d hosts: a host was picked that had just been ejected", name, n)
					}
				}
				c.SetFlags(sick, 0, FailedOutlierCheck)
			}
		}
	}
}

func TestHealthFlags(t *testing.T) {
	c := policyCluster(t, Options{}, Policy{}, assignment("web", hostsAt(4)...))
	h, st := c.Hosts(), c.Stats()
	c.SetFlags(h[0], FailedActiveHC, 0)
	c.SetFlags(h[1], DegradedActiveHC, 0)
	c.SetFlags(h[2], PendingActiveHC|FailedActiveHC, 0)
	if st.MembershipHealthy.Value() != 1 || st.MembershipDegraded.Value() != 1 || st.MembershipExcluded.Value() != 1 || st.MembershipTotal.Value() != 4 {
		t.Errorf("healthy %d, degraded %d, excluded %d of %d", st.MembershipHealthy.Value(), st.MembershipDegraded.Value(), st.MembershipExcluded.Value(), st.MembershipTotal.Value())
	}
	// 1 healthy and 1 degraded of the 3 that count: 46 % each, so the healthy one gets half.
	counts := countPicks(t, c, nil, 20000)
	if counts[0] != 0 || counts[2] != 0 || !chiSquare([]int{counts[3], counts[1]}, []float64{.5, .5}) {
		t.Errorf("picks %v", counts)
	}
	// Two flags of different owners: both must go.
	c.SetFlags(h[0], FailedOutlierCheck, 0)
	c.SetFlags(h[0], 0, FailedActiveHC)
	if !h[0].Flags().unhealthy() {
		t.Error("an ejected host is healthy because its check succeeds")
	}
	// What discovery says cannot be taken back by others.
	c.SetFlags(h[3], FailedEDSHealth, 0)
	if h[3].Flags() != 0 {
		t.Errorf("flags of a healthy host are %b", h[3].Flags())
	}
	// Everybody fails: panic, and nobody is left out.
	for _, one := range h {
		c.SetFlags(one, FailedActiveHC, PendingActiveHC)
	}
	if counts := countPicks(t, c, nil, 400); counts[0] != 100 || counts[1] != 100 {
		t.Errorf("in panic: %v", counts)
	}
	if st.LBHealthyPanic.Value() != 400 {
		t.Errorf("lb_healthy_panic is %d", st.LBHealthyPanic.Value())
	}
}

// Flags live as long as the host is a member, whatever else changes.
func TestFlagsOutliveAssignments(t *testing.T) {
	m := newTestManager(t, Options{})
	mustSet(t, m, edsSpec("web"))
	s := edsSpec("web")
	mustAssign(t, m, assignment(s.service(), hostsAt(3)...))
	c := m.Cluster("web")
	c.SetFlags(c.Hosts()[0], FailedActiveHC, 0)
	mustAssign(t, m, assignment(s.service(), hostsAt(4)...))
	if h := c.Hosts(); len(h) != 4 || h[0].Flags() != FailedActiveHC {
		t.Errorf("%d hosts, flags %b", len(h), h[0].Flags())
	}
}

func TestLocalityWeights(t *testing.T) {
	hosts := hostsAt(6)
	a := &Assignment{Localities: []Locality{
		{Zone: "a", Weight: 1, Hosts: hosts[:3]}, {Zone: "b", Weight: 3, Hosts: hosts[3:5]}, {Zone: "c", Hosts: hosts[5:]},
	}}
	p := Policy{Locality: LocalityLB{Weighted: true}}
	c := policyCluster(t, Options{}, p, a)
	counts := countPicks(t, c, nil, 12000)
	if got := fmt.Sprint(counts); got != "[1000 1000 1000 4500 4500 0]" {
		t.Errorf("picks %s: a locality without weight gets nothing, the others by theirs", got)
	}
	// With half of b gone its weight is 0.7 of what it was: 1 to 2.1.
	c.SetFlags(c.Hosts()[3], FailedActiveHC, 0)
	counts = countPicks(t, c, nil, 31000)
	if a := counts[0] + counts[1] + counts[2]; a < 9990 || a > 10010 || counts[3] != 0 {
		t.Errorf("picks %v: a gets 10000", counts)
	}
}

// zoneManager has the own cluster "us" in zones a and b, and "web".
func zoneManager(t *testing.T, us, web [2]int, p Policy) (*Manager, *Cluster) {
	m := newTestManager(t, Options{Rand: seeded(), LocalCluster: "us", Locality: LocalityName{Zone: "a"}})
	of := func(n [2]int, net string) *Assignment {
		a := &Assignment{}
		for i, zone := range []string{"b", "a"} {
			l := Locality{Zone: zone}
			for j := range n[1-i] {
				l.Hosts = append(l.Hosts, hostAt(fmt.Sprintf("10.%s.%d.%d:80", net, i, j)))
			}
			a.Localities = append(a.Localities, l)
		}
		return a
	}
	s := staticSpec()
	s.Name, s.Assignment = "us", of(us, "1")
	mustSet(t, m, s)
	s = staticSpec()
	s.Assignment, s.Policy = of(web, "2"), p
	return m, mustSet(t, m, s)
}

func TestZoneAwareRouting(t *testing.T) {
	plain := Policy{Locality: LocalityLB{Enabled: runtime.Fraction{Numerator: 100, Denominator: 100}, MinClusterSize: 6}}
	off := plain
	off.Locality.Enabled.Numerator = 0
	for _, tc := range []struct {
		name    string
		us, web [2]int // hosts in zones a, where we are, and b
		p       Policy
		want    float64 // of the requests stay in a
		stat    string
	}{
		{"as many here", [2]int{3, 3}, [2]int{3, 3}, plain, 1, "lb_zone_routing_all_directly"},
		{"fewer here", [2]int{5, 5}, [2]int{2, 8}, plain, .4, "lb_zone_routing_sampled"},
		{"too small", [2]int{3, 3}, [2]int{2, 3}, plain, .4, "lb_zone_cluster_too_small"},
		{"we are not there", [2]int{0, 3}, [2]int{3, 3}, plain, .5, ""},
		{"switched off", [2]int{3, 3}, [2]int{3, 3}, off, .5, ""},
	} {
		m, c := zoneManager(t, tc.us, tc.web, tc.p)
		near := 0
		for range 10000 {
			if mustPick(t, c).Zone == "a" {
				near++
			}
		}
		if got := float64(near) / 10000; math.Abs(got-tc.want) > 0.02 {
			t.Errorf("%s: %.3f of the requests stay, want %.3f", tc.name, got, tc.want)
		}
		st := &c.running().core.lb
		counted := map[string]bool{
			"lb_zone_routing_all_directly": st.LBZoneRoutingAllDirectly.Value() == 10000,
			"lb_zone_routing_sampled":      st.LBZoneRoutingSampled.Value()+st.LBZoneRoutingCrossZone.Value() == 10000,
			"lb_zone_cluster_too_small":    st.LBZoneClusterTooSmall.Value() > 0,
		}
		if tc.stat != "" && !counted[tc.stat] {
			t.Errorf("%s: %s does not count", tc.name, tc.stat)
		}
		m.Close()
	}
}

// When the own cluster changes, so does what others get.
func TestZonesFollowTheOwnCluster(t *testing.T) {
	m, c := zoneManager(t, [2]int{5, 5}, [2]int{2, 8}, Policy{Locality: LocalityLB{Enabled: runtime.Fraction{Numerator: 1, Denominator: 1}, MinClusterSize: 6}})
	mustPick(t, c)
	before := c.running().core.lb.LBRecalculateZoneStructures.Value()
	us := m.Cluster("us")
	us.SetFlags(us.Hosts()[0], FailedActiveHC, 0)
	eventually(t, "zone aware routing to be computed again", func() bool {
		return c.running().core.lb.LBRecalculateZoneStructures.Value() > before
	})
}

func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Options{Rand: seeded()})
		defer m.Close()
		s := edsSpec("web")
		s.Policy.SlowStart = SlowStart{Window: 10 * time.Second, Aggression: runtime.DoubleSetting{Default: 1}, MinPercent: 10}
		mustSet(t, m, s)
		mustAssign(t, m, assignment(s.service(), hostsAt(1)...))
		c := m.Cluster("web")
		mustPick(t, c)
		time.Sleep(20 * time.Second)
		mustAssign(t, m, assignment(s.service(), hostsAt(2)...))
		share := func() float64 { return float64(countPicks(t, c, nil, 11000)[1]) / 11000 }
		for _, step := range []struct {
			wait time.Duration
			want float64
		}{
			{0, .1 / 1.1}, {5 * time.Second, .5 / 1.5}, {3 * time.Second, .8 / 1.8}, {2 * time.Second, .5},
		} {
			time.Sleep(step.wait)
			if got := share(); math.Abs(got-step.want) > 0.01 {
				t.Errorf("after %v the new host gets %.3f, want %.3f", step.wait, got, step.want)
			}
		}
		// A host that is healthy again begins anew.
		h := c.Hosts()[0]
		c.SetFlags(h, FailedActiveHC, 0)
		time.Sleep(time.Minute)
		c.SetFlags(h, 0, FailedActiveHC)
		if got := share(); math.Abs(got-1/1.1) > 0.01 {
			t.Errorf("beside a recovered host the other gets %.3f, want %.3f", got, 1/1.1)
		}
	})
}

func TestWeightedPriorityHealth(t *testing.T) {
	hosts := hostsAt(3)
	hosts[0].Weight = 8
	a := &Assignment{WeightedHealth: true, Overprovisioning: 100, Localities: []Locality{
		{Hosts: hosts[:2]}, {Priority: 1, Hosts: hosts[2:]},
	}}
	c := policyCluster(t, Options{}, Policy{}, a)
	c.SetFlags(c.Hosts()[0], FailedActiveHC, 0) // 1 of 9 is left: 11 %
	if counts := countPicks(t, c, nil, 20000); !chiSquare(counts[1:], []float64{.11, .89}) || counts[0] != 0 {
		t.Errorf("picks %v, want 11 %% and 89 %%", counts)
	}
}

func TestDropOverload(t *testing.T) {
	a := assignment("web", hostsAt(1)...)
	if drop, _ := policyCluster(t, Options{}, Policy{}, a).DropOverload(); drop {
		t.Error("a request was dropped")
	}
	b := assignment("web", hostsAt(1)...)
	b.DropOverload = 0.25
	c, n := policyCluster(t, Options{}, Policy{}, b), 0
	for range 10000 {
		if drop, all := c.DropOverload(); drop {
			n++
		} else if all {
			t.Error("not every request is dropped")
		}
	}
	if !chiSquare([]int{n, 10000 - n}, []float64{.25, .75}) || c.Stats().UpstreamRqDropOverload.Value() != uint64(n) {
		t.Errorf("%d of 10000 were dropped, upstream_rq_drop_overload %d", n, c.Stats().UpstreamRqDropOverload.Value())
	}
}

func TestEndpointsGetStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Options{})
		defer m.Close()
		s := edsSpec("web")
		mustSet(t, m, s)
		give := func(after time.Duration) {
			a := assignment(s.service(), hostsAt(2)...)
			a.StaleAfter = after
			mustAssign(t, m, a)
		}
		give(10 * time.Second)
		c := m.Cluster("web")
		mustPick(t, c)
		time.Sleep(9 * time.Second)
		give(10 * time.Second)
		time.Sleep(9 * time.Second)
		if len(c.Hosts()) != 2 {
			t.Error("hosts went although an assignment came in time")
		}
		time.Sleep(2 * time.Second)
		if len(c.Hosts()) != 0 || c.Stats().AssignmentStale.Value() != 1 {
			t.Errorf("%d hosts, assignment_stale %d", len(c.Hosts()), c.Stats().AssignmentStale.Value())
		}
		give(0)
		time.Sleep(time.Hour)
		if len(c.Hosts()) != 2 {
			t.Error("hosts went that are good for ever")
		}
	})
}
