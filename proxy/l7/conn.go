package l7

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// conn is one downstream connection, whatever version of HTTP it speaks.
type conn struct {
	m         *Manager
	down      *filter.Conn
	version   version
	stopDrain func()
	drained   atomic.Bool // the listener drains
	served    atomic.Uint32
	idleSince time.Time // of the goroutine of the connection
	age       age
}

// version is what the versions of HTTP do differently with a connection.
type version interface {
	// serve runs streams until the connection is over or parked (filter.Parked).
	serve() error
	// drain is called once, from any goroutine, when the listener drains.
	drain()
	// spoil is called by a stream after which it is not clear where the next request
	// begins, or whose rest will not be read.
	spoil()
	// last is called by a stream with which, as far as the engine is concerned, the
	// connection has had its share.
	last()
	// closed is called when the connection is over, with the reason. It closes the codec.
	closed(why error)
}

// parkAfter is how long a connection idles on its goroutine before it gives it back.
const parkAfter = time.Second

// ServeConn serves a connection until it is over; it returns filter.Parked when it
// has given its goroutine back for a while.
func (m *Manager) ServeConn(c *filter.Conn) error {
	cn := &conn{m: m, down: c}
	m.counters.CxTotal.Inc()
	m.counters.CxActive.Inc()
	cn.idleSince = time.Now()
	cn.age = m.ageOf(c.Meta.Start)
	cn.version = newHTTP1(cn)
	cn.stopDrain = c.Engine.OnDrain(cn.drain)
	return cn.version.serve()
}

func (c *conn) drain() {
	c.drained.Store(true)
	c.version.drain()
}

// begin takes a stream of the manager's for one of the codec's, and reads its head.
func (c *conn) begin(down codec.ServerStream) *stream {
	st := c.m.begin()
	st.begin(c, down)
	return st
}

// complete serves a stream to its end and reports whether the codec can go on, and when
// the stream ended.
func (c *conn) complete(st *stream) (end time.Time, reusable bool) {
	start := st.Meta.Start
	took, reusable := st.proceed()
	st.gen.end(st)
	c.served.Add(1)
	return start.Add(took), reusable
}

// parkAt is when the connection gives its goroutine back.
func (c *conn) parkAt() time.Time {
	at := c.idleSince.Add(parkAfter)
	if end, _ := c.ends(); !end.IsZero() && end.Before(at) {
		return end
	}
	return at
}

var errIdle = errors.New("idle timeout")

// close ends the connection and counts why.
func (c *conn) close(err error) error {
	k := c.m.counters
	c.stopDrain()
	var bad *codec.ProtocolError
	switch {
	case err == nil:
		k.CxDestroyLocal.Inc()
		if c.drained.Load() {
			k.CxDrainClose.Inc()
		}
	case errors.Is(err, errIdle):
		k.CxIdle.Inc()
		k.CxDestroyLocal.Inc()
	case errors.Is(err, errOld):
		c.tooOld()
		k.CxDestroyLocal.Inc()
	case errors.As(err, &bad):
		k.CxProtocol.Inc()
		k.CxDestroyLocal.Inc()
	case errors.Is(err, io.EOF):
		k.CxDestroyPeer.Inc()
	default:
		k.CxDestroyPeer.Inc()
	}
	k.CxDestroy.Inc()
	k.CxActive.Dec()
	k.CxLength.Record(uint64(time.Since(c.down.Meta.Start).Milliseconds()))
	if err == nil || bad != nil {
		c.linger()
	}
	c.version.closed(err)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// linger gives a client that has not read its last answer yet the time to do so: a
// close with unread bytes in the socket would reset the connection and destroy it.
func (c *conn) linger() {
	sock := c.down.Engine.Socket()
	if sock.CloseWrite() != nil {
		return
	}
	if sock.SetReadDeadline(time.Now().Add(c.m.spec.DelayedClose)) != nil {
		return
	}
	var rest buffer.Buf
	for left := lingerBytes; left > 0; {
		n, err := sock.ReadBuf(&rest)
		rest.Release()
		if err != nil {
			return
		}
		left -= n
	}
}

// lingerBytes is how much of what a client still sends is read and thrown away.
const lingerBytes = 1 << 20
