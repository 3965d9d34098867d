package cluster

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	lbalg "github.com/mecha-mesh/mecha/proxy/cluster/lb"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// seeded is a source of chance that is the same in every run.
func seeded() func() uint64 { return rand.New(rand.NewPCG(1, 2)).Uint64 }

// testEnv is what balancers need, with chance that is the same in every run.
func testEnv(s *Spec) *lbEnv {
	m := &Manager{rnd: seeded(), start: time.Now()}
	return newLBEnv(m, s, newCore(nil, s))
}

// testHosts returns hosts with those weights.
func testHosts(weights ...uint32) []*Host {
	g := newGroup(nil, newCore(nil, &Spec{}), &Spec{})
	var hosts []*Host
	for i, w := range weights {
		hosts = append(hosts, &Host{Hostname: fmt.Sprint(i), Weight: w, ep: g.endpoint(meta.Addr{Path: fmt.Sprint(i)})})
	}
	return hosts
}

// pickerOf returns the picker of a policy.
func pickerOf(p Policy, hosts []*Host) picker { return newPicker(testEnv(&Spec{}), &p, hosts) }

func leastOf(choices int, bias float64) Policy {
	return Policy{Kind: LeastRequestLB, LeastRequest: LeastRequest{Choices: choices, Bias: runtime.DoubleSetting{Default: bias}}}
}

func shares(p picker, n int) map[string]float64 {
	s := map[string]float64{}
	for range n {
		s[p.pick().Hostname] += 1 / float64(n)
	}
	return s
}

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance }

func TestPickersShareTheLoad(t *testing.T) {
	for _, tc := range []struct {
		name      string
		policy    Policy
		weights   []uint32
		want      []float64
		tolerance float64
	}{
		{"round robin", Policy{Kind: RoundRobin}, []uint32{1, 1, 1, 1}, []float64{.25, .25, .25, .25}, 0.0001},
		{"weighted round robin", Policy{Kind: RoundRobin}, []uint32{1, 2, 5}, []float64{.125, .25, .625}, 0.001},
		{"random", Policy{Kind: Random}, []uint32{1, 1, 1, 1}, []float64{.25, .25, .25, .25}, 0.02},
		{"random knows no weights", Policy{Kind: Random}, []uint32{1, 9}, []float64{.5, .5}, 0.02},
		{"idle least request", leastOf(2, 1), []uint32{1, 1, 1, 1}, []float64{.25, .25, .25, .25}, 0.02},
		{"idle weighted least request", leastOf(2, 1), []uint32{1, 3}, []float64{.25, .75}, 0.001},
	} {
		got := shares(pickerOf(tc.policy, testHosts(tc.weights...)), 20000)
		for i, want := range tc.want {
			if g := got[fmt.Sprint(i)]; !near(g, want, tc.tolerance) {
				t.Errorf("%s: host %d gets %.4f of the load, want %.4f", tc.name, i, g, want)
			}
		}
	}
}

// A host with much weight must not get its requests in one go.
func TestWeightedRoundRobinIsSmooth(t *testing.T) {
	p := pickerOf(Policy{Kind: RoundRobin}, testHosts(1, 1, 2))
	run := 0
	for range 400 {
		if p.pick().Hostname != "2" {
			run = 0
			continue
		}
		if run++; run > 2 {
			t.Fatal("the heavy host gets three in a row")
		}
	}
}

func TestLeastRequestAvoidsTheBusy(t *testing.T) {
	hosts := testHosts(1, 1, 1, 1)
	hosts[0].Stats().RqActive.Set(100)
	got := shares(pickerOf(leastOf(2, 1), hosts), 20000)
	// It is picked only if both choices fall on it.
	if g := got["0"]; !near(g, 1.0/16, 0.01) {
		t.Errorf("the busy host gets %.4f of the load, want 1/16", g)
	}
	got = shares(pickerOf(leastOf(5, 1), hosts), 20000)
	if g := got["0"]; !near(g, 1.0/1024, 0.002) {
		t.Errorf("with five choices the busy host gets %.4f of the load, want 1/1024", g)
	}
}

func TestWeightedLeastRequestFollowsTheLoad(t *testing.T) {
	for _, tc := range []struct{ bias, want float64 }{
		{1, 2.0 / (2 + 1)}, // 4/(1+1) against 1/1
		{0, 4.0 / (4 + 1)},
		{2, 1.0 / 2},
	} {
		hosts := testHosts(4, 1)
		hosts[0].Stats().RqActive.Set(1)
		got := shares(pickerOf(leastOf(2, tc.bias), hosts), 20000)
		if g := got["0"]; !near(g, tc.want, 0.01) {
			t.Errorf("bias %v: host 0 gets %.3f of the load, want %.3f", tc.bias, g, tc.want)
		}
	}
}

func hostWith(addr string, h Health) HostSpec {
	hs := hostAt(addr)
	hs.Health = h
	return hs
}

func TestPickFollowsHealthAndPriority(t *testing.T) {
	for _, tc := range []struct {
		name string
		p0   []Health
		p1   []Health
		want map[uint32]float64 // by priority
		sick bool               // hosts that are not healthy are picked, too
	}{
		{"healthy first", []Health{Healthy, Healthy}, []Health{Healthy}, map[uint32]float64{0: 1}, false},
		{"half of the first", []Health{Healthy, Unhealthy}, []Health{Healthy}, map[uint32]float64{0: .7, 1: .3}, false},
		{"first is down", []Health{Unhealthy, DrainingHost}, []Health{Healthy}, map[uint32]float64{1: 1}, false},
		{"degraded is a last resort", []Health{Healthy, Healthy, Healthy, Degraded}, nil, map[uint32]float64{0: 1}, false},
		{"panic", []Health{Unhealthy, Unhealthy, Unhealthy, Healthy}, nil, map[uint32]float64{0: 1}, true},
	} {
		m := newTestManager(t, Options{Rand: seeded()})
		s := staticSpec()
		s.Assignment = &Assignment{Localities: []Locality{{}, {Priority: 1}}}
		for i, hs := range [][]Health{tc.p0, tc.p1} {
			for j, h := range hs {
				s.Assignment.Localities[i].Hosts = append(s.Assignment.Localities[i].Hosts, hostWith(fmt.Sprintf("10.0.%d.%d:80", i, j), h))
			}
		}
		c := mustSet(t, m, s)
		got, sick := map[uint32]float64{}, false
		for range 10000 {
			h := mustPick(t, c)
			got[h.Priority] += 1.0 / 10000
			sick = sick || h.Health != Healthy
		}
		for p, want := range tc.want {
			if !near(got[p], want, 0.02) {
				t.Errorf("%s: priority %d gets %.3f of the load, want %.3f", tc.name, p, got[p], want)
			}
		}
		if sick != tc.sick || sick != (c.Stats().LBHealthyPanic.Value() > 0) {
			t.Errorf("%s: sick hosts were picked: %v, want %v; lb_healthy_panic %d", tc.name, sick, tc.sick, c.Stats().LBHealthyPanic.Value())
		}
	}
}

func TestPickOfAnEmptyCluster(t *testing.T) {
	c := mustSet(t, newTestManager(t, Options{}), staticSpec())
	if _, err := c.Pick(&Attempt{}); !errors.Is(err, ErrNoHealthyHost) {
		t.Errorf("the error is %v, want ErrNoHealthyHost", err)
	}
	// As Envoy counts it.
	if st := c.Stats(); st.UpstreamCxNoneHealthy.Value() != 1 || st.LBHealthyPanic.Value() != 1 {
		t.Errorf("upstream_cx_none_healthy %d, lb_healthy_panic %d, want 1 and 1", st.UpstreamCxNoneHealthy.Value(), st.LBHealthyPanic.Value())
	}
}

// Panic below the threshold is off with a threshold of 0: nobody sick is picked.
func TestNoPanic(t *testing.T) {
	s := staticSpec(hostWith("10.0.0.1:80", Unhealthy))
	s.PanicThreshold = 0
	c := mustSet(t, newTestManager(t, Options{}), s)
	if h, err := c.Pick(&Attempt{}); !errors.Is(err, ErrNoHealthyHost) {
		t.Errorf("picked %v, %v, want ErrNoHealthyHost", h, err)
	}
}

func TestPickAvoidsTriedHosts(t *testing.T) {
	c := mustSet(t, newTestManager(t, Options{Rand: seeded()}), staticSpec(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"), hostAt("10.0.0.3:80")))
	for range 100 {
		first := mustPick(t, c)
		h, err := c.Pick(&Attempt{Tried: []*Host{first}, AvoidTried: true, HostTries: 3})
		if err != nil || h.Same(first) {
			t.Fatalf("picked %v again (%v)", first.Addr, err)
		}
	}
	// With one host there is no other choice, and an end to the search.
	c = mustSet(t, newTestManager(t, Options{}), staticSpec(hostAt("10.0.0.1:80")))
	h := mustPick(t, c)
	if again, err := c.Pick(&Attempt{Tried: []*Host{h}, AvoidTried: true, HostTries: 5}); err != nil || again != h {
		t.Errorf("picked %v, %v", again, err)
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, lb := range []LB{RoundRobin, LeastRequestLB, Random, RingHashLB, MaglevLB, ClientWeightedLB, PeakEWMALB} {
		for _, weight := range []uint32{1, 3} {
			s := staticSpec(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"))
			s.Policy.Kind, s.Assignment.Localities[0].Hosts[1].Weight = lb, weight
			s.Policy.LeastRequest.Choices, s.Policy.TableSize, s.Policy.Ring = 2, 1009, lbalg.RingSize{Min: 1024, Max: 8 << 20}
			m := newTestManager(t, Options{})
			mustSet(t, m, s)
			a := &Attempt{}
			if n := testing.AllocsPerRun(100, func() {
				c := m.Cluster("web")
				if _, err := c.Pick(a); err != nil {
					t.Fatal(err)
				}
				ticket, err := c.Admit(Default)
				if err != nil {
					t.Fatal(err)
				}
				ticket.Done()
			}); n != 0 {
				t.Errorf("policy %d: a pick allocates %v times", lb, n)
			}
		}
	}
}

func BenchmarkPick(b *testing.B) {
	m := NewManager(Options{})
	defer m.Close()
	s := staticSpec(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"), hostAt("10.0.0.3:80"))
	if err := m.Set(s); err != nil {
		b.Fatal(err)
	}
	a := &Attempt{}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = m.Cluster("web").Pick(a)
	}
}
