package call_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// patience is how long a test waits for what has to come.
const patience = 30 * time.Second

// bench is a cluster with one host, and a client of it.
type bench struct {
	t       *testing.T
	store   *stats.Store
	cluster *cluster.Cluster
	client  *call.Client
}

// newBench makes the cluster "c" with the host at an address, over HTTP/1 or 2.
func newBench(t *testing.T, addr string, version int) *bench {
	t.Helper()
	store := stats.NewStore()
	m := cluster.NewManager(cluster.Options{Stats: store})
	t.Cleanup(m.Close)
	limits := cluster.Thresholds{MaxConnections: 100, MaxPending: 100, MaxRequests: 4, MaxRetries: 3}
	spec := &cluster.Spec{
		Name: "c", Type: cluster.Static, ConnectTimeout: patience, PanicThreshold: 50,
		Assignment: &cluster.Assignment{Cluster: "c", Overprovisioning: 140, Localities: []cluster.Locality{{
			Hosts: []cluster.HostSpec{{Addr: meta.Addr{AddrPort: netip.MustParseAddrPort(addr)}, Weight: 1}},
		}}},
		Breakers: [2]cluster.Thresholds{limits, limits},
		HTTP:     cluster.HTTPOptions{IdleTimeout: time.Hour, MaxHeadersCount: 100, MaxHeadersKB: 60, EnableTrailers: true},
		Hash:     1,
	}
	if version == 2 {
		spec.HTTP.Protocol, spec.HTTP.HTTP2 = cluster.HTTP2Only, &h2.Options{MaxConcurrentStreams: 100}
	}
	if err := m.Set(spec); err != nil {
		t.Fatal(err)
	}
	return &bench{t, store, m.Cluster("c"), call.NewClient(m)}
}

// server is net/http's, which speaks both versions, and counts its connections.
type server struct {
	http.Server
	addr  string
	total atomic.Int64
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newServer(t *testing.T, handler http.HandlerFunc) *server {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String(), conns: map[net.Conn]bool{}}
	s.Handler = handler
	s.Protocols = &http.Protocols{}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.ConnState = func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.total.Add(1)
			s.conns[c] = true
		case http.StateClosed:
			delete(s.conns, c)
		}
	}
	over := make(chan struct{})
	go func() { defer close(over); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-over })
	return s
}

// cut closes every connection at once.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// script is a host that does with each connection what it is told.
func script(t *testing.T, serve func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// post makes a request.
func post(path string) *call.Request {
	q := &call.Request{Cluster: "c", Timeout: patience}
	q.Header.AddID(header.Method, "POST")
	q.Header.AddID(header.Path, path)
	q.Header.AddID(header.Authority, "service")
	return q
}

// do makes a call that nobody's end ends.
func (b *bench) do(q *call.Request) (*call.Response, error) {
	a := &call.Response{}
	return a, b.client.Do(call.Background(context.Background()), q, a)
}

// counted checks counters and gauges of the cluster.
func (b *bench) counted(want map[string]uint64) {
	b.t.Helper()
	got := map[string]uint64{}
	b.store.Each(func(m stats.Metric) {
		if m.Counter != nil {
			got[m.Name] = m.Counter.Value()
		}
		if m.Gauge != nil {
			got[m.Name] = uint64(m.Gauge.Value())
		}
	})
	for name, n := range want {
		if got["cluster.c."+name] != n {
			b.t.Errorf("%s is %d, want %d", name, got["cluster.c."+name], n)
		}
	}
}
