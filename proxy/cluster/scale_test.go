package cluster

import (
	"fmt"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// A change of one host takes over all others as they are.
func TestUnchangedHostsAreTakenOver(t *testing.T) {
	m := newTestManager(t, Options{})
	s := edsSpec("web")
	mustSet(t, m, s)
	mustAssign(t, m, assignment(s.service(), hostsAt(1000)...))
	c := m.Cluster("web")
	before := c.Hosts()
	hosts := hostsAt(1000)
	hosts[500].Weight = 7
	hosts[600].Metadata = map[string]map[string]any{lbNamespace: {"version": "2"}}
	hosts[700].Addr = meta.Addr{Path: "/another"}
	mustAssign(t, m, assignment(s.service(), hosts...))
	made := 0
	for i, h := range c.Hosts() {
		if h != before[i] {
			made++
		}
	}
	if made != 3 || c.Hosts()[500].Weight != 7 {
		t.Errorf("%d hosts were made anew, 3 have changed", made)
	}
	for i, h := range c.Hosts() {
		if h.from != &hosts[i] {
			t.Fatal("a host keeps an assignment in memory that is no more")
		}
	}
	if !c.Hosts()[600].hasLabel(&Label{"version", LabelValue("2")}) {
		t.Error("the new label is not there")
	}
}

func BenchmarkPickOf(b *testing.B) {
	for name, p := range everyPolicy() {
		for _, n := range []int{10, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				c := policyCluster(b, Options{}, p, assignment("web", hostsAt(n)...))
				a := &Attempt{HasHash: true}
				if _, err := c.Pick(a); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					a.Hash += 0x9E3779B97F4A7C15
					_, _ = c.Pick(a)
				}
			})
		}
	}
}

// BenchmarkUpdate is an assignment of 10,000 hosts one of which is another one, without
// and with the pick after it.
func BenchmarkUpdate(b *testing.B) {
	for name, p := range everyPolicy() {
		for _, picks := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/pick=%v", name, picks), func(b *testing.B) {
				m := NewManager(Options{Rand: seeded()})
				defer m.Close()
				s := edsSpec("web")
				s.Policy = p
				if err := m.Set(s); err != nil {
					b.Fatal(err)
				}
				sets := [2]*Assignment{assignment(s.service(), hostsAt(10000)...), assignment(s.service(), hostsAt(10000)...)}
				sets[1].Localities[0].Hosts[5000].Addr = meta.Addr{Path: "/another"}
				for i := 0; b.Loop(); i++ {
					if err := m.SetAssignment(sets[i%2]); err != nil {
						b.Fatal(err)
					}
					if picks || i == 0 {
						_, _ = m.Cluster("web").Pick(nil)
					}
				}
			})
		}
	}
}

// BenchmarkEject is one of 10,000 hosts that turns ill and well again.
func BenchmarkEject(b *testing.B) {
	c := policyCluster(b, Options{}, Policy{}, assignment("web", hostsAt(10000)...))
	h := c.Hosts()[0]
	for b.Loop() {
		c.SetFlags(h, FailedOutlierCheck, 0)
		_, _ = c.Pick(nil)
		c.SetFlags(h, 0, FailedOutlierCheck)
	}
}
