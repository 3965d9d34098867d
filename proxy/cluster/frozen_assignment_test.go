package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// frozenHosts is an assignment with hosts at ports, that can be made again.
func frozenHosts(service string, thaws *int, ports ...uint16) *Assignment {
	again := func() *Assignment {
		a := &Assignment{Cluster: service, Overprovisioning: 140, Localities: []Locality{{}}}
		for _, p := range ports {
			a.Hash = a.Hash*31 + uint64(p)
			a.Localities[0].Hosts = append(a.Localities[0].Hosts, HostSpec{
				Addr: meta.Addr{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p)}, Weight: 1,
			})
		}
		return a
	}
	a := again()
	a.Thaw = func() (*Assignment, error) { *thaws++; return again(), nil }
	return a
}

func serviceSpec(name, service string) *Spec {
	return &Spec{
		Name: name, StatName: name, Type: EDS, ServiceName: service, ConnectTimeout: time.Second, PanicThreshold: 50, Socket: transport.Raw{},
	}
}

func portPicked(t *testing.T, m *Manager, name string) string {
	t.Helper()
	h, err := m.Cluster(name).Pick(nil)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(h.Addr.Port())
}

// TestUnusedAssignmentsHoldNoHosts: the hosts of a service that nobody talks to are
// bytes; whoever uses a cluster of it first makes them, once for all who share it.
func TestUnusedAssignmentsHoldNoHosts(t *testing.T) {
	m := NewManager(Options{})
	defer m.Close()
	thaws := 0
	for _, name := range []string{"a", "b"} {
		if err := m.Set(serviceSpec(name, "s")); err != nil {
			t.Fatal(err)
		}
	}
	set := func(ports ...uint16) {
		t.Helper()
		if err := m.SetAssignment(frozenHosts("s", &thaws, ports...)); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	a, b := m.Cluster("a"), m.Cluster("b")
	if a == nil || b == nil || len(a.assigned.Localities) != 0 || b.assigned != a.assigned || thaws != 0 {
		t.Fatalf("hosts are held, or made %d times", thaws)
	}
	set(2)
	if _, hosts := a.Look(); len(hosts) != 1 || hosts[0].Addr.Port() != 2 || len(m.Assignment("s").Localities) != 1 || !a.assigned.frozen {
		t.Errorf("looked at %v", hosts)
	}
	thaws = 0
	if got := portPicked(t, m, "a") + portPicked(t, m, "b"); got != "22" || thaws != 1 {
		t.Errorf("picked %s after %d thaws", got, thaws)
	}
	set(3)
	if got := portPicked(t, m, "a") + portPicked(t, m, "b"); got != "33" || thaws != 1 {
		t.Errorf("a used service: picked %s after %d thaws", got, thaws)
	}
	// Another cluster joins, a new version of a follows: both have the hosts.
	if err := m.Set(serviceSpec("c", "s")); err != nil {
		t.Fatal(err)
	}
	next := serviceSpec("a", "s")
	next.Hash = 9
	if err := m.Set(next); err != nil {
		t.Fatal(err)
	}
	if got := portPicked(t, m, "a") + portPicked(t, m, "c"); got != "33" || thaws != 1 {
		t.Errorf("picked %s after %d thaws", got, thaws)
	}
}

// TestAssignmentThatCannotBeReadAgain: the cluster has no hosts until the next one, and
// nothing breaks.
func TestAssignmentThatCannotBeReadAgain(t *testing.T) {
	m := NewManager(Options{})
	defer m.Close()
	if err := m.Set(serviceSpec("a", "")); err != nil {
		t.Fatal(err)
	}
	thaws := 0
	bad := frozenHosts("a", &thaws, 1)
	bad.Thaw = func() (*Assignment, error) { return nil, errors.New("gone") }
	if err := m.SetAssignment(bad); err != nil {
		t.Fatal(err)
	}
	if got := portPicked(t, m, "a"); got != ErrNoHealthyHost.Error() {
		t.Errorf("picked %s", got)
	}
	if err := m.SetAssignment(frozenHosts("a", &thaws, 2)); err != nil {
		t.Fatal(err)
	}
	if got := portPicked(t, m, "a"); got != "2" {
		t.Errorf("picked %s", got)
	}
}
