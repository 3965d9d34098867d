package cluster

import (
	"math"

	"github.com/mecha-mesh/mecha/proxy/codec/h2"
)

// What follows is for connections that carry many streams at once. One with room is in
// hostPool.ready, one without streams in pool.idle, one that takes no more streams in
// neither: it is closed when the last one ends.

// expected is how many streams a connection that is being made will carry. The lock is held.
func (hp *hostPool) expected() int {
	if hp.batch == 0 {
		hp.batch = hp.pool.group.streamsPerConn(hp)
	}
	return hp.batch
}

// streamsPerConn is what the configuration says of a connection that nothing is known of.
func (g *group) streamsPerConn(hp *hostPool) int {
	s := g.spec.Load()
	if !s.HTTP.multiplexed(hp.kind.http2) {
		return 1
	}
	return s.HTTP.atMost(s.HTTP.maxStreams())
}

// atMost is how many streams a connection with a limit carries before it is used up.
func (h *HTTPOptions) atMost(limit int) int {
	if h.MaxRequests != 0 {
		limit = min(limit, int(h.MaxRequests))
	}
	return max(limit, 1)
}

// short is how many of those who wait will get nothing of the dials that are under way.
// The lock is held.
func (hp *hostPool) short() int {
	if hp.dials == 0 || hp.waiters.n == 0 {
		return hp.waiters.n
	}
	return hp.waiters.n - min(hp.dials*hp.expected(), math.MaxInt32)
}

// mayExceed reports whether hp may have a connection though there is no room: streams
// that never end must not keep everybody from a host to which there is none.
func (hp *hostPool) mayExceed() bool {
	return hp.open == 0 && hp.waiters.n > 0 && hp.expected() > 1
}

// room is how many more streams c may carry now.
func (c *Conn) room() int {
	if c.spent {
		return 0
	}
	room := c.limit - c.streams
	if most := c.hp.pool.group.spec.Load().HTTP.MaxRequests; most != 0 {
		room = min(room, int(most)-int(c.served))
	}
	return room
}

// nextStream takes a stream of the first connection that has room. The lock is held.
func (hp *hostPool) nextStream() *Conn {
	p := hp.pool
	for c := hp.ready.first(); c != nil; c = hp.ready.first() {
		if c.streams > 0 && !c.useful() {
			c.byHost.leave()
			continue
		}
		p.lendStream(c)
		if c.room() <= 0 {
			c.byHost.leave()
		}
		return c
	}
	return nil
}

// useful reports whether c may be lent again. The lock is held.
func (c *Conn) useful() bool {
	p := c.hp.pool
	if c.spent || c.made < p.keepOf || c.hp.retired || p.drained || !c.hp.known() || c.old() {
		return false
	}
	if d := p.group.spec.Load().HTTP.MaxConnDuration; d != 0 && p.group.m.now()-c.made >= d {
		p.group.core.stats.UpstreamCxMaxDurationReached.Inc()
		c.spent = true
	}
	return !c.spent
}

// lendStream counts a stream that c is lent to. The lock is held.
func (p *pool) lendStream(c *Conn) {
	c.byAge.leave()
	c.streams++
	c.hp.streams++
	c.served++
	if most := p.group.spec.Load().HTTP.MaxRequests; most != 0 && c.served >= most && !c.spent {
		p.group.core.stats.UpstreamCxMaxRequests.Inc()
		c.spent = true
	}
}

// begun puts a new connection to use. What it has no room for although it was expected to
// is told by a stream that fails: somebody has to, or dials would follow dials. It returns
// false if the connection is of no use. The lock is held.
func (p *pool) begun(c *Conn) bool {
	hp := c.hp
	p.look(c)
	if c.limit > 0 {
		hp.batch = p.group.spec.Load().HTTP.atMost(c.limit)
	}
	for w := hp.waiters.first(); w != nil && c.limit <= 0 && hp.short() > 0; w = hp.waiters.first() {
		p.lendStream(c)
		hp.deliver(w, c, nil)
	}
	return p.settle(c)
}

// releaseStream takes a stream of c back. sound is false if c may be why it ended: whoever
// tries again must not get c.
func (p *pool) releaseStream(c *Conn, sound bool) {
	p.mu.Lock()
	if c.streams == 0 {
		p.mu.Unlock()
		panic("cluster: a stream was released twice")
	}
	if !c.over && !sound {
		p.look(c)
		if !c.multi.Alive() { // its streams may learn that before we are told
			p.ended(c)
			p.mu.Lock()
		}
	}
	kept := p.returned(c)
	p.mu.Unlock()
	if !kept {
		p.discard(c, false, false)
	}
}

// returned takes a stream of c back. It returns false if the caller is to discard c. The
// lock is held.
func (p *pool) returned(c *Conn) bool {
	c.streams--
	c.hp.streams--
	return p.settle(c)
}

// look asks c what has become of it. The lock is held.
func (p *pool) look(c *Conn) {
	c.limit = c.multi.Limit()
	if c.multi.Draining() && !c.spent {
		c.spent = true
		if c.multi.Alive() {
			p.group.core.stats.UpstreamCxCloseNotify.Inc()
		}
	}
}

// settle gives what room c has to those who wait, and lists c by what is left. It returns
// false if c is of no use any more and carries nothing: then the caller discards it. The
// lock is held.
func (p *pool) settle(c *Conn) bool {
	hp := c.hp
	if c.over {
		return true
	}
	useful := c.useful()
	if !c.spent && c.made >= p.keepOf { // whoever waits gets it, even if it is not to be kept
		for w := hp.waiters.first(); w != nil && c.room() > 0; w = hp.waiters.first() {
			p.lendStream(c)
			hp.deliver(w, c, nil)
		}
		hp.note()
		p.gauges()
	}
	switch listed := c.byHost.in != nil; {
	case !useful || c.room() <= 0:
		c.byHost.leave()
	case !listed:
		hp.ready.pushFront(&c.byHost)
	}
	if c.streams > 0 || c.byAge.in != nil && useful {
		return true
	}
	if !useful || p.needy.n > 0 && !p.room() {
		c.unlist()
		c.over = true
		return false
	}
	c.idled = p.group.m.now()
	p.idle.pushFront(&c.byAge)
	p.expectSweep(c.idled)
	return true
}

// changed is called when c has another limit, drains or has ended.
func (p *pool) changed(c *Conn) {
	p.mu.Lock()
	if c.over {
		p.mu.Unlock()
		return
	}
	p.look(c)
	if !c.multi.Alive() {
		p.ended(c)
		return
	}
	if c.limit > 0 {
		c.hp.batch = p.group.spec.Load().HTTP.atMost(c.limit)
	}
	kept := p.settle(c)
	c.hp.note()
	p.pump()
	p.mu.Unlock()
	if !kept {
		go p.discard(c, false, false) // we may be on the goroutine that its Close waits for
	}
}

// ended gives up a connection that has ended; its streams, if it has any, will notice.
// The lock is held, and released.
func (p *pool) ended(c *Conn) {
	c.unlist()
	c.over = true
	active := c.streams > 0
	p.mu.Unlock()
	p.group.ended(c.hp, c.made, c.served, p.peerClosed(c), active)
	p.forget(c.hp)
	go c.Close() // which waits for the goroutine that we may be on
}

// multiplexed reports whether connections carry many streams, as far as is known before
// they are made; http2 is what the client speaks.
func (h *HTTPOptions) multiplexed(http2 bool) bool {
	switch h.Protocol {
	case HTTP2Only, Negotiated:
		return true
	case AsDownstream:
		return http2
	}
	return false
}

// Multiplexed reports whether connections for raw bytes carry many streams (HTTP/2), as far
// as is known before they are made.
func (c *Cluster) Multiplexed() bool { return c.Spec().HTTP.multiplexed(false) }

// maxStreams is max_concurrent_streams.
func (h *HTTPOptions) maxStreams() int {
	if h.HTTP2 == nil || h.HTTP2.MaxConcurrentStreams == 0 {
		return h2.DefaultMaxConcurrentStreams
	}
	return int(min(h.HTTP2.MaxConcurrentStreams, math.MaxInt32))
}
