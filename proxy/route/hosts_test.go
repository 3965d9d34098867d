package route

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/match"
)

var anyPath = Match{Path: match.PathPrefix("/", false)}

// deferredTable is one of n virtual hosts hN.example that are made when they are needed; made
// counts how often.
func deferredTable(t testing.TB, n int, made *atomic.Int64) *Table {
	list := make([]Deferred, n)
	for i := range list {
		list[i].Domains = []string{fmt.Sprintf("h%d.example", i), fmt.Sprintf("*.H%d.example", i)}
	}
	list[0].Host = &VirtualHost{Name: "h0", Routes: []Entry{{Match: anyPath, Route: forward("h0")}}}
	table, err := NewDeferredTable("t", list, func(i int) *VirtualHost {
		made.Add(1)
		name := fmt.Sprint("h", i)
		return &VirtualHost{Name: name, Routes: []Entry{{Match: anyPath, Route: forward(name)}}}
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func chosen(t testing.TB, table *Table, host string) *Route {
	t.Helper()
	r, ok := table.Match(stream(host, "/")).(*Route)
	if !ok {
		t.Fatalf("no route for %s", host)
	}
	return r
}

// Virtual hosts are made by the first request, stay while there are requests, and go when
// there are none; what a request has stays with it.
func TestVirtualHostsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made atomic.Int64
		table := deferredTable(t, 100, &made)
		first, fixed := chosen(t, table, "x.h7.example"), chosen(t, table, "h0.example")
		if again := chosen(t, table, "h7.example"); again != first || made.Load() != 1 {
			t.Errorf("%d virtual hosts were made, another one: %v", made.Load(), again != first)
		}
		for range 5 {
			time.Sleep(idleHost - time.Second)
			if chosen(t, table, "h7.example") != first {
				t.Fatal("a virtual host in use was given back")
			}
		}
		time.Sleep(2*idleHost + time.Second)
		if table.hosts.slots[7].made.Load() != nil || table.hosts.swept.Load() {
			t.Error("an idle virtual host stays, or somebody looks for idle ones where there are none")
		}
		if second := chosen(t, table, "h7.example"); second == first || second.RouteName != "h7" || made.Load() != 2 || first.RouteName != "h7" {
			t.Errorf("got %q, %d were made", second.RouteName, made.Load())
		}
		if chosen(t, table, "h0.example") != fixed {
			t.Error("a virtual host that cannot be made again was")
		}
		time.Sleep(3 * idleHost) // so that no timer is left
	})
}

// Requests that come at once get the same virtual host.
func TestVirtualHostIsMadeOnce(t *testing.T) {
	for range 50 {
		var made atomic.Int64
		table := deferredTable(t, 3, &made)
		var got [4]*Route
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i] = chosen(t, table, "h2.example") })
		}
		wg.Wait()
		for _, r := range got {
			if r != got[0] {
				t.Fatal("requests got different virtual hosts")
			}
		}
	}
}
