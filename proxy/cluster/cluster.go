package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Cluster is a version of a cluster: its configuration, the hosts of the moment, and
// what it shares with the versions before and after it (connections, counters). Who
// works with one goes on with it until the work is done.
//
// What costs memory is made when the cluster is used for the first time.
type Cluster struct {
	m    *Manager
	full atomic.Pointer[Spec] // nil while nobody uses the cluster; see Spec
	run  atomic.Pointer[running]
	env  *lbEnv // once it is used

	making  sync.Mutex  // held while run changes
	sorting atomic.Bool // a change of health is to be looked at in the background

	// What is known without the configuration. Immutable.
	name     string
	stat     string // Spec.StatName
	hash     uint64
	typ      Discovery
	ondemand bool   // Spec.OnDemand
	service  string // EDS: whose assignment it uses
	thaw     func() (*Spec, error)
	warmed   func() // Spec.Warmed

	// Guarded by the manager's lock.
	slot     *slot
	assigned *Assignment // with numeric addresses only; nil before discovery
	names    *names      // STRICT_DNS and LOGICAL_DNS
	timeout  *event      // initial_fetch_timeout
	weighing *event      // ClientWeightedLB
	merge    merging
	awaits   []uint64 // what of Spec.Awaits has not come
	ended    bool
	lookedAt bool // sweepIdle has seen it unused
}

// running is a cluster in use. It is replaced when the hosts change.
type running struct {
	core  *core
	group *group
	hosts *hostSet
	own   ownHosts // of clusters that choose in other ways than by load; nil for most
}

func (r *running) list() []*Host {
	if r.own != nil {
		return r.own.list()
	}
	return r.hosts.all
}

// running returns the cluster in use.
func (c *Cluster) running() *running {
	if r := c.run.Load(); r != nil {
		return r
	}
	return c.m.startNow(c)
}

// Spec returns the configuration. It is shared and must not be changed. For a cluster
// that was not used so far it is made anew.
func (c *Cluster) Spec() *Spec {
	if s := c.full.Load(); s != nil {
		return s
	}
	s := c.melted()
	if c.full.CompareAndSwap(nil, s) {
		return s
	}
	return c.full.Load()
}

// Stats returns the counters, which are those of all versions of the cluster.
func (c *Cluster) Stats() *Stats { return &c.running().core.stats }

// Hosts returns the hosts of the moment, for admin.
func (c *Cluster) Hosts() []*Host { return c.running().list() }

// StatName is what the cluster is called in statistics and logs (alt_stat_name, or its name).
func (c *Cluster) StatName() string { return c.stat }

// Used reports whether the cluster was ever used, so that it has hosts and counters.
func (c *Cluster) Used() bool { return c.run.Load() != nil }

// Pick chooses a host for an attempt. It does not block. It returns ErrNoHealthyHost
// if there is none.
func (c *Cluster) Pick(a *Attempt) (*Host, error) {
	r := c.running()
	var h *Host
	if r.own != nil {
		h = r.own.pick(c, a)
	} else {
		h = r.hosts.pick(a)
	}
	if h == nil {
		r.core.stats.UpstreamCxNoneHealthy.Inc()
		return nil, ErrNoHealthyHost
	}
	return h, nil
}

// maxLate is how many picks are thrown away because the host became unhealthy after the
// hosts were last sorted, or is on trial and has its share of requests.
const maxLate = 16

// pick chooses a host; nil if there is none.
func (set *hostSet) pick(a *Attempt) *Host {
	if a != nil && a.Override.Addr != "" {
		if h, done := set.override(&a.Override); done {
			return h
		}
	}
	if set.ahead != nil && a.ordinary() {
		if h := set.ahead.take(); h != nil {
			return h
		}
	}
	tries, late := 0, 0
	for {
		h, panicked := set.root.pick(a, tries+late)
		switch {
		case h == nil:
			return nil
		case !panicked && late < maxLate && !set.view.reprieve && h.Flags().unhealthy():
			late++
		case a != nil && tries < a.HostTries && a.rejects(h):
			tries++
		case !panicked && late < maxLate && !set.view.reprieve && !h.Outlier().Admit():
			late++
		default:
			return h
		}
	}
}

func (a *Attempt) priority() Priority {
	if a == nil {
		return Default
	}
	return a.Priority
}

// Acquire borrows a connection to h: the one used most recently, or a new one made
// within connect_timeout. It waits for either until ctx or until (zero: no bound),
// first come first served; when max_connections is reached, for one to come free.
// The caller gives the connection back by Release or Abandon.
//
// Its errors are a *ConnectError, ErrPendingOverflow, context.DeadlineExceeded after
// until, and the cause of ctx. Whatever it was, nothing of a request was sent.
func (c *Cluster) Acquire(ctx context.Context, h *Host, a *Attempt, until time.Time) (*Conn, error) {
	hp := h.hostPool(a)
	if hp.pool.group.predict > 1 {
		c.foresee(a)
	}
	a.waits(false)
	for {
		conn := hp.pool.take(hp, h)
		if conn == nil {
			a.waits(true)
			return hp.wait(ctx, h, until, false)
		}
		if conn.usable(a.time(hp.pool.group.m)) {
			conn.lend()
			return conn, nil
		}
		hp.pool.discard(conn, true, false)
	}
}

// AcquireFresh is Acquire of a connection that has carried nothing yet, for what
// failed on one that had.
func (c *Cluster) AcquireFresh(ctx context.Context, h *Host, a *Attempt, until time.Time) (*Conn, error) {
	a.waits(true)
	return h.hostPool(a).wait(ctx, h, until, true)
}

func (hp *hostPool) wait(ctx context.Context, h *Host, until time.Time, fresh bool) (*Conn, error) {
	conn, err := hp.pool.wait(ctx, hp, h, until, fresh)
	if err != nil {
		return nil, err
	}
	conn.lend()
	return conn, nil
}

// Release gives a connection back after an exchange that ended well, or did not begin.
// Only a reusable one is kept (codec.ClientStream.Release tells).
func (c *Cluster) Release(conn *Conn, reusable bool) {
	conn.hp.pool.release(conn, reusable, false, c.m.now())
}

// ReleaseAt is Release of a connection on which nothing has happened since at, for who
// knows that time anyway.
func (c *Cluster) ReleaseAt(conn *Conn, reusable bool, at time.Time) {
	conn.hp.pool.release(conn, reusable, false, at.Sub(c.m.start))
}

// Abandon closes a connection in the middle of an exchange.
func (c *Cluster) Abandon(conn *Conn) { conn.hp.pool.release(conn, false, true, 0) }

// Dial makes a raw connection to h within connect_timeout. Its errors are a
// *ConnectError, ErrOverflow if max_connections is reached, and the cause of ctx. The
// caller owns the connection; Close gives its place back.
func (c *Cluster) Dial(ctx context.Context, h *Host, a *Attempt) (*TCPConn, error) {
	hp := &h.ep.pools[a.priority()]
	p := hp.pool
	if !p.reserve(hp) {
		p.group.core.stats.UpstreamCxOverflow.Inc()
		return nil, ErrOverflow
	}
	peer := h.peer(a)
	r, made, err := p.group.connect(ctx, h, hp, &peer)
	if err != nil {
		p.forget(hp)
		return nil, err
	}
	st := &p.group.core.stats
	st.UpstreamRqTotal.Inc()
	st.UpstreamRqActive.Inc()
	hp.ep.stats.RqTotal.Inc()
	hp.ep.stats.RqActive.Inc()
	conn := &TCPConn{
		Conn: r.conn, ID: c.m.connID(), Local: localAddr(r.sock), TLS: peer.TLS, Host: h,
		hp: hp, made: made,
	}
	conn.list()
	return conn, nil
}
