package l7

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// conn is one downstream connection, whatever version of HTTP it speaks.
type conn struct {
	m         *Manager
	down      *filter.Conn
	version   version // nil: not known yet
	stopDrain func()
	served    atomic.Uint32
	idleSince time.Time // of the goroutine of the connection
	age       age

	certOnce sync.Once
	cert     string // what x-forwarded-client-cert says of the client
}

// version is what the versions of HTTP do differently with a connection.
type version interface {
	// serve runs streams until the connection is over or parked (filter.Parked).
	serve() error
	// drain is called once, from any goroutine, when the listener drains.
	drain()
	// closed is called when the connection is over. It closes the codec.
	closed()
	// requests is where streams are counted.
	requests() *stats.Counter

	// What follows is called by streams.

	// spoil says that it is not clear where the next request begins, or that the rest of
	// the stream's will not be read.
	spoil()
	// limit is called with each response: it may be time for the connection to end.
	limit()
	// violated says that the stream's request broke the rules of HTTP.
	violated()
	// lost says that the stream was given up, by the client or by us.
	lost(st *stream, byClient bool)
}

// parkAfter is how long a connection idles on its goroutine before it gives it back.
const parkAfter = time.Second

// ServeConn serves a connection until it is over; it returns filter.Parked when it
// has given its goroutine back for a while.
func (m *Manager) ServeConn(c *filter.Conn) error {
	cn := &conn{m: m, down: c}
	m.counters.CxTotal.Inc()
	m.counters.CxActive.Inc()
	if c.Meta.TLS != nil {
		m.counters.CxTLSTotal.Inc()
		m.counters.CxTLSActive.Inc()
	}
	cn.idleSince = time.Now()
	cn.age = m.ageOf(c.Meta.Start)
	return cn.detect()
}

// speak makes the connection one of that version.
func (c *conn) speak(v version) error {
	c.version = v
	c.stopDrain = c.down.Engine.OnDrain(v.drain)
	return v.serve()
}

// begin takes a stream of the manager's for one of the codec's, and reads its head.
func (c *conn) begin(down codec.ServerStream, atHand bool) *stream {
	st := c.m.begin()
	st.begin(c, down, atHand)
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
	if c.version != nil {
		c.stopDrain()
	}
	var bad *codec.ProtocolError
	switch {
	case err == nil:
		k.CxDestroyLocal.Inc()
	case errors.Is(err, errIdle):
		k.CxIdle.Inc()
		k.CxDestroyLocal.Inc()
	case errors.Is(err, errPremature):
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
	if c.down.Meta.TLS != nil {
		k.CxTLSActive.Dec()
	}
	k.CxLength.Record(uint64(time.Since(c.down.Meta.Start).Milliseconds()))
	if err == nil || bad != nil {
		c.linger()
	}
	if c.version != nil {
		c.version.closed()
	}
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
