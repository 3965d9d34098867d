package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// acquired is the outcome of an Acquire in a goroutine.
type acquired struct {
	conn *Conn
	err  error
}

func acquireLater(c *Cluster, h *Host, until time.Time) <-chan acquired {
	ch := make(chan acquired, 1)
	go func() {
		conn, err := c.Acquire(context.Background(), h, &Attempt{}, until)
		ch <- acquired{conn, err}
	}()
	return ch
}

func waiting(c *Cluster, n int64) func() bool {
	return func() bool { return c.Stats().UpstreamRqPendingActive.Value() == n }
}

// limited is a cluster with one origin and so many connections.
func limited(t *testing.T, connections, pending uint32) (*origin, *Cluster) {
	o := newOrigin(t)
	s := staticSpec(o.host())
	s.Breakers[Default].MaxConnections, s.Breakers[Default].MaxPending = connections, pending
	return o, mustSet(t, newTestManager(t, Options{}), s)
}

func TestTheMostRecentlyUsedConnectionIsReused(t *testing.T) {
	o := newOrigin(t)
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(o.host()))
	h := mustPick(t, c)
	first, second := mustAcquire(t, c, h), mustAcquire(t, c, h)
	c.Release(first, true)
	c.Release(second, true)
	if got := mustAcquire(t, c, h); got != second {
		t.Error("the connection that was released last is not used first")
	}
	if got := mustAcquire(t, c, h); got != first {
		t.Error("the other idle connection is not used")
	}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	o, c := limited(t, 1, 10)
	h := mustPick(t, c)
	conn := mustAcquire(t, c, h)
	var queue []<-chan acquired
	for i := range 3 {
		queue = append(queue, acquireLater(c, h, soon()))
		eventually(t, "the request queues", waiting(c, int64(i+1)))
	}
	if n := c.Stats().UpstreamCxOverflow.Value(); n != 3 {
		t.Errorf("upstream_cx_overflow is %d, want 3", n)
	}
	for i, ch := range queue {
		c.Release(conn, true)
		got := receive(t, ch)
		if got.err != nil || got.conn != conn {
			t.Fatalf("waiter %d got %v, %v", i, got.conn, got.err)
		}
		for _, later := range queue[i+1:] {
			select {
			case <-later:
				t.Fatal("a later waiter was served as well")
			default:
			}
		}
	}
	if n := o.accepted(); n != 1 {
		t.Errorf("%d connections were made, want 1", n)
	}
}

// A connection that can't be used again makes room for a new one.
func TestAWaiterGetsTheRoomOfABrokenConnection(t *testing.T) {
	o, c := limited(t, 1, 10)
	h := mustPick(t, c)
	conn := mustAcquire(t, c, h)
	ch := acquireLater(c, h, soon())
	eventually(t, "the request queues", waiting(c, 1))
	c.Abandon(conn)
	if got := receive(t, ch); got.err != nil || got.conn == conn {
		t.Fatalf("got %v, %v, want another connection", got.conn, got.err)
	}
	st := c.Stats()
	if a, b := st.UpstreamCxDestroyLocalWithActiveRq.Value(), st.UpstreamCxDestroyWithActiveRq.Value(); a != 1 || b != 1 {
		t.Errorf("the connection was abandoned in a request, counted %d local of %d", a, b)
	}
	eventually(t, "a second connection", func() bool { return o.accepted() == 2 })
}

func TestPendingOverflow(t *testing.T) {
	_, c := limited(t, 1, 1)
	h := mustPick(t, c)
	conn := mustAcquire(t, c, h)
	ch := acquireLater(c, h, soon())
	eventually(t, "the request queues", waiting(c, 1))
	gauges := &c.running().core.breakers[Default].stats
	eventually(t, "the gauges say that the limits are reached", func() bool {
		return gauges.CxOpen.Value() == 1 && gauges.RqPendingOpen.Value() == 1
	})
	if _, err := c.Acquire(context.Background(), h, &Attempt{}, soon()); !errors.Is(err, ErrPendingOverflow) {
		t.Errorf("the error is %v, want ErrPendingOverflow", err)
	}
	c.Release(conn, true)
	got := receive(t, ch)
	if got.err != nil {
		t.Fatal(got.err)
	}
	if gauges.RqPendingOpen.Value() != 0 {
		t.Error("rq_pending_open stays")
	}
	c.Abandon(got.conn)
	if gauges.CxOpen.Value() != 0 {
		t.Error("cx_open stays")
	}
	if n := c.Stats().UpstreamRqPendingOverflow.Value(); n != 1 {
		t.Errorf("upstream_rq_pending_overflow is %d, want 1", n)
	}
}

func TestWaitingEnds(t *testing.T) {
	_, c := limited(t, 1, 10)
	h := mustPick(t, c)
	conn := mustAcquire(t, c, h)
	if _, err := c.Acquire(context.Background(), h, &Attempt{}, time.Now()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after until the error is %v, want DeadlineExceeded", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Acquire(ctx, h, &Attempt{}, time.Time{})
		ended <- err
	}()
	eventually(t, "the request queues", waiting(c, 1))
	cause := errors.New("the client has gone")
	cancel(cause)
	if err := receive(t, ended); !errors.Is(err, cause) {
		t.Errorf("the error is %v, want %v", err, cause)
	}
	c.Release(conn, true)
	if again := mustAcquire(t, c, h); again != conn {
		t.Error("the connection went to somebody who has given up")
	}
}

// Idle connections to other hosts give way when there is no room.
func TestIdleConnectionsGiveWay(t *testing.T) {
	o1, o2 := newOrigin(t), newOrigin(t)
	s := staticSpec(o1.host(), o2.host())
	s.Breakers[Default].MaxConnections = 1
	c := mustSet(t, newTestManager(t, Options{}), s)
	hosts := c.Hosts()
	c.Release(mustAcquire(t, c, hosts[0]), true)
	conn := mustAcquire(t, c, hosts[1])
	<-o1.gone
	c.Release(conn, true)
	if n := c.Stats().UpstreamCxActive.Value(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// With room for one connection and two hosts, nobody starves.
func TestHostsTakeTurnsWithoutRoom(t *testing.T) {
	o1, o2 := newOrigin(t), newOrigin(t)
	s := staticSpec(o1.host(), o2.host())
	s.Breakers[Default].MaxConnections = 1
	c := mustSet(t, newTestManager(t, Options{}), s)
	hosts := c.Hosts()
	conn := mustAcquire(t, c, hosts[0])
	same := acquireLater(c, hosts[0], soon())
	eventually(t, "the request queues", waiting(c, 1))
	other := acquireLater(c, hosts[1], soon())
	eventually(t, "the request queues", waiting(c, 2))
	c.Release(conn, true)
	for range 2 {
		select {
		case got := <-same:
			if got.err != nil {
				t.Fatal(got.err)
			}
			c.Release(got.conn, true)
		case got := <-other:
			if got.err != nil {
				t.Fatal(got.err)
			}
			c.Release(got.conn, true)
		case <-time.After(20 * time.Second):
			t.Fatal("somebody starves")
		}
	}
}

func TestMaxRequestsPerConnection(t *testing.T) {
	o := newOrigin(t)
	s := staticSpec(o.host())
	s.HTTP.MaxRequests = 2
	c := mustSet(t, newTestManager(t, Options{}), s)
	h := mustPick(t, c)
	for range 4 {
		c.Release(mustAcquire(t, c, h), true)
	}
	eventually(t, "two connections", func() bool { return o.accepted() == 2 })
	if n := c.Stats().UpstreamCxMaxRequests.Value(); n != 2 {
		t.Errorf("upstream_cx_max_requests is %d, want 2", n)
	}
}

func TestAcquireFresh(t *testing.T) {
	_, c := limited(t, 1, 10)
	h := mustPick(t, c)
	used := mustAcquire(t, c, h)
	if _, err := exchange(used); err != nil {
		t.Fatal(err)
	}
	c.Release(used, true)
	// The idle one gives way, as there is room for one only.
	fresh, err := c.AcquireFresh(context.Background(), h, &Attempt{}, soon())
	if err != nil || fresh == used || fresh.Used() {
		t.Fatalf("got %v, %v, want a new connection", fresh, err)
	}
	// A connection that comes free is not what a fresh one is wanted for.
	ch := make(chan acquired, 1)
	go func() {
		conn, err := c.AcquireFresh(context.Background(), h, &Attempt{}, soon())
		ch <- acquired{conn, err}
	}()
	eventually(t, "the request queues", waiting(c, 1))
	c.Release(fresh, true)
	if got := receive(t, ch); got.err != nil || got.conn == fresh {
		t.Fatalf("got %v, %v, want a new connection", got.conn, got.err)
	}
}

// A dial that nobody waits for any more is of use to the next request.
func TestADialOutlivesItsWaiter(t *testing.T) {
	o := newOrigin(t)
	m := newTestManager(t, Options{})
	dialled := make(chan struct{})
	m.dial = func(ctx context.Context, s *Spec, to meta.Addr) (*netio.Conn, error) {
		<-dialled
		return dialSocket(nil, 0)(ctx, s, to)
	}
	c := mustSet(t, m, staticSpec(o.host()))
	h := mustPick(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Acquire(ctx, h, &Attempt{}, time.Time{})
		ended <- err
	}()
	eventually(t, "the request queues", waiting(c, 1))
	cancel()
	if err := receive(t, ended); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(dialled)
	eventually(t, "the connection is idle", func() bool {
		p := h.ep.pools[Default].pool
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.idle.n == 1
	})
	conn := mustAcquire(t, c, h)
	eventually(t, "a connection", func() bool { return o.accepted() > 0 })
	if conn.Used() || o.accepted() != 1 || c.Stats().UpstreamRqCancelled.Value() != 1 {
		t.Error("the connection was wasted")
	}
	c.Release(conn, true)
}

func TestASecondReleaseIsAMistake(t *testing.T) {
	o := newOrigin(t)
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(o.host()))
	conn := mustAcquire(t, c, mustPick(t, c))
	c.Release(conn, true)
	defer func() {
		if recover() == nil {
			t.Error("a connection can be released twice")
		}
	}()
	c.Release(conn, true)
}

// Priorities have connections and limits of their own.
func TestPrioritiesDoNotMix(t *testing.T) {
	_, c := limited(t, 1, 10)
	h := mustPick(t, c)
	low := mustAcquire(t, c, h)
	high, err := c.Acquire(context.Background(), h, &Attempt{Priority: High}, soon())
	if err != nil {
		t.Fatal(err)
	}
	c.Release(high, true)
	again, err := c.Acquire(context.Background(), h, &Attempt{Priority: High}, soon())
	if err != nil || again != high {
		t.Errorf("got %v, %v, want the idle connection", again, err)
	}
	c.Release(again, true)
	c.Release(low, true)
}

// The host closes an idle connection: it goes at once, without anybody asking.
func TestIdleConnectionsAreWatched(t *testing.T) {
	o := newOrigin(t)
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(o.host()))
	h := mustPick(t, c)
	conn := mustAcquire(t, c, h)
	if ok, err := exchange(conn); !ok || err != nil {
		t.Fatal(ok, err)
	}
	c.Release(conn, true)
	p := conn.hp.pool
	idle(p)
	p.mu.Lock()
	watched := conn.watched
	p.mu.Unlock()
	if !watched {
		t.Fatal("the connection is not watched")
	}
	o.closeAll()
	eventually(t, "the connection is closed", func() bool { return c.Stats().UpstreamCxActive.Value() == 0 })
	if n := c.Stats().UpstreamCxDestroyRemote.Value(); n != 1 {
		t.Errorf("upstream_cx_destroy_remote is %d, want 1", n)
	}
}

// idle does what happens after connections were idle for a while.
func idle(p *pool) {
	p.mu.Lock()
	for n := p.idle.front; n != nil; n = n.next {
		n.owner.idled -= 2 * watchAfter
	}
	p.mu.Unlock()
	p.sweepIdle()
}

// A watched connection works like any other, also after it was idle.
func TestAWatchedConnectionIsReused(t *testing.T) {
	o := newOrigin(t)
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(o.host()))
	h := mustPick(t, c)
	for range 5 {
		conn := mustAcquire(t, c, h)
		if ok, err := exchange(conn); !ok || err != nil {
			t.Fatal(ok, err)
		}
		c.Release(conn, true)
		idle(conn.hp.pool)
	}
	if n := o.accepted(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	c.m.watch.mu.Lock()
	defer c.m.watch.mu.Unlock()
	if n := len(c.m.watch.conns); n != 1 {
		t.Errorf("%d connections are watched, want 1", n)
	}
}

// deadConn is a connection whose end was not noticed by the watcher.
type deadConn struct{ codec.ClientConn }

func (deadConn) Alive() bool { return false }

func TestADeadIdleConnectionIsNotUsed(t *testing.T) {
	o := newOrigin(t)
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(o.host()))
	h := mustPick(t, c)
	conn := mustAcquire(t, c, h)
	c.Release(conn, true)
	idle(conn.hp.pool)
	conn.ClientConn = deadConn{conn.ClientConn}
	if got := mustAcquire(t, c, h); got == conn {
		t.Error("the dead connection was used")
	}
}

func TestAcquireAndReleaseAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	o := newOrigin(t)
	c := mustSet(t, newTestManager(t, Options{}), staticSpec(o.host()))
	h := mustPick(t, c)
	c.Release(mustAcquire(t, c, h), true)
	a, ctx := &Attempt{}, context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		conn, err := c.Acquire(ctx, h, a, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		c.Release(conn, true)
	}); n != 0 {
		t.Errorf("a connection that is used again costs %v allocations", n)
	}
}

func benchmarkAcquire(b *testing.B, run func(c *Cluster, h *Host)) {
	o := newOrigin(b)
	m := NewManager(Options{})
	defer m.Close()
	if err := m.Set(staticSpec(o.host())); err != nil {
		b.Fatal(err)
	}
	c := m.Cluster("web")
	h, err := c.Pick(&Attempt{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	run(c, h)
}

func BenchmarkAcquireRelease(b *testing.B) {
	benchmarkAcquire(b, func(c *Cluster, h *Host) {
		a, ctx := &Attempt{}, context.Background()
		for b.Loop() {
			conn, _ := c.Acquire(ctx, h, a, time.Time{})
			c.Release(conn, true)
		}
	})
}

func BenchmarkAcquireReleaseParallel(b *testing.B) {
	benchmarkAcquire(b, func(c *Cluster, h *Host) {
		b.RunParallel(func(pb *testing.PB) {
			a, ctx := &Attempt{}, context.Background()
			for pb.Next() {
				conn, _ := c.Acquire(ctx, h, a, time.Time{})
				c.Release(conn, true)
			}
		})
	})
}
