package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// world is an upstream in memory that can fail in every way, and counts.
type world struct {
	rnd        func() uint64
	open, most atomic.Int64
	limit      int64
	refuse     bool
	slow       time.Duration
	overLimit  atomic.Bool
}

// countedConn tells its world when it is closed.
type countedConn struct {
	net.Conn
	w    *world
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.w.open.Add(-1) })
	return c.Conn.Close()
}

func (w *world) dial(ctx context.Context, _ *Spec, _ meta.Addr) (*netio.Conn, error) {
	n := w.open.Add(1)
	if n > w.limit {
		w.overLimit.Store(true)
	}
	w.most.Store(max(w.most.Load(), n))
	select {
	case <-time.After(time.Duration(w.rnd() % uint64(w.slow))):
	case <-ctx.Done():
		w.open.Add(-1)
		return nil, ctx.Err()
	}
	if w.refuse && w.rnd()%5 == 0 {
		w.open.Add(-1)
		return nil, errors.New("refused")
	}
	near, far := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, far); _ = far.Close() }()
	return netio.NewConn(&countedConn{Conn: near, w: w}), nil
}

// client borrows connections in every way there is until it is done. It returns what
// must not happen.
func (w *world) client(m *Manager, rnd *rand.Rand, rounds int) error {
	for range rounds {
		c := m.Cluster("web")
		h, err := c.Pick(nil)
		if errors.Is(err, ErrNoHealthyHost) {
			time.Sleep(time.Millisecond)
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		var stop *time.Timer
		if rnd.IntN(4) == 0 {
			stop = time.AfterFunc(time.Duration(rnd.IntN(20))*time.Millisecond, cancel)
		}
		// Long enough for everybody in front: who waits until then was forgotten.
		until := time.Now().Add(time.Minute)
		if rnd.IntN(4) == 0 {
			until = time.Now().Add(time.Duration(rnd.IntN(20)) * time.Millisecond)
		}
		err = w.once(ctx, c, h, rnd, until)
		if stop != nil {
			stop.Stop()
		}
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) once(ctx context.Context, c *Cluster, h *Host, rnd *rand.Rand, until time.Time) error {
	begun := time.Now()
	if rnd.IntN(10) == 0 {
		conn, err := c.Dial(ctx, h, nil)
		if err != nil {
			return nil
		}
		time.Sleep(time.Duration(rnd.IntN(5)) * time.Millisecond)
		return conn.Close()
	}
	acquire, fresh := c.Acquire, rnd.IntN(6) == 0
	if fresh {
		acquire = c.AcquireFresh
	}
	conn, err := acquire(ctx, h, nil, until)
	var failed *ConnectError
	switch {
	case err == nil:
	case errors.Is(err, context.DeadlineExceeded) && time.Since(begun) >= 59*time.Second:
		return errors.New("somebody waited in vain")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, ErrPendingOverflow), errors.As(err, &failed):
		return nil
	default:
		return err
	}
	if fresh && conn.served != 1 {
		return errors.New("a fresh connection was used before")
	}
	if !conn.Host.Same(h) {
		return fmt.Errorf("asked for %s, got %s", h.Addr, conn.Host.Addr)
	}
	time.Sleep(time.Duration(rnd.IntN(5)) * time.Millisecond)
	switch rnd.IntN(8) {
	case 0:
		c.Abandon(conn)
	case 1:
		c.Release(conn, false)
	default:
		c.Release(conn, true)
	}
	return nil
}

// atRest fails unless everything that a cluster's pools have lent and made is accounted for.
func atRest(t *testing.T, c *Cluster, seed uint64) {
	t.Helper()
	st, p := c.Stats(), &c.running().group.pools[Default]
	if p.open != 0 || p.waiting != 0 || p.idle.n != 0 || p.needy.n != 0 {
		t.Errorf("seed %d: at rest open %d, waiting %d, idle %d, needy %d", seed, p.open, p.waiting, p.idle.n, p.needy.n)
	}
	if st.UpstreamCxActive.Value() != 0 || st.UpstreamRqActive.Value() != 0 || st.UpstreamRqPendingActive.Value() != 0 {
		t.Errorf("seed %d: at rest %d connections, %d requests, %d pending", seed, st.UpstreamCxActive.Value(), st.UpstreamRqActive.Value(), st.UpstreamRqPendingActive.Value())
	}
	if a, b := st.UpstreamCxTotal.Value(), st.UpstreamCxDestroy.Value(); a != b {
		t.Errorf("seed %d: upstream_cx_total %d, upstream_cx_destroy %d", seed, a, b)
	}
}

// However requests, failures, limits and updates mix: the limit holds, nobody waits
// in vain, and in the end everything is accounted for.
func TestPoolKeepsItsPromises(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			var mu sync.Mutex
			chance := func() uint64 { mu.Lock(); defer mu.Unlock(); return rnd.Uint64() }
			w := &world{rnd: chance, limit: int64(1 + seed%5), refuse: seed%2 == 0, slow: 10 * time.Millisecond}
			m := NewManager(Options{Rand: chance})
			m.dial = w.dial
			s := edsSpec("web")
			s.ServiceName, s.ConnectTimeout = "web", 8*time.Millisecond
			s.Breakers[Default].MaxConnections = uint32(w.limit)
			s.Breakers[Default].MaxPending = uint32(5 + seed%30)
			s.HTTP = HTTPOptions{IdleTimeout: 20 * time.Millisecond, MaxRequests: uint32(seed % 4), MaxConnDuration: time.Duration(seed%3) * 30 * time.Millisecond}
			mustSet(t, m, s)
			var hosts []HostSpec
			for i := range 1 + seed%4 {
				hosts = append(hosts, hostAt(fmt.Sprintf("10.0.0.%d:80", i)))
			}
			mustAssign(t, m, assignment("web", hosts...))
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					if err := w.client(m, rand.New(rand.NewPCG(seed, uint64(i))), 60); err != nil {
						t.Error(err)
					}
				})
			}
			for i := range 10 { // hosts come and go, versions follow each other
				time.Sleep(15 * time.Millisecond)
				mustAssign(t, m, assignment("web", hosts[:1+i%len(hosts)]...))
				s = changed(s, func(s *Spec) { s.Breakers[Default].MaxPending++ })
				mustSet(t, m, s)
			}
			wg.Wait()
			c := m.Cluster("web")
			if w.overLimit.Load() {
				t.Errorf("seed %d: %d connections, max_connections is %d", seed, w.most.Load(), w.limit)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			atRest(t, c, seed)
			if n := w.open.Load(); n != 0 {
				t.Errorf("seed %d: at rest %d connections are open", seed, n)
			}
			m.Close()
		})
	}
}
