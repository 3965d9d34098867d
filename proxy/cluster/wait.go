package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/transport"
)

// waiter is a request that waits for a connection to a host. The pool's lock guards
// it until something was sent on ready.
type waiter struct {
	host  *Host
	fresh bool // takes only a connection that was never used
	conn  *Conn
	err   error
	ready chan struct{} // has room for one
	link  node[waiter]
}

// waiters gives waiters that wait for nothing.
type waiters struct{ pool sync.Pool }

func (ws *waiters) get(h *Host, fresh bool) *waiter {
	w, ok := ws.pool.Get().(*waiter)
	if !ok {
		w = &waiter{ready: make(chan struct{}, 1)}
		w.link.owner = w
	}
	w.host, w.fresh = h, fresh
	return w
}

func (ws *waiters) put(w *waiter) {
	w.host, w.conn, w.err = nil, nil, nil
	ws.pool.Put(w)
}

// firstWaiter returns who has waited longest for a connection that is new, or not.
// The lock is held.
func (hp *hostPool) firstWaiter(isNew bool) *waiter {
	for n := hp.waiters.front; n != nil; n = n.next {
		if isNew || !n.owner.fresh {
			return n.owner
		}
	}
	return nil
}

// deliver ends a wait. The lock is held.
func (hp *hostPool) deliver(w *waiter, c *Conn, err error) {
	hp.leave(w)
	w.conn, w.err = c, err
	w.ready <- struct{}{}
}

// leave takes a waiter out of the queue. The lock is held.
func (hp *hostPool) leave(w *waiter) {
	w.link.leave()
	hp.census()
	hp.pool.waiting--
	hp.pool.group.core.stats.UpstreamRqPendingActive.Dec()
	hp.ep.stats.RqPendingActive.Dec()
}

// wait queues for a connection to h until one comes free or is made.
func (p *pool) wait(ctx context.Context, hp *hostPool, h *Host, until time.Time, fresh bool) (*Conn, error) {
	st := &p.group.core.stats
	ws := &p.group.m.waiters
	w := ws.get(h, fresh)
	p.mu.Lock()
	if c := hp.since(fresh); c != nil {
		p.mu.Unlock()
		ws.put(w)
		if c.usable(p.group.m.now()) {
			return c, nil
		}
		p.discard(c, true, false)
		return p.wait(ctx, hp, h, until, fresh)
	}
	if p.waiting >= int(p.limits().MaxPending) {
		p.mu.Unlock()
		ws.put(w)
		st.UpstreamRqPendingOverflow.Inc()
		return nil, ErrPendingOverflow
	}
	if !p.roomForPool(hp) {
		p.mu.Unlock()
		ws.put(w)
		st.UpstreamCxPoolOverflow.Inc()
		return nil, ErrNoHealthyHost
	}
	hp.host = h
	st.UpstreamRqPendingTotal.Inc()
	st.UpstreamRqPendingActive.Inc()
	hp.ep.stats.RqPendingActive.Inc()
	p.waiting++
	hp.waiters.pushBack(&w.link)
	hp.census()
	hp.note()
	hp.squeeze()
	p.pump()
	if hp.short() > 0 {
		st.UpstreamCxOverflow.Inc()
	}
	p.mu.Unlock()

	err := w.sleep(ctx, until)
	if err != nil {
		p.giveUp(hp, w)
		return nil, err
	}
	c, err := w.conn, w.err
	ws.put(w)
	return c, err
}

// since takes a connection that has come free since somebody looked. The lock is held.
func (hp *hostPool) since(fresh bool) *Conn {
	if c := hp.ready.first(); c == nil || fresh && c.multi == nil && c.served > 0 {
		return nil
	}
	return hp.next()
}

// sleep waits for the delivery, ctx or until.
func (w *waiter) sleep(ctx context.Context, until time.Time) error {
	var expired <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-expired:
		return context.DeadlineExceeded
	}
}

// giveUp leaves the queue. What was delivered in the meantime goes to the next one; a
// dial that is under way goes on.
func (p *pool) giveUp(hp *hostPool, w *waiter) {
	p.group.core.stats.UpstreamRqCancelled.Inc()
	p.mu.Lock()
	delivered := w.link.in == nil
	var c *Conn
	if delivered {
		<-w.ready
		if c = w.conn; c != nil && p.back(c) {
			c = nil
		}
	} else {
		hp.leave(w)
		hp.note()
	}
	p.pump()
	p.mu.Unlock()
	if c != nil {
		p.discard(c, false, false)
	}
	p.group.m.waiters.put(w)
}

// dial makes a connection for whoever waits for one to the host first.
func (p *pool) dial(ctx context.Context, hp *hostPool, h *Host) {
	g := p.group
	g.countProtocol(hp.protocol(&g.spec.Load().HTTP))
	var to transport.Peer
	if hp.base == nil {
		to = h.peer(nil)
	} else {
		to = *hp.peer
	}
	to.ALPN = hp.offers(&g.spec.Load().HTTP)
	r, made, err := g.connect(ctx, h, hp, &to)
	if err != nil {
		p.dialFailed(hp, err)
		return
	}
	c := &Conn{ID: g.m.connID(), Host: h, hp: hp, sock: r.sock, plain: r.sock == r.conn, made: made, dialled: r.dialled, secure: r.secure}
	c.Local, c.TLS = localAddr(r.sock), to.TLS
	g.begin(c, r.conn)
	c.byHost.owner, c.byAge.owner = c, c
	p.mu.Lock()
	hp.dials--
	kept := p.first(c)
	hp.note()
	p.pump()
	p.mu.Unlock()
	if !kept {
		p.discard(c, false, false)
	}
	if c.multi != nil {
		c.multi.Watch(func() { p.changed(c) })
		p.changed(c) // what has happened meanwhile nobody told
	}
}

// back takes what was lent and not used. It returns false if the caller is to discard it.
// The lock is held.
func (p *pool) back(c *Conn) bool {
	if c.multi != nil {
		c.served--
		return p.returned(c)
	}
	return p.put(c, p.group.m.now())
}

// first puts a new connection to use. It returns false if it is of no use. The lock is held.
func (p *pool) first(c *Conn) bool {
	if c.multi != nil {
		return p.begun(c)
	}
	c.hp.batch = 1
	return p.put(c, c.made)
}

// dialFailed tells who has waited longest, if the dials that are left are too few.
func (p *pool) dialFailed(hp *hostPool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hp.dials--
	hp.host = nil // nothing is made ahead until the next request asks for the host
	for w := hp.waiters.first(); w != nil && hp.short() > 0; w = hp.waiters.first() {
		p.group.core.stats.UpstreamRqPendingFailureEject.Inc()
		hp.deliver(w, nil, err)
		if hp.expected() == 1 {
			break // who else waits has a dial of their own to come
		}
	}
	hp.note()
	p.drop(hp)
}
