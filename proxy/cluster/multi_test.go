package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// manyConn is a connection that carries many streams, of which the test is the peer.
type manyConn struct {
	codec.ClientConn // not used
	sock             *netio.Conn

	mu       sync.Mutex
	limit    int
	draining bool
	dead     bool
	changed  func()
	open     int
}

func (c *manyConn) Limit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || c.dead {
		return 0
	}
	return c.limit
}

func (c *manyConn) Draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining || c.dead
}

func (c *manyConn) Alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.dead
}

func (c *manyConn) Watch(changed func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = changed
}

func (c *manyConn) Close() error {
	c.mu.Lock()
	c.dead = true
	c.mu.Unlock()
	return c.sock.Close()
}

// says lets the peer say something.
func (c *manyConn) says(f func()) {
	c.mu.Lock()
	f()
	changed := c.changed
	c.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (c *manyConn) goAway()        { c.says(func() { c.draining = true }) }
func (c *manyConn) die()           { c.says(func() { c.dead = true }) }
func (c *manyConn) allows(n int)   { c.says(func() { c.limit = n }) }
func many(c *Conn) *manyConn       { return c.ClientConn.(*manyConn) }
func (c *manyConn) String() string { return fmt.Sprintf("%p", c) }

// manyWorld makes connections that carry many streams.
type manyWorld struct {
	mu    sync.Mutex
	conns []*manyConn
	limit int // of new ones
	doa   bool
}

func (w *manyWorld) http(c *netio.Conn, _ *Spec, _ meta.Protocol) codec.ClientConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &manyConn{sock: c, limit: w.limit, dead: w.doa}
	w.conns = append(w.conns, m)
	return m
}

func (w *manyWorld) made() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns)
}

func memoryDial(context.Context, *Spec, meta.Addr) (*netio.Conn, error) {
	near, far := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, far); _ = far.Close() }()
	return netio.NewConn(near), nil
}

// manyCluster is a cluster whose connections carry many streams.
func manyCluster(t *testing.T, limit int, change func(s *Spec)) (*manyWorld, *Cluster) {
	w := &manyWorld{limit: limit}
	m := newTestManager(t, Options{HTTP: w.http})
	m.dial = memoryDial
	s := staticSpec(hostAt("10.0.0.1:80"), hostAt("10.0.0.2:80"))
	s.HTTP.Protocol, s.HTTP.HTTP2 = HTTP2Only, &h2.Options{MaxConcurrentStreams: 1024}
	if change != nil {
		change(s)
	}
	t.Cleanup(func() { // streams that the test has not ended
		m.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range w.conns {
			_ = c.Close()
		}
	})
	return w, mustSet(t, m, s)
}

func TestStreamsShareAConnection(t *testing.T) {
	w, c := manyCluster(t, 3, nil)
	h := c.Hosts()[0]
	first := mustAcquire(t, c, h)
	for range 2 {
		if again := mustAcquire(t, c, h); again != first {
			t.Fatal("a connection with room is not shared")
		}
	}
	second := mustAcquire(t, c, h)
	if second == first {
		t.Fatal("a connection carries more streams than it may")
	}
	c.Release(first, true)
	c.Release(second, true)
	if w.made() != 2 {
		t.Errorf("%d connections, want 2", w.made())
	}
	st := c.Stats()
	if a, b, n := st.UpstreamRqActive.Value(), st.UpstreamCxHTTP2Total.Value(), st.UpstreamCxHTTP1Total.Value(); a != 2 || b != 2 || n != 0 {
		t.Errorf("upstream_rq_active %d, upstream_cx_http2_total %d, http1 %d", a, b, n)
	}
	if n := h.Stats().CxActive.Value(); n != 2 {
		t.Errorf("cx_active of the host is %d", n)
	}
	c.Release(first, true)
	c.Release(first, true)
	if n := st.UpstreamCxActive.Value(); n != 2 {
		t.Errorf("%d connections are left of 2 that are idle", n)
	}
}

// Whoever waits while a connection is being made gets a stream of it.
func TestOneDialServesAllWhoWait(t *testing.T) {
	w, c := manyCluster(t, 100, nil)
	dialled := make(chan struct{})
	c.m.dial = func(ctx context.Context, s *Spec, to meta.Addr) (*netio.Conn, error) {
		<-dialled
		return memoryDial(ctx, s, to)
	}
	var all []<-chan acquired
	for range 50 {
		all = append(all, acquireLater(c, c.Hosts()[0], soon()))
	}
	eventually(t, "all wait", waiting(c, 50))
	if n := c.Stats().UpstreamCxTotal.Value(); n != 1 {
		t.Errorf("%d dials are under way, want 1", n)
	}
	close(dialled)
	for _, ch := range all {
		if got := receive(t, ch); got.err != nil {
			t.Fatal(got.err)
		}
	}
	if w.made() != 1 {
		t.Errorf("%d connections, want 1", w.made())
	}
}

// A dial that fails is everybody's who has waited for it.
func TestAFailedDialFailsAllWhoWait(t *testing.T) {
	_, c := manyCluster(t, 100, nil)
	dialled := make(chan struct{})
	c.m.dial = func(context.Context, *Spec, meta.Addr) (*netio.Conn, error) {
		<-dialled
		return nil, errors.New("refused")
	}
	var all []<-chan acquired
	for range 20 {
		all = append(all, acquireLater(c, c.Hosts()[0], soon()))
	}
	eventually(t, "all wait", waiting(c, 20))
	close(dialled)
	for _, ch := range all {
		var failed *ConnectError
		if got := receive(t, ch); !errors.As(got.err, &failed) {
			t.Fatalf("got %v", got.err)
		}
	}
	if n := c.Stats().UpstreamCxConnectFail.Value(); n != 1 {
		t.Errorf("%d dials, want 1", n)
	}
}

func TestThePeerChangesItsLimit(t *testing.T) {
	w, c := manyCluster(t, 4, func(s *Spec) { s.Breakers[Default].MaxConnections = 1 })
	h := c.Hosts()[0]
	conn := mustAcquire(t, c, h)
	mustAcquire(t, c, h)
	many(conn).allows(2)
	ch := acquireLater(c, h, soon())
	eventually(t, "the third waits", waiting(c, 1))
	many(conn).allows(1)
	c.Release(conn, true)
	if !waiting(c, 1)() {
		t.Fatal("a stream was lent beyond the limit")
	}
	many(conn).allows(2)
	if got := receive(t, ch); got.err != nil || got.conn != conn {
		t.Fatalf("got %v, %v, want the connection whose limit has risen", got.conn, got.err)
	}
	if w.made() != 1 {
		t.Errorf("%d connections, want 1", w.made())
	}
}

func TestAConnectionThatDrains(t *testing.T) {
	w, c := manyCluster(t, 10, nil)
	h := c.Hosts()[0]
	conn := mustAcquire(t, c, h)
	mustAcquire(t, c, h)
	many(conn).goAway()
	if other := mustAcquire(t, c, h); other == conn {
		t.Fatal("a stream was lent of a connection that drains")
	}
	st := c.Stats()
	if a, n := st.UpstreamCxActive.Value(), st.UpstreamCxCloseNotify.Value(); a != 2 || n != 1 {
		t.Errorf("upstream_cx_active %d, upstream_cx_close_notify %d, want 2, 1", a, n)
	}
	c.Release(conn, true)
	c.Release(conn, true)
	if a := st.UpstreamCxActive.Value(); a != 1 || w.conns[0].Alive() {
		t.Errorf("the connection stays after its last stream: upstream_cx_active %d", a)
	}
	if n := st.UpstreamCxDestroyLocal.Value(); n != 1 || st.UpstreamCxDestroyWithActiveRq.Value() != 0 {
		t.Errorf("upstream_cx_destroy_local is %d", n)
	}
	idleConn := mustAcquire(t, c, h)
	c.Release(idleConn, true)
	c.Release(idleConn, true) // the one above
	many(idleConn).goAway()
	eventually(t, "an idle connection ends after GOAWAY", func() bool { return st.UpstreamCxActive.Value() == 0 })
}

func TestTheEndOfAConnectionWithStreams(t *testing.T) {
	_, c := manyCluster(t, 10, func(s *Spec) { s.Breakers[Default].MaxConnections = 1 })
	h := c.Hosts()[0]
	conn := mustAcquire(t, c, h)
	mustAcquire(t, c, h)
	many(conn).die()
	st := c.Stats()
	if a, n := st.UpstreamCxActive.Value(), st.UpstreamCxDestroyWithActiveRq.Value(); a != 0 || n != 1 {
		t.Errorf("upstream_cx_active %d, upstream_cx_destroy_with_active_rq %d, want 0, 1", a, n)
	}
	next := mustAcquire(t, c, h)
	if next == conn {
		t.Fatal("the dead connection was lent")
	}
	c.Abandon(conn)
	c.Abandon(conn)
	if a, n := st.UpstreamRqActive.Value(), st.UpstreamCxDestroy.Value(); a != 1 || n != 1 {
		t.Errorf("upstream_rq_active %d, upstream_cx_destroy %d, want 1, 1", a, n)
	}
}

// Nobody who tries again is given the connection that has just failed, though the news of
// its end has not come.
func TestAConnectionThatFailsAStreamIsLookedAt(t *testing.T) {
	_, c := manyCluster(t, 10, nil)
	h := c.Hosts()[0]
	conn := mustAcquire(t, c, h)
	many(conn).mu.Lock()
	many(conn).dead = true
	many(conn).mu.Unlock()
	c.Abandon(conn)
	if again := mustAcquire(t, c, h); again == conn {
		t.Error("the dead connection was lent again")
	}
}

// What a connection has no room for ends with it, instead of in ever more connections.
func TestConnectionsThatCarryNothing(t *testing.T) {
	for name, spoil := range map[string]func(*manyWorld){
		"dead on arrival": func(w *manyWorld) { w.doa = true },
		"no streams":      func(w *manyWorld) { w.limit = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			w, c := manyCluster(t, 10, nil)
			spoil(w)
			for range 3 {
				conn := mustAcquire(t, c, c.Hosts()[0])
				c.Abandon(conn)
			}
			if n := w.made(); n > 3 {
				t.Errorf("%d connections for three requests", n)
			}
		})
	}
}

func TestMaxRequestsOfASharedConnection(t *testing.T) {
	w, c := manyCluster(t, 10, func(s *Spec) { s.HTTP.MaxRequests = 3 })
	h := c.Hosts()[0]
	conn := mustAcquire(t, c, h)
	for range 2 {
		if mustAcquire(t, c, h) != conn {
			t.Fatal("the connection is not shared")
		}
	}
	if n := c.Stats().UpstreamCxMaxRequests.Value(); n != 1 {
		t.Errorf("upstream_cx_max_requests is %d, want 1", n)
	}
	if mustAcquire(t, c, h) == conn {
		t.Fatal("the connection carries a fourth request")
	}
	for range 3 {
		c.Release(conn, true)
	}
	if w.conns[0].Alive() {
		t.Error("a connection that is used up stays open")
	}
}

func TestAgeAndIdlenessOfASharedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := manyCluster(t, 10, func(s *Spec) {
			s.HTTP.IdleTimeout, s.HTTP.MaxConnDuration = time.Minute, 10*time.Minute
		})
		defer c.m.Close()
		h, st := c.Hosts()[0], c.Stats()
		conn := mustAcquire(t, c, h)
		time.Sleep(5 * time.Minute)
		if mustAcquire(t, c, h) != conn {
			t.Fatal("a connection with a stream is idle")
		}
		c.Release(conn, true)
		time.Sleep(6 * time.Minute)
		other := mustAcquire(t, c, h)
		if other == conn || st.UpstreamCxMaxDurationReached.Value() != 1 {
			t.Fatal("the connection is lent beyond max_connection_duration")
		}
		c.Release(conn, true)
		synctest.Wait()
		if st.UpstreamCxActive.Value() != 1 {
			t.Error("a connection that is too old stays")
		}
		c.Release(other, true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if a, n := st.UpstreamCxActive.Value(), st.UpstreamCxIdleTimeout.Value(); a != 0 || n != 1 || w.made() != 2 {
			t.Errorf("upstream_cx_active %d, upstream_cx_idle_timeout %d", a, n)
		}
	})
}

// Streams that never end keep nobody from another host.
func TestABusyConnectionDoesNotStarveOtherHosts(t *testing.T) {
	_, c := manyCluster(t, 10, func(s *Spec) { s.Breakers[Default].MaxConnections = 1 })
	mustAcquire(t, c, c.Hosts()[0])
	mustAcquire(t, c, c.Hosts()[1])
	if n := c.Stats().UpstreamCxActive.Value(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	ch := acquireLater(c, c.Hosts()[1], soon())
	if got := receive(t, ch); got.err != nil {
		t.Fatal(got.err)
	}
}

func TestAHostWithStreamsGoes(t *testing.T) {
	w, c := manyCluster(t, 10, nil)
	h := c.Hosts()[0]
	conn := mustAcquire(t, c, h)
	h.ep.retire()
	if got := mustAcquire(t, c, h); got == conn {
		t.Error("a stream was lent of a connection to a host that has gone")
	}
	c.Release(conn, true)
	if w.conns[0].Alive() {
		t.Error("the connection stays after its last stream")
	}
}

func TestConnectionsAsDownstream(t *testing.T) {
	var asked []meta.Protocol
	m := newTestManager(t, Options{HTTP: func(c *netio.Conn, s *Spec, p meta.Protocol) codec.ClientConn {
		asked = append(asked, p)
		return newHTTP1(c, s)
	}})
	m.dial = memoryDial
	s := staticSpec(hostAt("10.0.0.1:80"))
	s.HTTP.Protocol, s.HTTP.HTTP2 = AsDownstream, &h2.Options{MaxConcurrentStreams: 1}
	c := mustSet(t, m, s)
	h := c.Hosts()[0]
	for _, p := range []meta.Protocol{meta.HTTP11, meta.HTTP2, meta.HTTP10} {
		conn := acquireFor(t, c, h, &Attempt{Stream: &meta.Stream{Protocol: p}})
		c.Release(conn, true)
	}
	if len(asked) != 2 || asked[0] != meta.HTTP11 || asked[1] != meta.HTTP2 {
		t.Errorf("connections were made for %v, want HTTP/1.1 and HTTP/2", asked)
	}
	if a, b := c.Stats().UpstreamCxHTTP1Total.Value(), c.Stats().UpstreamCxHTTP2Total.Value(); a != 1 || b != 1 {
		t.Errorf("counted %d and %d", a, b)
	}
}

// misbehave lets the peers of all connections do what peers do.
func (w *manyWorld) misbehave(rnd *rand.Rand) {
	w.mu.Lock()
	if len(w.conns) == 0 {
		w.mu.Unlock()
		return
	}
	c := w.conns[rnd.IntN(len(w.conns))]
	w.mu.Unlock()
	switch rnd.IntN(4) {
	case 0:
		c.goAway()
	case 1:
		c.die()
	default:
		c.allows(rnd.IntN(6))
	}
}

// stream begins a stream and ends it, and reports what must not happen.
func (w *manyWorld) stream(c *Cluster, rnd *rand.Rand) error {
	h, err := c.Pick(nil)
	if err != nil {
		return err
	}
	until := time.Now().Add(time.Minute)
	if rnd.IntN(4) == 0 {
		until = time.Now().Add(time.Duration(rnd.IntN(20)) * time.Millisecond)
	}
	begun := time.Now()
	conn, err := c.Acquire(context.Background(), h, nil, until)
	var failed *ConnectError
	switch {
	case errors.Is(err, context.DeadlineExceeded) && time.Since(begun) >= 59*time.Second:
		return errors.New("somebody waited in vain")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrPendingOverflow), errors.As(err, &failed):
		return nil
	case err != nil:
		return err
	}
	m := many(conn)
	m.mu.Lock()
	m.open++
	m.mu.Unlock()
	time.Sleep(time.Duration(rnd.IntN(8)) * time.Millisecond)
	m.mu.Lock()
	m.open--
	over := m.open < 0
	m.mu.Unlock()
	switch rnd.IntN(8) {
	case 0:
		c.Abandon(conn)
	case 1:
		c.Release(conn, false)
	default:
		c.Release(conn, m.Alive())
	}
	if over {
		return errors.New("more streams ended than began")
	}
	return nil
}

// However streams, limits, GOAWAYs and deaths mix: nobody waits in vain, and in the end
// everything is accounted for.
func TestSharedConnectionsKeepTheirPromises(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			w := &manyWorld{limit: int(1 + seed%7)}
			m := NewManager(Options{HTTP: w.http})
			m.dial = memoryDial
			s := edsSpec("web")
			s.ServiceName = "web"
			s.Breakers[Default].MaxConnections = uint32(1 + seed%4)
			s.Breakers[Default].MaxPending = 30
			s.HTTP = HTTPOptions{
				Protocol: HTTP2Only, HTTP2: &h2.Options{MaxConcurrentStreams: 10}, IdleTimeout: 20 * time.Millisecond,
				MaxRequests: uint32(seed % 5), MaxConnDuration: time.Duration(seed%3) * 30 * time.Millisecond,
			}
			mustSet(t, m, s)
			var hosts []HostSpec
			for i := range 1 + seed%3 {
				hosts = append(hosts, hostAt(fmt.Sprintf("10.0.0.%d:80", i)))
			}
			mustAssign(t, m, assignment("web", hosts...))
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(seed, uint64(i)))
					for range 60 {
						if err := w.stream(m.Cluster("web"), rnd); err != nil {
							t.Error(err)
						}
					}
				})
			}
			rnd := rand.New(rand.NewPCG(seed, 99))
			for i := range 60 {
				time.Sleep(3 * time.Millisecond)
				w.misbehave(rnd)
				if i%10 == 0 {
					mustAssign(t, m, assignment("web", hosts[:1+i%len(hosts)]...))
				}
			}
			wg.Wait()
			c := m.Cluster("web")
			time.Sleep(time.Second)
			synctest.Wait()
			atRest(t, c, seed)
			for _, c := range w.conns {
				if c.Alive() {
					t.Errorf("seed %d: a connection is open", seed)
				}
			}
			m.Close()
		})
	}
}

func TestStreamsOfASharedConnectionAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	_, c := manyCluster(t, 10, nil)
	h := c.Hosts()[0]
	mustAcquire(t, c, h)
	a, ctx := &Attempt{}, context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		conn, err := c.Acquire(ctx, h, a, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		c.Release(conn, true)
	}); n != 0 {
		t.Errorf("a stream of a connection that is there costs %v allocations", n)
	}
}
