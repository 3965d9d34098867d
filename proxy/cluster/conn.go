package cluster

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Conn is a pooled HTTP connection, lent to one stream. It goes back by
// Cluster.Release or Cluster.Abandon; its own Close is the pool's.
type Conn struct {
	codec.ClientConn
	ID    uint64
	Local meta.Addr
	Host  *Host

	hp     *hostPool
	sock   *netio.Conn // what was dialled, under what the transport socket made of it
	plain  bool        // nothing but HTTP travels on sock
	made   time.Duration
	idled  time.Duration // since when it is idle; these count from the manager's start
	served uint32        // exchanges
	lent   bool

	// Guarded by the pool's lock while the connection is idle.
	watched bool
	byHost  node[Conn]
	byAge   node[Conn]
}

// CountBytes counts what an exchange received and sent on the wire.
func (c *Conn) CountBytes(received, sent int64) {
	c.hp.pool.group.core.countBytes(received, sent)
}

// TCPConn is a raw connection to a host, owned by who dialled it.
type TCPConn struct {
	*netio.Conn
	ID    uint64
	Local meta.Addr
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
