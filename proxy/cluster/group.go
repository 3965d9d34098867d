package cluster

import (
	"context"
	"errors"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/health"
	"github.com/mecha-mesh/mecha/proxy/cluster/outlier"
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// core is what a cluster keeps as long as its name is configured: its counters.
type core struct {
	stats    Stats
	breakers [2]breaker
	lb       lbStats
	hash     hashStats
	hashOnce sync.Once
	http2    struct {
		once  sync.Once
		stats h2.Stats
	}
	newest  atomic.Pointer[Cluster] // in use
	watches hostWatches

	checks       *checks                  // nil without health_checks; guarded by the manager's lock
	checkStats   *health.Stats            // nil before they were configured
	outliers     atomic.Pointer[outliers] // nil without outlier_detection
	outlierStats *outlier.Stats           // nil before it was configured
	scope        *stats.Scope
	parts        parts
	extras       extras
	sizes        atomic.Pointer[SizeStats] // nil unless they are tracked
	budgets      atomic.Pointer[BudgetStats]
	tls          *transport.TLSStats // made by tlsOnce
	tlsOnce      sync.Once

	usesBefore uint64 // uses, when somebody last looked whether there are any

	datagrams datagrams

	maintenance runtime.FractionValue // of the requests that are refused
}

// newCore makes the counters; they are not shown if there is no scope of all clusters.
func newCore(all *stats.Scope, s *Spec) *core {
	c := &core{maintenance: maintenance(s, nil)}
	for i := range c.breakers {
		c.breakers[i].init()
	}
	if all == nil {
		return c
	}
	c.scope = all.Tag("envoy_cluster_name", statSegment(s))
	c.scope.Bind(&c.stats)
	c.scope.Bind(&c.lb)
	for i, name := range [...]string{Default: "default", High: "high"} {
		c.scope.Child("circuit_breakers").Child(name).Bind(&c.breakers[i].stats)
	}
	return c
}

// tlsStats returns the counters of handshakes, which are there once there was one.
func (c *core) tlsStats() *transport.TLSStats {
	c.tlsOnce.Do(func() {
		if c.tls = new(transport.TLSStats); c.scope != nil {
			c.tls = transport.NewTLSStats(c.scope, false)
		}
	})
	return c.tls
}

// follow takes over what of a new configuration concerns the counters.
func (c *core) follow(s *Spec) {
	c.track(s.Track)
	for i, name := range [...]string{Default: "default", High: "high"} {
		b := &c.breakers[i]
		if !s.Breakers[i].TrackRemaining {
			continue
		}
		r := b.remaining.Load()
		if r == nil {
			r = &remainingStats{}
			if c.scope != nil {
				c.scope.Child("circuit_breakers").Child(name).Bind(r)
			}
		}
		b.track(r, &s.Breakers[i])
	}
}

func (c *core) countBytes(received, sent int64) {
	c.stats.UpstreamCxRxBytesTotal.Add(uint64(max(received, 0)))
	c.stats.UpstreamCxTxBytesTotal.Add(uint64(max(sent, 0)))
}

// group is the connections of a cluster that are made in one way. A new version of
// the cluster goes on with the group if it connects in the same way.
type group struct {
	m     *Manager
	core  *core
	spec  atomic.Pointer[Spec] // newest
	pools [2]pool              // by Priority

	varies bool // there is more than one kind of connection to a host
	// preconnect_policy: what there is for each request to a host, and for those that are
	// foreseen, and how many streams a connection carries.
	ahead, predict float64
	streams        int

	mu       sync.Mutex
	eps      map[meta.Addr]*endpoint
	original *originalHosts // of an ORIGINAL_DST cluster
	forward  *forwardHosts  // of a dynamic forward proxy
	subs     *subClusters   // likewise
}

func newGroup(m *Manager, c *core, s *Spec) *group {
	g := &group{m: m, core: c, eps: map[meta.Addr]*endpoint{}, varies: s.varies(), ahead: s.Preconnect}
	if s.foreseeable() {
		g.predict, g.streams = s.Predict, s.HTTP.atMost(1)
		if s.HTTP.multiplexed(true) {
			g.streams = s.HTTP.atMost(s.HTTP.maxStreams())
		}
	}
	g.spec.Store(s)
	for i := range g.pools {
		p := &g.pools[i]
		p.group, p.priority = g, Priority(i)
		p.sweepAt = never
		p.sweep.run = p.sweepIdle
	}
	return g
}

// sameWay reports whether two versions of a cluster connect in the same way.
func sameWay(a, b *Spec) bool {
	return a.BufferLimit == b.BufferLimit && reflect.DeepEqual(a.HTTP, b.HTTP) && socketKey(a) == socketKey(b) &&
		(a.Type == LogicalDNS) == (b.Type == LogicalDNS) && // whose hosts are told apart by other things
		(a.Type == OriginalDestination) == (b.Type == OriginalDestination) &&
		a.Type != DynamicForward && b.Type != DynamicForward && // whose group has the cache
		a.PerDownstream == b.PerDownstream && a.Preconnect == b.Preconnect && a.Predict == b.Predict && a.foreseeable() == b.foreseeable() && a.Eyeballs == b.Eyeballs &&
		reflect.DeepEqual(a.Sockets, b.Sockets) && reflect.DeepEqual(a.Bind, b.Bind) && reflect.DeepEqual(a.KeepAlive, b.KeepAlive)
}

// endpoint returns the endpoint with that address, making it if there is none.
func (g *group) endpoint(a meta.Addr) *endpoint {
	g.mu.Lock()
	defer g.mu.Unlock()
	ep := g.eps[a]
	if ep == nil {
		ep = newEndpoint(g)
		g.eps[a] = ep
	}
	return ep
}

// keep retires the endpoints whose address is not in the set.
func (g *group) keep(set map[meta.Addr]*Host) {
	g.mu.Lock()
	var gone []*endpoint
	for a, ep := range g.eps {
		if set[a] == nil {
			gone = append(gone, ep)
			delete(g.eps, a)
		}
	}
	g.mu.Unlock()
	for _, ep := range gone {
		ep.retire()
	}
}

// originals returns the hosts of an ORIGINAL_DST cluster.
func (g *group) originals() *originalHosts {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.original == nil {
		g.original = newOriginalHosts(g)
	}
	return g.original
}

// forwards returns the hosts of a dynamic forward proxy.
func (g *group) forwards(s *Spec) ownHosts {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.Sub != nil {
		if g.subs == nil {
			g.subs = newSubClusters(g.m, s)
		}
		return g.subs
	}
	if g.forward == nil {
		h, err := newForwardHosts(g, s.Forward)
		if err != nil {
			g.m.log.Error("a dynamic forward proxy has no hosts", "cluster", g.spec.Load().Name, "error", err)
			return nobody{}
		}
		g.forward = h
	}
	return g.forward
}

// dropEndpoint retires the endpoint with that address.
func (g *group) dropEndpoint(a meta.Addr) {
	g.mu.Lock()
	ep := g.eps[a]
	delete(g.eps, a)
	g.mu.Unlock()
	if ep != nil {
		ep.retire()
	}
}

// drain closes idle connections, now and whenever one is released.
func (g *group) drain() {
	for i := range g.pools {
		g.pools[i].drain()
	}
	g.mu.Lock()
	o, f, subs := g.original, g.forward, g.subs
	g.forward, g.subs = nil, nil
	g.mu.Unlock()
	if subs != nil {
		subs.close()
	}
	if f != nil {
		f.leave()
	}
	if o != nil {
		o.drop()
	}
}

// fail ends every wait.
func (g *group) fail(err error) {
	for i := range g.pools {
		g.pools[i].fail(err)
	}
}

// adjust follows a new version that connects in the same way.
func (g *group) adjust() {
	for i := range g.pools {
		g.pools[i].adjust()
	}
}

// raw is a connection as it was dialled, and what the transport socket made of it.
type raw struct {
	sock, conn      *netio.Conn
	dialled, secure time.Duration // how long each took
}

// connect makes a connection within connect_timeout and counts how it went, beginning
// with upstream_cx_total. Its error is a *ConnectError, or that of ctx.
func (g *group) connect(ctx context.Context, h *Host, hp *hostPool, to *transport.Peer) (raw, time.Duration, error) {
	s, st, hs := g.spec.Load(), &g.core.stats, &hp.ep.stats
	begun := g.m.now()
	st.UpstreamCxTotal.Inc()
	st.UpstreamCxActive.Inc()
	hs.CxTotal.Inc()
	hs.CxActive.Inc()
	within, cancel := context.WithTimeout(ctx, s.ConnectTimeout)
	defer cancel()
	r, err := g.open(within, s, h, to)
	made := g.m.now()
	if err == nil {
		st.UpstreamCxConnectMs.Record(uint64((made - begun).Milliseconds()))
		return r, made, nil
	}
	given := givenUp(ctx)
	// Sockets and handshakes may know of a deadline a moment before the context does.
	late := within.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	timeout := given == nil && late
	st.UpstreamCxConnectFail.Inc()
	hs.CxConnectFail.Inc()
	if timeout {
		st.UpstreamCxConnectTimeout.Inc()
	}
	g.closed(hp, !timeout && given == nil, false)
	if given != nil {
		return raw{}, 0, given
	}
	return raw{}, 0, &ConnectError{Timeout: timeout, Host: h.Addr, Err: err}
}

// givenUp returns why ctx is over, nil if it is not. A deadline may be known to the
// socket a moment before it is to ctx.
func givenUp(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return nil
}

func (g *group) open(ctx context.Context, s *Spec, h *Host, to *transport.Peer) (raw, error) {
	socket, begun := s.socketFor(h), g.m.now()
	sock, err := g.dial(ctx, s, h, socket, to)
	if err != nil {
		if isBindError(err) {
			g.core.stats.BindErrors.Inc()
		}
		return raw{}, err
	}
	sock.WatchedBy(g.m.ends)
	st := &g.core.stats
	sock.CountStalls(netio.Stalls{Begun: &st.UpstreamFlowControlBackedUpTotal, Over: &st.UpstreamFlowControlDrainedTotal})
	if _, plain := socket.(transport.Raw); !plain {
		to.Stats = g.core.tlsStats()
	}
	dialled := g.m.now()
	conn, err := socket.Client(ctx, sock, to)
	return raw{sock, conn, dialled - begun, g.m.now() - dialled}, err
}

// ended counts a connection that was made at made, carried so many requests and is closed.
func (g *group) ended(hp *hostPool, made time.Duration, requests uint32, remote, active bool) {
	g.core.stats.UpstreamCxLengthMs.Record(uint64((g.m.now() - made).Milliseconds()))
	g.core.stats.UpstreamRqPerCx.Record(uint64(requests))
	g.closed(hp, remote, active)
}

// closed counts a connection that is no more, or never came to be.
func (g *group) closed(hp *hostPool, remote, active bool) {
	st := &g.core.stats
	defer st.UpstreamCxActive.Dec() // who sees the gauge go down finds out why
	defer hp.ep.stats.CxActive.Dec()
	st.UpstreamCxDestroy.Inc()
	if remote {
		st.UpstreamCxDestroyRemote.Inc()
	} else {
		st.UpstreamCxDestroyLocal.Inc()
	}
	if !active {
		return
	}
	st.UpstreamCxDestroyWithActiveRq.Inc()
	if remote {
		st.UpstreamCxDestroyRemoteWithActiveRq.Inc()
	} else {
		st.UpstreamCxDestroyLocalWithActiveRq.Inc()
	}
}
