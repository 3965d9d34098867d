package cluster

import (
	"errors"
	"testing"
)

// member adds a cluster with so many healthy and unhealthy hosts, all at 10.0.<net>.0.
func addMember(t *testing.T, m *Manager, name, net string, hash uint64, healthy, unhealthy int) {
	t.Helper()
	s := staticSpec()
	s.Name, s.Hash = name, hash
	for i := range healthy + unhealthy {
		h := hostAt("10.0." + net + "." + string(rune('1'+i)) + ":80")
		if i >= healthy {
			h.Health = Unhealthy
		}
		s.Assignment.Localities[0].Hosts = append(s.Assignment.Localities[0].Hosts, h)
	}
	mustSet(t, m, s)
}

// spreadOf picks often and counts the hosts by cluster.
func spreadOf(t *testing.T, c *Cluster) map[string]int {
	t.Helper()
	n := map[string]int{}
	for range 2000 {
		h, err := c.Pick(&Attempt{})
		if err != nil {
			n["none"]++
			continue
		}
		n[h.Addr.Addr().String()[:6]]++
	}
	return n
}

func TestAggregate(t *testing.T) {
	m := newTestManager(t, Options{})
	s := staticSpec()
	s.Type, s.Assignment, s.Clusters = Aggregate, nil, []string{"first", "missing", "second"}
	c := mustSet(t, m, s)
	if _, err := c.Pick(&Attempt{}); !errors.Is(err, ErrNoHealthyHost) {
		t.Errorf("without clusters: %v", err)
	}
	addMember(t, m, "first", "1", 1, 4, 0)
	addMember(t, m, "second", "2", 1, 2, 0)
	if n := spreadOf(t, c); n["10.0.1"] != 2000 {
		t.Errorf("all are healthy: %v", n)
	}
	addMember(t, m, "first", "1", 2, 2, 2) // half of 140 % stays
	if n := spreadOf(t, c); n["10.0.1"] < 1250 || n["10.0.1"] > 1550 || n["10.0.1"]+n["10.0.2"] != 2000 {
		t.Errorf("half of the first is ill: %v", n)
	}
	addMember(t, m, "first", "1", 3, 0, 4)
	if n := spreadOf(t, c); n["10.0.2"] != 2000 {
		t.Errorf("the first is ill: %v", n)
	}
	m.Remove("first")
	m.Remove("second")
	if n := spreadOf(t, c); n["none"] != 2000 {
		t.Errorf("there are no clusters: %v", n)
	}
}

func TestAggregatePicksDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := newTestManager(t, Options{})
	s := staticSpec()
	s.Type, s.Assignment, s.Clusters = Aggregate, nil, []string{"first", "second"}
	c := mustSet(t, m, s)
	addMember(t, m, "first", "1", 1, 2, 2)
	addMember(t, m, "second", "2", 1, 2, 0)
	a := &Attempt{}
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := c.Pick(a); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("a pick allocates %v times", n)
	}
}
