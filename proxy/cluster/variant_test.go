package cluster

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

func from(id uint64, addr string) *Attempt {
	ap := netip.MustParseAddrPort(addr)
	return &Attempt{Conn: &meta.Conn{ID: id, Remote: meta.Addr{AddrPort: ap}, Local: meta.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}}}
}

func acquireFor(t *testing.T, c *Cluster, h *Host, a *Attempt) *Conn {
	t.Helper()
	conn, err := c.Acquire(context.Background(), h, a, soon())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestConnectionsOfEachDownstreamConnection(t *testing.T) {
	o := newOrigin(t)
	s := staticSpec(o.host())
	s.PerDownstream = true
	c := mustSet(t, newTestManager(t, Options{}), s)
	h := mustPick(t, c)
	one, two := from(1, "10.1.1.1:1"), from(2, "10.1.1.1:2")
	first := acquireFor(t, c, h, one)
	c.Release(first, true)
	second := acquireFor(t, c, h, two)
	if second == first {
		t.Error("a connection serves two downstream connections")
	}
	c.Release(second, true)
	if again := acquireFor(t, c, h, one); again != first {
		t.Error("the connection is not used again for the same downstream connection")
	} else {
		c.Abandon(again)
	}
	if n := len(h.ep.pools[Default].variants); n != 1 {
		t.Errorf("%d variants are kept, want the one with a connection", n)
	}
	c.m.Remove("web")
	if n := len(h.ep.pools[Default].variants); n != 0 {
		t.Errorf("%d variants are kept after the cluster was removed", n)
	}
}

func TestTransportSocketMatches(t *testing.T) {
	v2 := &transport.ProxyProtocol{V2: true, Inner: transport.Raw{}}
	s := staticSpec()
	s.Sockets = []SocketMatch{
		{Name: "v2", Match: map[string]any{"proxy": "v2", "n": 2.0}, Socket: v2},
		{Name: "v1", Match: map[string]any{"proxy": "v1"}, Socket: &transport.ProxyProtocol{Inner: transport.Raw{}}},
	}
	labels := func(kv ...any) map[string]map[string]any {
		m := map[string]any{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return map[string]map[string]any{matchNamespace: m}
	}
	for _, tc := range []struct {
		host, locality map[string]map[string]any
		want           string
	}{
		{nil, nil, "raw"},
		{labels("proxy", "v2", "n", 2.0, "more", true), nil, v2.Key()},
		{labels("proxy", "v2"), nil, "raw"},
		{labels("proxy", "v1"), labels("proxy", "v2", "n", 2.0), s.Sockets[1].Socket.Key()},
		{nil, labels("proxy", "v2", "n", 2.0), v2.Key()},
	} {
		if got := s.socketFor(&Host{Metadata: tc.host, locality: tc.locality}).Key(); got != tc.want {
			t.Errorf("host %v in %v: %s, want %s", tc.host, tc.locality, got, tc.want)
		}
	}
}

func TestConnectionPoolsAreLimited(t *testing.T) {
	a, b := newOrigin(t), newOrigin(t)
	s := staticSpec(a.host(), b.host())
	s.Breakers[Default].MaxPools = 1
	c := mustSet(t, newTestManager(t, Options{}), s)
	ha, hb := c.Hosts()[0], c.Hosts()[1]
	conn := mustAcquire(t, c, ha)
	if g := c.run.Load().core.breakers[Default].stats.CxPoolOpen.Value(); g != 1 {
		t.Errorf("cx_pool_open is %d, want 1", g)
	}
	if _, err := c.Acquire(context.Background(), hb, &Attempt{}, soon()); !errors.Is(err, ErrNoHealthyHost) || c.Stats().UpstreamCxPoolOverflow.Value() != 1 {
		t.Errorf("a second pool: %v, upstream_cx_pool_overflow %d", err, c.Stats().UpstreamCxPoolOverflow.Value())
	}
	c.Release(conn, true)
	c.Release(mustAcquire(t, c, hb), true) // the idle pool makes room
	if n := c.Stats().UpstreamCxActive.Value(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

func TestConnectionsToOneHostAreLimited(t *testing.T) {
	a, b := newOrigin(t), newOrigin(t)
	s := staticSpec(a.host(), b.host())
	s.Breakers[Default].MaxPerHost = 2
	c := mustSet(t, newTestManager(t, Options{}), s)
	ha, hb := c.Hosts()[0], c.Hosts()[1]
	one, two := mustAcquire(t, c, ha), mustAcquire(t, c, ha)
	ch := acquireLater(c, ha, soon())
	eventually(t, "the third request queues", waiting(c, 1))
	mustAcquire(t, c, hb) // is not held up
	if _, err := c.Dial(context.Background(), ha, &Attempt{}); !errors.Is(err, ErrOverflow) {
		t.Errorf("a raw connection: %v, want ErrOverflow", err)
	}
	c.Abandon(one)
	got := receive(t, ch)
	if got.err != nil {
		t.Fatal(got.err)
	}
	c.Release(got.conn, true)
	c.Release(two, true)
	if n := c.Stats().UpstreamCxTotal.Value(); n != 4 { // one of them to the other host
		t.Errorf("%d connections were made, want 4", n)
	}
}

// A variant whose host is full of another variant's idle connections is served.
func TestVariantsShareTheLimitOfTheirHost(t *testing.T) {
	o := newOrigin(t)
	s := staticSpec(o.host())
	s.PerDownstream, s.Breakers[Default].MaxPerHost = true, 1
	c := mustSet(t, newTestManager(t, Options{}), s)
	h := mustPick(t, c)
	first := acquireFor(t, c, h, from(1, "10.1.1.1:1"))
	c.Release(first, true)
	second := acquireFor(t, c, h, from(2, "10.1.1.1:2"))
	ch := make(chan error, 1)
	go func() {
		conn, err := c.Acquire(context.Background(), h, from(3, "10.1.1.1:3"), soon())
		if err == nil {
			c.Release(conn, true)
		}
		ch <- err
	}()
	eventually(t, "the third request queues", waiting(c, 1))
	c.Abandon(second)
	if err := receive(t, ch); err != nil {
		t.Error(err)
	}
}

func TestPreconnect(t *testing.T) {
	o := newOrigin(t)
	s := staticSpec(o.host())
	s.Preconnect = 1.5
	c := mustSet(t, newTestManager(t, Options{}), s)
	h := mustPick(t, c)
	one := mustAcquire(t, c, h)
	open := func(n int64) func() bool { return func() bool { return c.Stats().UpstreamCxActive.Value() == n } }
	eventually(t, "one connection is made ahead", open(2)) // 1.5 rounded up
	two := mustAcquire(t, c, h)
	eventually(t, "three connections for two requests", open(3))
	c.Release(one, true)
	c.Release(two, true)
	eventually(t, "all are idle", func() bool {
		p := &c.run.Load().group.pools[Default]
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.idle.n == 3
	})
	if n := c.Stats().UpstreamCxTotal.Value(); n != 3 {
		t.Errorf("%d connections were made, want 3", n)
	}
}

// Nothing is made ahead to a host that refuses connections.
func TestPreconnectGivesUp(t *testing.T) {
	s := staticSpec(hostAt(closedPort(t)))
	s.Preconnect = 3
	c := mustSet(t, newTestManager(t, Options{}), s)
	h := mustPick(t, c)
	var failed *ConnectError
	if _, err := c.Acquire(context.Background(), h, &Attempt{}, soon()); !errors.As(err, &failed) {
		t.Fatal(err)
	}
	eventually(t, "all dials have failed", func() bool { return c.Stats().UpstreamCxActive.Value() == 0 })
	if n := c.Stats().UpstreamCxTotal.Value(); n > 3 {
		t.Errorf("%d connections were tried for one request, want 3 at most", n)
	}
}

// TestForeseenHosts: connections are made to the hosts that the next requests go to, as
// many as the ratio says for all requests.
func TestForeseenHosts(t *testing.T) {
	hosts := []*origin{newOrigin(t), newOrigin(t), newOrigin(t), newOrigin(t)}
	s := staticSpec()
	for _, o := range hosts {
		s.Assignment.Localities[0].Hosts = append(s.Assignment.Localities[0].Hosts, o.host())
	}
	s.Predict = 3
	c := mustSet(t, newTestManager(t, Options{}), s)
	open := func(n int64) func() bool { return func() bool { return c.Stats().UpstreamCxActive.Value() == n } }
	h := mustPick(t, c)
	first := mustAcquire(t, c, h)
	eventually(t, "four connections for one request", open(4))
	eventually(t, "three of them idle", func() bool {
		p := &c.run.Load().group.pools[Default]
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.idle.n == 3
	})
	for range 2 {
		h := mustPick(t, c)
		made := c.Stats().UpstreamRqPendingTotal.Value()
		second := mustAcquire(t, c, h)
		if c.Stats().UpstreamRqPendingTotal.Value() != made {
			t.Errorf("a request to %v had to wait for a connection", h.Addr)
		}
		c.Release(second, true)
	}
	c.Release(first, true)
	seen := map[string]int{}
	for range 40 {
		seen[mustPick(t, c).Addr.String()]++
	}
	for addr, n := range seen {
		if n != 10 {
			t.Errorf("%s was picked %d times of 40 by turns", addr, n)
		}
	}
}
