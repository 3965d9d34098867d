package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
)

func subSpec() *Spec {
	s := staticSpec()
	s.Type, s.Assignment = DynamicForward, nil
	s.Sub = &SubClusters{Max: 2, TTL: time.Minute, DNS: DNS{Refresh: 10 * time.Second}}
	return s
}

// A dynamic forward proxy with sub clusters has a cluster for each name, with all addresses as
// hosts, up to a number, and as long as somebody asks for it.
func TestSubClusters(t *testing.T) {
	z := &zone{}
	z.set("a.test", 10*time.Second, "10.0.0.1", "10.0.0.2")
	onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
		c := mustSet(t, m, subSpec())
		if _, err := c.Pick(asking("a.test")); !errors.Is(err, ErrNoHealthyHost) {
			t.Errorf("before anybody has asked: %v", err)
		}
		a := dnscache.Key{Host: "a.test", Port: 80}
		if err := c.AwaitSub(t.Context(), a, time.Second); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for range 4 {
			h, err := c.Pick(asking("A.test"))
			if err != nil {
				t.Fatal(err)
			}
			seen[h.Addr.String()] = true
		}
		if len(seen) != 2 || !seen["10.0.0.1:80"] || m.Cluster("DFPCluster:a.test:80") == nil {
			t.Errorf("picked %v", seen)
		}
		ip := dnscache.Key{Host: "10.9.9.9", Port: 81}
		if err := c.AwaitSub(t.Context(), ip, time.Second); err != nil {
			t.Error(err)
		}
		if h, err := c.Pick(asking("10.9.9.9:81")); err != nil || h.Addr.String() != "10.9.9.9:81" {
			t.Errorf("an address: %v, %v", h, err)
		}
		if err := c.AwaitSub(t.Context(), dnscache.Key{Host: "third.test", Port: 80}, time.Second); !errors.Is(err, ErrSubClusters) {
			t.Errorf("one too many: %v", err)
		}
		for range 3 { // a.test stays in use
			time.Sleep(40 * time.Second)
			if _, err := c.Pick(asking("a.test")); err != nil {
				t.Fatal(err)
			}
		}
		if m.Cluster("DFPCluster:10.9.9.9:81") != nil || m.Cluster("DFPCluster:a.test:80") == nil {
			t.Error("the one that nobody asked for stayed, or the other one went")
		}
		if err := c.AwaitSub(t.Context(), dnscache.Key{Host: "third.test", Port: 80}, time.Second); err != nil {
			t.Errorf("there is a place again, and a name without addresses is no error: %v", err)
		}
		if _, err := c.Pick(asking("third.test")); !errors.Is(err, ErrNoHealthyHost) {
			t.Errorf("a name without addresses: %v", err)
		}
		m.Remove("web")
		synctest.Wait()
		if names := m.Names(); len(names) != 0 {
			t.Errorf("left: %v", names)
		}
	})
}

// Whoever waits for a name that takes long is told in time; a new version of the cluster takes
// its sub clusters along.
func TestSubClustersLate(t *testing.T) {
	z := &zone{}
	z.set("a.test", 10*time.Second, "10.0.0.1")
	z.slow = time.Minute
	onFakeTime(t, Options{Resolver: z}, func(t *testing.T, m *Manager) {
		c := mustSet(t, m, subSpec())
		a := dnscache.Key{Host: "a.test", Port: 80}
		if err := c.AwaitSub(t.Context(), a, time.Second); !errors.Is(err, ErrSubLate) {
			t.Errorf("late: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		cancel(gone)
		if err := c.AwaitSub(ctx, a, time.Hour); !errors.Is(err, gone) {
			t.Errorf("given up: %v", err)
		}
		next := subSpec()
		next.Hash, next.Sub.TTL, next.Sub.Preresolve = 2, time.Hour, []dnscache.Key{a}
		mustSet(t, m, next)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if m.Cluster("DFPCluster:a.test:80") == nil {
			t.Error("the sub cluster of the new version went with the old one")
		}
	})
}
