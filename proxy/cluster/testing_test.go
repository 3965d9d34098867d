package cluster

import (
	"bufio"
	"context"
	"io"
	"iter"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// origin is an HTTP/1 server that answers every request with 204 and lets the test
// see and close its connections.
type origin struct {
	net.Listener
	mu    sync.Mutex
	conns map[net.Conn]bool
	total int
	gone  chan struct{} // one for each connection that ended
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{Listener: l, conns: map[net.Conn]bool{}, gone: make(chan struct{}, 10000)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			if o.conns == nil { // accepted while the test ended
				_ = c.Close()
			} else {
				o.conns[c] = true
			}
			o.total++
			o.mu.Unlock()
			all.Go(func() { o.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		o.mu.Lock()
		for c := range o.conns {
			_ = c.Close()
		}
		o.conns = nil
		o.mu.Unlock()
		all.Wait()
	})
	return o
}

func (o *origin) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
		o.gone <- struct{}{}
	}()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line != "\r\n" {
			continue
		}
		if _, err := io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
			return
		}
	}
}

func (o *origin) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.conns {
		_ = c.Close()
	}
}

func (o *origin) accepted() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total
}

func (o *origin) host() HostSpec { return hostAt(o.Addr().String()) }

func hostAt(addr string) HostSpec {
	return HostSpec{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort(addr)}, Weight: 1}
}

// staticSpec is a cluster with one locality.
func staticSpec(hosts ...HostSpec) *Spec {
	return &Spec{
		Name: "web", Type: Static, ConnectTimeout: 5 * time.Second, PanicThreshold: 50,
		Assignment: assignment("web", hosts...),
		Breakers: [2]Thresholds{
			{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3},
			{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3},
		},
		HTTP: HTTPOptions{IdleTimeout: time.Hour},
		Hash: 1,
	}
}

func assignment(name string, hosts ...HostSpec) *Assignment {
	return &Assignment{Cluster: name, Localities: []Locality{{Hosts: hosts}}, Overprovisioning: 140}
}

func newTestManager(t *testing.T, o Options) *Manager {
	t.Helper()
	if o.Stats == nil {
		o.Stats = stats.NewStore()
	}
	m := NewManager(o)
	t.Cleanup(m.Close)
	return m
}

func mustSet(t *testing.T, m *Manager, s *Spec) *Cluster {
	t.Helper()
	if err := m.Set(s); err != nil {
		t.Fatal(err)
	}
	return m.Cluster(s.Name)
}

// mustPick picks the host of an attempt that says nothing.
func mustPick(t *testing.T, c *Cluster) *Host {
	t.Helper()
	h, err := c.Pick(&Attempt{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func soon() time.Time { return time.Now().Add(20 * time.Second) }

func mustAcquire(t *testing.T, c *Cluster, h *Host) *Conn {
	t.Helper()
	conn, err := c.Acquire(context.Background(), h, &Attempt{}, soon())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends a request and reads the response; it reports whether the connection
// can be used again.
func exchange(c codec.ClientConn) (bool, error) {
	s, err := c.Open(context.Background())
	if err != nil {
		return false, err
	}
	var m header.Map
	m.Add(":method", "GET")
	m.Add(":scheme", "http")
	m.Add(":authority", "web")
	m.Add(":path", "/")
	if err := s.WriteHeaders(&m, true); err != nil {
		s.Release()
		return false, err
	}
	m.Reset()
	next, err := s.ReadHeaders(&m)
	for err == nil && next == codec.Data {
		var b buffer.Buf
		next, err = s.ReadData(&b)
		b.Release()
	}
	return s.Release(), err
}

// eventually waits for something that another goroutine is about to do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := soon(); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// receive waits for something from another goroutine.
func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(time.Until(soon())):
		t.Fatal("waited in vain")
	}
	return v
}

// untilClosed receives until from is closed.
func untilClosed[T any](t *testing.T, from <-chan T) iter.Seq[T] {
	t.Helper()
	return func(yield func(T) bool) {
		late := time.After(time.Until(soon()))
		for {
			select {
			case v, ok := <-from:
				if !ok || !yield(v) {
					return
				}
			case <-late:
				t.Fatal("waited in vain")
			}
		}
	}
}
