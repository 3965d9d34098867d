package udpproxy

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// bench is a listener manager with clusters, without configuration messages.
type bench struct {
	testing.TB
	stats     *stats.Store
	clusters  *cluster.Manager
	listeners *l4.Manager
	version   uint64
}

func newBench(t testing.TB) *bench {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	b := &bench{TB: t, stats: stats.NewStore()}
	b.clusters = cluster.NewManager(cluster.Options{Stats: b.stats, Log: log})
	b.listeners = l4.NewManager(l4.Options{Env: filter.Env{Stats: b.stats, Log: log, Clusters: b.clusters}})
	t.Cleanup(func() {
		b.listeners.Close()
		b.clusters.Close()
	})
	b.listeners.Start()
	return b
}

// cluster makes a cluster of hosts.
func (b *bench) cluster(name string, hosts ...*net.UDPConn) {
	b.Helper()
	var l cluster.Locality
	for _, h := range hosts {
		l.Hosts = append(l.Hosts, cluster.HostSpec{Addr: meta.AddrOf(h.LocalAddr()), Weight: 1})
	}
	b.version++
	limits := cluster.Thresholds{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024}
	err := b.clusters.Set(&cluster.Spec{
		Name: name, Hash: b.version, ConnectTimeout: time.Second, Breakers: [2]cluster.Thresholds{limits, limits},
		Assignment: &cluster.Assignment{Localities: []cluster.Locality{l}},
	})
	if err != nil {
		b.Fatal(err)
	}
}

// listen sets the listener and returns where it is.
func (b *bench) listen(hash uint64, c Config) *net.UDPAddr {
	b.Helper()
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	c.StatPrefix, c.MaxDatagram = "test", 1500
	err := b.listeners.Set(&l4.Spec{
		Name: "u", Hash: hash, Addresses: []l4.Address{{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}}},
		UDP: &l4.UDP{MaxDatagram: 1500, Filters: []l4.UDPFilter{{Name: "proxy", Hash: hash, Factory: func(env filter.Env) (filter.UDP, error) {
			return newProxy(&c, env)
		}}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return net.UDPAddrFromAddrPort(b.listeners.UDPListeners()[0].Bound()[0].AddrPort)
}

func to(name string) func(*netio.Datagram) string {
	return func(*netio.Datagram) string { return name }
}

// talker sends what it is told, and returns what it gets.
func socket(t testing.TB) *net.UDPConn {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	return c
}

// pass sends a datagram from client through the listener to host, and returns where it
// came from.
func pass(t testing.TB, client *net.UDPConn, at *net.UDPAddr, host *net.UDPConn) netip.AddrPort {
	t.Helper()
	if _, err := client.WriteTo([]byte("x"), at); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	n, from, err := host.ReadFromUDPAddrPort(p)
	if err != nil || string(p[:n]) != "x" {
		t.Fatalf("the host got %q, %v", p[:n], err)
	}
	return from
}

// TestSessionsSurviveUpdates: what the new configuration would do in the same way goes
// on, over the same sockets.
func TestSessionsSurviveUpdates(t *testing.T) {
	b := newBench(t)
	host, other, client := socket(t), socket(t), socket(t)
	b.cluster("a", host)
	b.cluster("b", other)
	at := b.listen(1, Config{Route: to("a")})
	first := pass(t, client, at, host)
	if again := b.listen(2, Config{Route: to("a"), IdleTimeout: time.Hour}); again.Port != at.Port {
		t.Fatalf("the listener has moved from %v to %v", at, again)
	}
	if from := pass(t, client, at, host); from != first {
		t.Errorf("a session has a new socket, %v after %v", from, first)
	}
	if _, err := host.WriteToUDPAddrPort([]byte("answer"), first); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	if n, err := client.Read(p); err != nil || string(p[:n]) != "answer" {
		t.Errorf("answer %q, %v", p[:n], err)
	}
	b.listen(3, Config{Route: to("b")})
	pass(t, client, at, other)
	if n := b.listeners.UDPListeners(); len(n) != 1 {
		t.Errorf("listeners %v", n)
	}
	if !b.listeners.Remove("u") {
		t.Error("there was nothing to remove")
	}
	free(t, at)
}

// free waits until an address can be bound. Another process may have got it at the moment
// at which it was given back.
func free(t *testing.T, at *net.UDPAddr) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; <-time.After(10 * time.Millisecond) {
		c, err := net.ListenUDP("udp4", at)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the address is not free after removal: %v", err)
		}
	}
}

// TestHostsGo: a session whose host is gone goes on with another one.
func TestHostsGo(t *testing.T) {
	b := newBench(t)
	hosts := []*net.UDPConn{socket(t), socket(t)}
	client := socket(t)
	b.cluster("a", hosts[0])
	at := b.listen(1, Config{Route: to("a")})
	pass(t, client, at, hosts[0])
	first := pass(t, client, at, hosts[0])
	b.cluster("a", hosts[1], hosts[0])
	if from := pass(t, client, at, hosts[0]); from != first {
		t.Errorf("another host moves a session")
	}
	b.cluster("a", hosts[1])
	pass(t, client, at, hosts[1])
}

// TestTCPStaysTCP: a name does not change its protocol.
func TestTCPStaysTCP(t *testing.T) {
	b := newBench(t)
	b.listen(1, Config{Route: to("a")})
	err := b.listeners.Set(&l4.Spec{Name: "u", Addresses: []l4.Address{{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:0")}}}})
	if err == nil {
		t.Error("a UDP listener has become one for TCP")
	}
}

// TestAllocs: in a session a datagram costs no memory, either way.
func TestAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops what it is given under the race detector")
	}
	b := newBench(t)
	host, client := socket(t), socket(t)
	b.cluster("a", host)
	at := b.listen(1, Config{Route: to("a"), Hash: Hash{SourceIP: true}})
	from := pass(t, client, at, host)
	dst := at.AddrPort()
	p := make([]byte, 100)
	var counts []float64
	for range 5 { // elsewhere in the process something may allocate once
		counts = append(counts, testing.AllocsPerRun(200, func() {
			for range 3 {
				if _, err := client.WriteToUDPAddrPort(p[:10], dst); err != nil {
					t.Fatal(err)
				}
				if _, _, err := host.ReadFromUDPAddrPort(p); err != nil {
					t.Fatal(err)
				}
				if _, err := host.WriteToUDPAddrPort(p[:10], from); err != nil {
					t.Fatal(err)
				}
				if _, _, err := client.ReadFromUDPAddrPort(p); err != nil {
					t.Fatal(err)
				}
			}
		}))
	}
	if n := slices.Min(counts); n >= 1 {
		t.Errorf("%v allocations for three datagrams and their answers", n)
	}
}

// BenchmarkForward measures datagrams to a host, as many as are taken.
func BenchmarkForward(b *testing.B) {
	w := newBench(b)
	host, client := socket(b), socket(b)
	w.cluster("a", host)
	at := w.listen(1, Config{Route: to("a")})
	pass(b, client, at, host)
	conn, err := netio.OpenUDP(netio.UDPOptions{To: at.AddrPort()})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	var send netio.UDPSender
	p := make([]byte, 100)
	for b.Loop() {
		for range netio.MaxBatch {
			send.Add(p, nil)
		}
		send.Flush(conn)
	}
}
