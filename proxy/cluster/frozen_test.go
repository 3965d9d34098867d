package cluster

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

func thawable(name string, thaws *int) *Spec {
	make := func() *Spec {
		return &Spec{
			Name: name, StatName: name, Type: Static, ConnectTimeout: time.Second, PanicThreshold: 50, Socket: transport.Raw{}, Hash: 7,
			Assignment: &Assignment{Localities: []Locality{{Hosts: []HostSpec{{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:1")}, Weight: 1}}}}},
		}
	}
	s := make()
	s.Thaw = func() (*Spec, error) { *thaws++; return make(), nil }
	return s
}

// TestUnusedClustersHoldNoSpec: until somebody uses it, a cluster is a name; looking at
// it does not count as use.
func TestUnusedClustersHoldNoSpec(t *testing.T) {
	st := stats.NewStore()
	m := NewManager(Options{Stats: st})
	defer m.Close()
	thaws := 0
	if err := m.Set(thawable("a", &thaws)); err != nil {
		t.Fatal(err)
	}
	c := m.Cluster("a")
	if c == nil || c.full.Load() != nil || c.Used() {
		t.Fatalf("the cluster %v holds its configuration", c)
	}
	spec, hosts := c.Look()
	if spec.Name != "a" || len(hosts) != 1 || thaws != 1 || c.full.Load() != nil || c.Used() {
		t.Errorf("looked at %s with %d hosts, %d thaws, used %t", spec.Name, len(hosts), thaws, c.Used())
	}
	shown := 0
	st.Each(func(x stats.Metric) {
		if x.Family == "cluster.upstream_rq_total" {
			shown++
		}
	})
	if shown != 0 {
		t.Error("an unused cluster has counters")
	}
	if err := m.Set(thawable("a", &thaws)); err != nil || thaws != 1 {
		t.Errorf("the same configuration: %v, %d thaws", err, thaws)
	}
	h, err := c.Pick(nil)
	if err != nil || h.Addr.Port() != 1 {
		t.Fatalf("picked %v, %v", h, err)
	}
	for range 3 {
		if _, err := c.Pick(nil); err != nil {
			t.Error(err)
		}
	}
	if thaws != 2 || c.full.Load() == nil {
		t.Errorf("%d thaws for one use", thaws-1)
	}
}

// TestThawThatFails: a file that a configuration names may have gone. The cluster then
// has no hosts, and nothing breaks.
func TestThawThatFails(t *testing.T) {
	m := NewManager(Options{})
	defer m.Close()
	thaws := 0
	s := thawable("a", &thaws)
	s.Thaw = func() (*Spec, error) { return nil, errors.New("gone") }
	if err := m.Set(s); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Cluster("a").Pick(nil); !errors.Is(err, ErrNoHealthyHost) {
		t.Errorf("error %v", err)
	}
}
