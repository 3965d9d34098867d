package cluster

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// says is header fields with one load report.
type says string

func (s says) Get(name string) string {
	if name == "endpoint-load-metrics" {
		return string(s)
	}
	return ""
}

func TestClientWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Policy{Kind: ClientWeightedLB, Reports: LoadReports{Blackout: 10 * time.Second, Expiration: time.Minute, Update: time.Second, ErrorPenalty: 1}}
		m := NewManager(Options{Rand: seeded()})
		defer m.Close()
		s := staticSpec(hostsAt(3)...)
		s.Policy = p
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		c := m.Cluster("web")
		h := c.Hosts()
		if !c.Reports() {
			t.Error("the cluster wants no reports")
		}
		report := func() {
			c.Report(h[0], 0, says("TEXT rps_fractional=100,cpu_utilization=0.5"))        // 200
			c.Report(h[1], 0, says("TEXT rps_fractional=100,cpu_utilization=0.5,eps=50")) // 100
		}
		check := func(when, want string) {
			t.Helper()
			if got := fmt.Sprint(h[0].weight(), h[1].weight(), h[2].weight()); got != want {
				t.Errorf("%s: weights %s, want %s", when, got, want)
			}
		}
		report()
		time.Sleep(5 * time.Second)
		check("within blackout_period", "1 1 1")
		time.Sleep(6 * time.Second)
		check("after it", "200 100 150") // who says nothing gets the median
		if counts := countPicks(t, c, nil, 4500); counts[0] < 1990 || counts[0] > 2010 || counts[1] < 990 || counts[1] > 1010 {
			t.Errorf("picks %v, want 2000 1000 1500", counts)
		}
		c.Report(h[0], 0, says("TEXT rps_fractional=0,cpu_utilization=0.5"))
		c.Report(h[0], 0, says("nonsense"))
		time.Sleep(2 * time.Second)
		check("after reports that say nothing", "200 100 150")
		time.Sleep(time.Minute)
		check("after weight_expiration_period", "1 1 1")
		report()
		time.Sleep(5 * time.Second)
		check("in a new blackout_period", "1 1 1")
		time.Sleep(7 * time.Second)
		check("after that", "200 100 150")
	})
}

func TestPeakEWMA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Policy{Kind: PeakEWMALB, Latency: Latency{Decay: 10 * time.Second, Default: 10 * time.Millisecond, Penalty: 1e6}}
		m := NewManager(Options{Rand: seeded()})
		defer m.Close()
		s := staticSpec(hostsAt(3)...)
		s.Policy = p
		if err := m.Set(s); err != nil {
			t.Fatal(err)
		}
		c := m.Cluster("web")
		h := c.Hosts()
		for i, took := range []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
			c.Report(h[i], took, nil)
		}
		// The slowest of the three is in no pair the better one; the fastest always.
		if counts := countPicks(t, c, nil, 9000); counts[2] != 0 || !chiSquare(counts[:2], []float64{2.0 / 3, 1.0 / 3}) {
			t.Errorf("picks %v", counts)
		}
		// Being busy costs, too: 10 ms × 3 is more than 20 ms.
		h[0].Stats().RqActive.Set(2)
		if counts := countPicks(t, c, nil, 9000); counts[1] < counts[0] {
			t.Errorf("picks %v although the first host is busy", counts)
		}
		h[0].Stats().RqActive.Set(0)
		// What was long ago hardly counts.
		time.Sleep(time.Hour)
		c.Report(h[2], time.Millisecond, nil)
		if got := h[2].cost(&p.Latency, c.m.now()); got > 1.01 {
			t.Errorf("the cost is %v ms after an answer in 1 ms", got)
		}
		// Somebody who never answers, and is asked, is the last choice.
		fresh := &Host{ep: newEndpoint(c.running().group)}
		if got := fresh.cost(&p.Latency, c.m.now()); got != 10 {
			t.Errorf("an unknown host costs %v", got)
		}
		fresh.Stats().RqActive.Set(1)
		if got := fresh.cost(&p.Latency, c.m.now()); got < 1e6 {
			t.Errorf("a host that does not answer costs %v", got)
		}
	})
}

func TestOverrideHostPolicy(t *testing.T) {
	c := policyCluster(t, Options{}, Policy{
		Kind: OverrideHostLB, Child: &Policy{},
		Override: []OverrideSource{{Header: "x-host"}, {Namespace: "envoy.lb", Path: []string{"hosts"}}},
	}, assignment("web", hostsAt(4)...))
	ask := func(head, dynamic string, n int) (got []string) {
		var h header.Map
		h.Add("x-host", head)
		var md meta.Metadata
		md.Set("envoy.lb", "hosts", dynamic)
		a := &Attempt{Headers: &h, Metadata: &md}
		for range n {
			host, err := c.Pick(a)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, host.Addr.String())
		}
		return got
	}
	if got := ask("10.0.0.2:80, 10.9.9.9:80 ,10.0.0.1:80", "10.0.0.3:80", 3); !slices.Equal(got, []string{"10.0.0.2:80", "10.0.0.1:80", "10.0.0.3:80"}) {
		t.Errorf("picked %v", got)
	}
	if got := ask("10.9.9.9:80", "", 40); !slices.Contains(got, "10.0.0.0:80") || !slices.Contains(got, "10.0.0.3:80") {
		t.Errorf("without a known host the fallback picks %v", got)
	}
	// Health does not count for who is named, as in Envoy.
	c.SetFlags(c.Hosts()[2], FailedActiveHC, 0)
	if got := ask("10.0.0.2:80", "", 1); got[0] != "10.0.0.2:80" {
		t.Errorf("picked %v", got)
	}
}

func TestStatefulSessionHost(t *testing.T) {
	c := policyCluster(t, Options{}, Policy{}, assignment("web", hostsAt(4)...))
	pick := func(addr string, strict bool) string {
		h, err := c.Pick(&Attempt{Override: OverrideHost{Addr: addr, Strict: strict}})
		if err != nil {
			return ""
		}
		return h.Addr.String()
	}
	for range 20 {
		if got := pick("10.0.0.2:80", false); got != "10.0.0.2:80" {
			t.Fatalf("picked %q", got)
		}
	}
	if got := pick("10.9.9.9:80", false); got == "" {
		t.Error("an unknown host leaves nobody")
	}
	if got := pick("10.9.9.9:80", true); got != "" {
		t.Errorf("picked %q although only the host itself will do", got)
	}
	c.SetFlags(c.Hosts()[2], FailedActiveHC, 0)
	if got := pick("10.0.0.2:80", true); got != "" {
		t.Errorf("an ill host was picked: %q", got)
	}
	if got := pick("10.0.0.2:80", false); got == "10.0.0.2:80" {
		t.Error("an ill host was picked")
	}
	if got := fmt.Sprint(HealthSet(0).With(DrainingHost).Has(DrainingHost), HealthSet(0).With(DrainingHost).Has(Healthy)); got != "true false" {
		t.Errorf("a set of health: %s", got)
	}
}
