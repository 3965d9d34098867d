package cluster

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Conn is a pooled HTTP connection, lent to a stream: to one at a time, or to many. It
// goes back by Cluster.Release or Cluster.Abandon; its own Close is the pool's.
type Conn struct {
	codec.ClientConn
	ID    uint64
	Local meta.Addr
	TLS   *meta.TLS // nil for plain text
	Host  *Host

	hp    *hostPool
	sock  *netio.Conn // what was dialled, under what the transport socket made of it
	plain bool        // nothing but HTTP travels on sock
	made  time.Duration
	// How long connecting and the transport socket's handshake took.
	dialled, secure time.Duration
	idled           time.Duration // since when it is idle; these count from the manager's start
	served          uint32        // exchanges
	lent            bool

	// multi is ClientConn if it carries many streams at once, nil otherwise. Then the pool's
	// lock guards served, and this.
	multi   codec.Multiplexed
	streams int  // lent
	limit   int  // what multi says
	spent   bool // takes no further stream
	over    bool // it was closed, and counted as closed

	// Guarded by the pool's lock while the connection is idle.
	watched bool
	byHost  node[Conn] // in hostPool.ready
	byAge   node[Conn] // in pool.idle
}

// Making tells how long it took to connect, and then for the handshake of the transport
// socket.
func (c *Conn) Making() (connect, handshake time.Duration) { return c.dialled, c.secure }

// CountBytes counts what an exchange received and sent on the wire.
func (c *Conn) CountBytes(received, sent int64) {
	c.hp.pool.group.core.countBytes(received, sent)
}

// CountStallsFor counts how often the host takes no more for a while, for whoever feeds it
// now. Connections that carry many streams at once do not know for whom they wait.
func (c *Conn) CountStallsFor(s netio.Stalls) {
	if c.multi == nil {
		c.sock.CountStallsFor(s)
	}
}

// TCPConn is a raw connection to a host, owned by who dialled it.
type TCPConn struct {
	*netio.Conn
	ID    uint64
	Local meta.Addr
	TLS   *meta.TLS // nil for plain text
	Host  *Host

	hp     *hostPool
	made   time.Duration
	link   node[TCPConn]
	closed bool
}

// CountBytes counts what the connection received and sent.
func (c *TCPConn) CountBytes(received, sent int64) {
	c.hp.pool.group.core.countBytes(received, sent)
}

// Close closes the connection and gives its place back. It is called once or more,
// by one goroutine at a time.
func (c *TCPConn) Close() error { return c.close(c.Conn.Close) }

// Abort is Close with a reset.
func (c *TCPConn) Abort() error { return c.close(c.Conn.Abort) }

func (c *TCPConn) close(how func() error) error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.unlist()
	remote := c.Conn.PeerClosed()
	err := how()
	p := c.hp.pool
	p.group.core.stats.UpstreamRqActive.Dec()
	c.hp.ep.stats.RqActive.Dec()
	p.group.ended(c.hp, c.made, 1, remote, false)
	p.forget(c.hp)
	return err
}
