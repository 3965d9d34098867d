package l4

import (
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// TestParkedConnectionIsSmall: a connection that idles has no goroutine, no stack
// and no buffer.
func TestParkedConnectionIsSmall(t *testing.T) {
	if raceEnabled || buffer.Invariants || testing.Short() {
		t.Skip("measures memory")
	}
	const n, most = 1000, 4 << 10
	parked, ended := make(chan struct{}, n), make(chan error, n)
	m := newTestManager(t, Options{})
	l := setListener(t, m, &Spec{Name: "l", Addresses: []Address{loopback()}, Default: chainOf("p", Match{}, func() filter.Network {
		return &parking{parked: parked, ended: ended}
	})})
	clients := make([]net.Conn, 0, n)
	open := func(count int) {
		for range count {
			c := dial(t, l)
			clients = append(clients, c)
			<-parked
			io.WriteString(c, "x") // it has worked before it idles
			io.ReadFull(c, make([]byte, 1))
			<-parked
		}
	}
	used := func() (bytes uint64, goroutines int) {
		runtime.GC()
		runtime.GC() // what pools held
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc + s.StackInuse, runtime.NumGoroutine()
	}
	open(50)
	before, goroutines := used()
	open(n - 50)
	after, more := used()
	per := int64(after-before) / (n - 50)
	t.Logf("%d bytes a connection, the client's side included", per)
	if per > most {
		t.Errorf("%d bytes for each idle connection, at most %d", per, most)
	}
	if more > goroutines+20 {
		t.Errorf("%d goroutines for %d idle connections", more, n)
	}
}
