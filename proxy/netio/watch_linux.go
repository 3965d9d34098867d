package netio

import (
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// endWatch is what tells a reader that has not looked at the end of its stream that there
// is one.
type endWatch struct {
	by    *Parker // nil: every read looks
	reads uint8   // up to watchAfter
	armed bool    // by watches
	seen  atomic.Bool
}

// watchAfter is how many reads a connection must see before it is worth watching: that
// takes a call or two and wakes a goroutine at the end, where a look is one call.
const watchAfter = 32

// WatchedBy makes p wake the reader of c when its peer has closed or reset it. On a
// connection that has been read a few times ReadEach and Pump then wait when no bytes are
// left; otherwise they look again each time, for the end of the stream. It does nothing for
// what is no TCP socket, nor TLS over one, and is called before c is used.
func (c *Conn) WatchedBy(p *Parker) {
	c = c.below()
	if _, ok := c.Conn.(*net.TCPConn); ok {
		c.end.by = p
	}
}

// mayWait reports whether who has read all bytes hears of whatever comes next, the end of
// the stream included, without another look. It is asked after everything that sets
// a deadline, inside a read of the descriptor.
func (c *Conn) mayWait(fd uintptr) bool {
	e := &c.end
	switch {
	case e.by == nil:
		return false
	case e.reads < watchAfter:
		e.reads++
		return false
	case !e.armed:
		if !e.by.watch(c, fd) {
			return false
		}
		e.armed = true
	}
	return !e.seen.Load()
}

// ended makes a read that waits, or the next one, look at the socket; and from now on
// mayWait says no. Whoever sets a deadline after this overrides it, but asks mayWait later.
func (c *Conn) ended() {
	c.end.seen.Store(true)
	_ = c.Conn.SetReadDeadline(longAgo) // fails only on a closed socket, whose reads end anyway
}

// watch arms p, once, for the end of c's stream, which may have come already. It runs inside
// a read of the descriptor. Park ends the watch.
func (p *Parker) watch(c *Conn, fd uintptr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.start() != nil {
		return false
	}
	pl := p.place(c)
	if pl == nil {
		return false
	}
	pl.arm(fd, unix.EPOLLRDHUP)
	if c.gone.Load() { // a Close that saw no place to leave
		p.leave(pl)
	}
	pl.watches = pl.err == 0
	return pl.watches
}
