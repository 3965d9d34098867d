package cluster

import (
	"math"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/transport"
)

// pool is the connections of a cluster at one priority, to all its hosts: one lock,
// held for a few instructions, makes limits exact and queues fair.
type pool struct {
	group    *group
	priority Priority

	mu      sync.Mutex
	open    int            // connections that exist or are being made, raw ones included
	waiting int            // requests that wait for a connection
	idle    list[Conn]     // most recently used first
	needy   list[hostPool] // hosts with more waiters than dials under way; first come first
	alive   int            // hostPools with anything in them
	drained bool           // nothing is kept any more
	keepOf  time.Duration  // nothing is kept that was made before
	full    bool           // what the gauges say
	crowded bool
	many    bool

	sweep   event
	sweepAt time.Duration // when sweep is due, never if it is not
}

// hostPool is the part of a pool that leads to one host. The pool's lock guards it.
type hostPool struct {
	pool    *pool
	ep      *endpoint
	ready   list[Conn] // with room for a stream, most recently used first
	waiters list[waiter]
	open    int // as in pool
	dials   int // under way, for whoever waits
	streams int // lent, of connections that carry many
	batch   int // how many streams the next connection is expected to carry, 0: not known yet
	need    node[hostPool]
	retired bool  // the host is no member any more
	alive   bool  // counted in pool.alive
	host    *Host // of the last request

	// Of connections that are not for everybody.
	base     *hostPool // the one for everybody, nil for itself
	kind     variant
	peer     *transport.Peer       // nil for the base: most hosts have no other, and a Peer is large
	variants map[variant]*hostPool // of a base
}

const never = time.Duration(math.MaxInt64)

func (p *pool) limits() *Thresholds { return &p.group.spec.Load().Breakers[p.priority] }

// room reports whether one more connection may be made. One is always allowed, or
// nobody who waits could ever be served.
func (p *pool) room() bool { return p.open < max(1, int(p.limits().MaxConnections)) }

// take returns the most recently used connection to a host that has room, nil if there is
// none.
func (p *pool) take(hp *hostPool, h *Host) *Conn {
	p.mu.Lock()
	c := hp.next()
	if c != nil {
		if p.group.ahead > 1 {
			hp.host = h
			hp.note()
			p.pump()
		}
	}
	p.mu.Unlock()
	return c
}

// next takes a connection that has room, nil if there is none. The lock is held.
func (hp *hostPool) next() *Conn {
	c := hp.ready.first()
	if c == nil || c.multi != nil {
		return hp.nextStream()
	}
	c.unlist()
	c.lent = true
	return c
}

// unlist takes a connection from where it can be found.
func (c *Conn) unlist() {
	c.byHost.leave()
	c.byAge.leave()
}

// trusted is how long an idle connection is used again without a look at its socket.
// Bytes that come while it is idle answer no request of ours: taken for the answer to
// the next one, they would go to the wrong client. See RATIONALE.md.
const trusted = 100 * time.Microsecond

// usable reports whether a connection that was just taken still works. It makes a
// system call only if the connection was idle for a while.
func (c *Conn) usable(now time.Duration) bool {
	if c.multi != nil { // it is read all the time
		return true
	}
	if !c.watched {
		return now-c.idled < trusted || c.Alive()
	}
	c.watched = false
	c.hp.pool.group.m.watch.remove(c)
	return c.Alive() && (c.plain || !c.sock.PeerClosed())
}

// lend counts an exchange that begins.
func (c *Conn) lend() {
	st, hs := &c.hp.pool.group.core.stats, &c.hp.ep.stats
	if c.multi == nil {
		c.served++
	}
	st.UpstreamRqTotal.Inc()
	st.UpstreamRqActive.Inc()
	hs.RqTotal.Inc()
	hs.RqActive.Inc()
}

// repay counts an exchange that has ended.
func (c *Conn) repay() {
	c.hp.pool.group.core.stats.UpstreamRqActive.Dec()
	c.hp.ep.stats.RqActive.Dec()
}

// release takes a connection back after an exchange. Who sees that none is active finds
// the connection idle. now counts from the manager's start.
func (p *pool) release(c *Conn, reusable, active bool, now time.Duration) {
	defer c.repay()
	st := &p.group.core.stats
	if c.multi != nil {
		p.releaseStream(c, reusable)
		return
	}
	if !c.lent {
		panic("cluster: a connection was released twice")
	}
	c.lent = false
	if !reusable {
		if t, ok := c.ClientConn.(interface{ Told() bool }); ok && t.Told() {
			st.UpstreamCxCloseNotify.Inc()
		}
		p.discard(c, p.peerClosed(c), active)
		return
	}
	h := &p.group.spec.Load().HTTP
	switch {
	case h.MaxRequests != 0 && c.served >= h.MaxRequests:
		st.UpstreamCxMaxRequests.Inc()
		p.discard(c, false, false)
		return
	case h.MaxConnDuration != 0 && now-c.made >= h.MaxConnDuration:
		st.UpstreamCxMaxDurationReached.Inc()
		p.discard(c, false, false)
		return
	}
	p.mu.Lock()
	kept := p.put(c, now)
	p.mu.Unlock()
	if !kept {
		p.discard(c, false, false)
	}
}

// peerClosed reports whether it was the host that ended the connection.
func (p *pool) peerClosed(c *Conn) bool { return c.sock.PeerClosed() }

// put gives a connection that has become free to who waits for it, or lists it as
// idle. It returns false if the connection is of no use here. The lock is held.
func (p *pool) put(c *Conn, now time.Duration) bool {
	hp, isNew := c.hp, c.served == 0
	c.lent = false
	if first := p.needy.first(); !isNew && first != nil && first != hp && first.open == 0 && !p.room() {
		return false // it would starve: who waits there gets the place
	}
	if !isNew && c.made < p.keepOf {
		return false
	}
	if w := hp.firstWaiter(isNew); w != nil {
		c.lent = true
		hp.deliver(w, c, nil)
		hp.note()
		p.gauges()
		return true
	}
	if hp.retired || p.drained || !hp.known() || c.old() || p.needy.n > 0 && !p.room() {
		return false
	}
	c.idled = now
	hp.ready.pushFront(&c.byHost)
	p.idle.pushFront(&c.byAge)
	p.expectSweep(now)
	return true
}

// discard closes a connection that is in no list and gives its place to who waits. One
// that carries many streams is over before.
func (p *pool) discard(c *Conn, remote, active bool) {
	_ = c.Close() // nothing can be done about a socket that does not close
	p.group.ended(c.hp, c.made, c.served, remote, active)
	p.forget(c.hp)
}

// forget gives back the place of a connection that is closed.
func (p *pool) forget(hp *hostPool) {
	p.mu.Lock()
	p.drop(hp)
	p.mu.Unlock()
}

// drop is forget with the lock held.
func (p *pool) drop(hp *hostPool) {
	p.open--
	hp.open--
	hp.ep.open[p.priority]--
	hp.census()
	hp.noteAll()
	p.pump()
}

// note lists a host as needy, or not. The lock is held.
func (hp *hostPool) note() {
	switch need := hp.wants() && hp.admits(); {
	case need && hp.need.in == nil:
		hp.pool.needy.pushBack(&hp.need)
	case !need:
		hp.need.leave()
	}
}

// wants reports whether another dial is of use: for who waits, or for requests that may
// follow (preconnect_policy; nothing is made ahead to a host that is not healthy).
func (hp *hostPool) wants() bool {
	if hp.short() > 0 {
		return true
	}
	ratio := hp.pool.group.ahead
	if ratio <= 1 || hp.host == nil || !hp.host.wellEnough() || hp.retired || hp.pool.drained {
		return false
	}
	return float64(hp.waiters.n+hp.busy())*ratio > float64(hp.spare()+hp.busy())
}

// admits reports whether the host may have another connection (per_host_thresholds). One
// is always allowed.
func (hp *hostPool) admits() bool {
	limit, open := int(hp.pool.limits().MaxPerHost), hp.ep.open[hp.pool.priority]
	return limit == 0 || open < max(limit, 1)
}

// pump begins dials while there is need and room. To make room for who waits it closes
// the connection that is idle for longest, to another host. The lock is held.
func (p *pool) pump() {
	for p.needy.n > 0 {
		hp := p.needy.first()
		if !p.room() && !hp.mayExceed() && (hp.short() <= 0 || !p.evict()) {
			if hp.short() > 0 {
				break
			}
			hp.need.leave() // it has what it needs at the moment
			continue
		}
		hp.need.leave()
		h := hp.host
		if w := hp.waiters.first(); w != nil {
			h = w.host
		}
		p.begin(hp, h)
	}
	p.gauges()
}

// begin begins a dial. The lock is held.
func (p *pool) begin(hp *hostPool, h *Host) {
	hp.dials++
	p.open++
	hp.open++
	hp.ep.open[p.priority]++
	hp.note()
	hp.census()
	p.group.m.goDial(p, hp, h)
}

func (p *pool) evict() bool {
	c := p.idle.last()
	if c != nil {
		p.close(c)
	}
	return c != nil
}

// close closes an idle connection. The lock is held.
func (p *pool) close(c *Conn) {
	c.unlist()
	c.over = true
	if c.watched {
		c.watched = false
		p.group.m.watch.remove(c)
	}
	if c.multi != nil {
		go c.Close() // which waits for a goroutine that may wait for our lock
	} else {
		_ = c.Close()
	}
	p.group.ended(c.hp, c.made, c.served, false, false)
	p.open--
	c.hp.open--
	c.hp.ep.open[p.priority]--
	c.hp.census()
}

// gauges shows what the circuit breaker looks like. The lock is held.
func (p *pool) gauges() {
	l, b := p.limits(), &p.group.core.breakers[p.priority]
	if full := p.open >= int(l.MaxConnections); full != p.full {
		p.full = full
		b.stats.CxOpen.Set(flag(full))
	}
	if crowded := p.waiting >= int(l.MaxPending); crowded != p.crowded {
		p.crowded = crowded
		b.stats.RqPendingOpen.Set(flag(crowded))
	}
	if many := l.MaxPools > 0 && p.alive >= int(l.MaxPools); many != p.many {
		p.many = many
		b.stats.CxPoolOpen.Set(flag(many))
	}
	if r := b.remaining.Load(); r != nil {
		r.Cx.Set(max(int64(l.MaxConnections)-int64(p.open), 0))
		r.Pending.Set(max(int64(l.MaxPending)-int64(p.waiting), 0))
		r.Pools.Set(remainingPools(l, p.alive))
	}
}

// adjust follows new limits.
func (p *pool) adjust() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pump()
	if p.idle.n > 0 {
		p.expectSweep(p.group.m.now()) // the timeouts may be shorter now
	}
}

// retire closes what leads to a host that is no member any more, except what is busy.
func (p *pool) retire(hp *hostPool) {
	p.mu.Lock()
	hp.retired = true
	gone := unlistAll(&hp.ready)
	for _, v := range hp.variants {
		v.retired = true
		gone = append(gone, unlistAll(&v.ready)...)
	}
	p.mu.Unlock()
	p.discardAll(gone)
}

// drain closes idle connections; from now on none is kept.
func (p *pool) drain() {
	p.mu.Lock()
	p.drained = true
	gone := unlistAll(&p.idle) // those that are in use are closed when they are not any more
	p.mu.Unlock()
	p.group.m.agenda.cancel(&p.sweep)
	p.discardAll(gone)
}

// renew closes idle connections now, and those in use when they are released.
func (p *pool) renew() {
	p.mu.Lock()
	p.keepOf = p.group.m.now()
	gone := unlistAll(&p.idle)
	p.mu.Unlock()
	p.discardAll(gone)
}

// fail ends the waits of all who cannot be served.
func (p *pool) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for hp := p.needy.first(); hp != nil; hp = p.needy.first() {
		hp.deliver(hp.waiters.first(), nil, err)
		hp.note()
	}
	p.gauges()
}

// reserve takes a place for a raw connection, which does not wait for one.
func (p *pool) reserve(hp *hostPool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open >= int(p.limits().MaxConnections) || !hp.admits() {
		return false
	}
	p.open++
	hp.open++
	hp.ep.open[p.priority]++
	hp.census()
	p.gauges()
	return true
}

// unlistAll unlists every connection of a list, and returns those that are idle. The
// pool's lock is held.
func unlistAll(l *list[Conn]) []*Conn {
	var all []*Conn
	for c := l.first(); c != nil; c = l.first() {
		c.unlist()
		if c.streams == 0 {
			c.over = true
			all = append(all, c)
		}
	}
	return all
}

// discardAll closes connections that were just unlisted.
func (p *pool) discardAll(all []*Conn) {
	for _, c := range all {
		if c.watched {
			c.watched = false
			p.group.m.watch.remove(c)
		}
		p.discard(c, false, false)
	}
}
