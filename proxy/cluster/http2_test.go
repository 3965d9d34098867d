package cluster

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
)

// realServer is net/http's HTTP/2 server, without TLS, that answers with 204.
type realServer struct {
	http.Server
	l       net.Listener
	mu      sync.Mutex
	conns   map[net.Conn]bool
	total   atomic.Int64
	now     atomic.Int64
	most    atomic.Int64
	entered chan struct{} // one for each request
	hold    chan struct{} // nil, or what requests wait for
}

func newRealServer(t *testing.T, streams int, hold chan struct{}) *realServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &realServer{l: l, conns: map[net.Conn]bool{}, entered: make(chan struct{}, 10000), hold: hold}
	s.Protocols = &http.Protocols{}
	s.Protocols.SetUnencryptedHTTP2(true)
	s.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	s.Handler = http.HandlerFunc(s.serve)
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
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-ended })
	return s
}

func (s *realServer) serve(w http.ResponseWriter, r *http.Request) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	s.entered <- struct{}{}
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-r.Context().Done():
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *realServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

func realCluster(t *testing.T, s *realServer, change func(*Spec)) *Cluster {
	spec := staticSpec(hostAt(s.l.Addr().String()))
	spec.HTTP.Protocol, spec.HTTP.HTTP2 = HTTP2Only, &h2.Options{MaxConcurrentStreams: 1024}
	if change != nil {
		change(spec)
	}
	return mustSet(t, newTestManager(t, Options{}), spec)
}

// once makes one exchange and gives the stream back.
func once(c *Cluster) error {
	h, err := c.Pick(nil)
	if err != nil {
		return err
	}
	conn, err := c.Acquire(context.Background(), h, nil, soon())
	if err != nil {
		return err
	}
	over, err := exchange(conn)
	if over || err == nil {
		c.Release(conn, over)
	} else {
		c.Abandon(conn)
	}
	return err
}

// atOnce runs n exchanges and returns those that failed.
func atOnce(c *Cluster, n int) <-chan error {
	failed := make(chan error, n)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if err := once(c); err != nil {
				failed <- err
			}
		})
	}
	go func() { all.Wait(); close(failed) }()
	return failed
}

func TestARealServerGetsManyStreamsOnOneConnection(t *testing.T) {
	hold := make(chan struct{})
	s := newRealServer(t, 250, hold)
	c := realCluster(t, s, nil)
	failed := atOnce(c, 100)
	for range 100 {
		receive(t, s.entered)
	}
	if n := s.total.Load(); n != 1 {
		t.Errorf("%d connections for 100 requests at once", n)
	}
	close(hold)
	for err := range untilClosed(t, failed) {
		t.Error(err)
	}
	if n := c.Stats().UpstreamRqActive.Value(); n != 0 {
		t.Errorf("upstream_rq_active is %d at rest", n)
	}
}

// Once the server has said how many streams it takes, it gets no more.
func TestALimitOfARealServerHolds(t *testing.T) {
	s := newRealServer(t, 4, nil)
	c := realCluster(t, s, func(s *Spec) { s.Breakers[Default].MaxConnections = 1 })
	if err := once(c); err != nil {
		t.Fatal(err)
	}
	h := mustPick(t, c)
	eventually(t, "the server's SETTINGS", func() bool {
		p := h.ep.pools[Default].pool
		p.mu.Lock()
		defer p.mu.Unlock()
		return h.ep.pools[Default].batch == 4
	})
	for err := range untilClosed(t, atOnce(c, 200)) {
		t.Error(err)
	}
	if n, most := s.total.Load(), s.most.Load(); n != 1 || most > 4 {
		t.Errorf("%d connections, %d streams at once, want 1 and 4", n, most)
	}
}

func TestARealServerShutsDown(t *testing.T) {
	hold := make(chan struct{})
	s := newRealServer(t, 100, hold)
	c := realCluster(t, s, nil)
	failed := atOnce(c, 5)
	for range 5 {
		receive(t, s.entered)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	eventually(t, "GOAWAY", func() bool { return c.Stats().UpstreamCxCloseNotify.Value() == 1 })
	close(hold)
	for err := range untilClosed(t, failed) {
		t.Errorf("a stream was lost: %v", err)
	}
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
	eventually(t, "the connection is closed", func() bool { return c.Stats().UpstreamCxActive.Value() == 0 })
}

func TestARealServerCutsAConnection(t *testing.T) {
	s := newRealServer(t, 100, make(chan struct{}))
	c := realCluster(t, s, nil)
	failed := atOnce(c, 5)
	for range 5 {
		receive(t, s.entered)
	}
	s.cut()
	n := 0
	for err := range untilClosed(t, failed) {
		n++
		var bad *codec.ProtocolError
		if errors.As(err, &bad) {
			t.Errorf("the end of a connection is reported as %v", err)
		}
	}
	st := c.Stats()
	if n != 5 || st.UpstreamRqActive.Value() != 0 {
		t.Errorf("%d streams failed of 5, upstream_rq_active %d", n, st.UpstreamRqActive.Value())
	}
	eventually(t, "the connection is counted as closed", func() bool { return st.UpstreamCxActive.Value() == 0 })
	if a, b := st.UpstreamCxDestroyRemote.Value(), st.UpstreamCxDestroyRemoteWithActiveRq.Value(); a != 1 || b != 1 {
		t.Errorf("upstream_cx_destroy_remote %d, with_active_rq %d, want 1, 1", a, b)
	}
}
