package cluster

import (
	"errors"
	"sync"
	"testing"
)

// Picks go on while health, hosts and weights change, of every policy at once: for the
// race detector, and nobody is picked who was never a member.
func TestPicksWhileEverythingChanges(t *testing.T) {
	for name, p := range everyPolicy() {
		m := newTestManager(t, Options{LocalCluster: "web", Locality: LocalityName{Zone: "a"}})
		s := edsSpec("web")
		s.Policy = Policy{Kind: SubsetLB, Child: &p, Subset: &Subset{Fallback: AnyEndpoint, Selectors: []SubsetSelector{{Keys: []string{"v"}}}}}
		mustSet(t, m, s)
		hosts := hostsAt(40)
		for i := range hosts {
			hosts[i].Metadata = map[string]map[string]any{lbNamespace: {"v": float64(i % 3)}}
		}
		give := func(n int) {
			a := assignment(s.service(), hosts[:n]...)
			a.Localities = append(a.Localities, Locality{Zone: "a", Hosts: hosts[n:]})
			mustAssign(t, m, a)
		}
		give(20)
		c := m.Cluster("web")
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				a := &Attempt{HasHash: true, Match: NewLabels(map[string]any{"v": float64(i)})}
				for range 300 {
					a.Hash += 0x9E3779B97F4A7C15
					h, err := c.Pick(a)
					if errors.Is(err, ErrNoHealthyHost) {
						continue
					}
					if _, known := c.running().hosts.sources[h.Addr]; !known {
						t.Errorf("%s: picked %s", name, h.Addr)
					}
					c.Report(h, 5, says("TEXT rps_fractional=10,cpu_utilization=0.1"))
				}
			})
		}
		all.Go(func() {
			for i := range 100 {
				h := c.Hosts()[i%40]
				c.SetFlags(h, FailedActiveHC, 0)
				c.SetFlags(h, 0, FailedActiveHC)
			}
		})
		all.Go(func() {
			for i := range 30 {
				give(10 + i%20)
			}
		})
		all.Wait()
	}
}
