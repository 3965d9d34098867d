package l7

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h1"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// http1 serves a connection that carries one stream after the other, all of them on its
// own goroutine.
type http1 struct {
	*conn
	codec   *h1.ServerConn
	drained atomic.Bool // the listener drains
	next    *stream     // head read, not served yet
	turnFn  func(codec.ServerStream) bool
}

var _ version = (*http1)(nil)

func newHTTP1(c *conn) *http1 {
	sock := c.down.Engine.Socket()
	v := &http1{conn: c, codec: h1.NewServer(sock, c.m.h1)}
	v.turnFn = v.turn
	c.m.counters.CxHTTP1Total.Inc()
	c.m.counters.CxHTTP1Active.Inc()
	sock.LimitStall(c.m.spec.StreamIdleTimeout)
	return v
}

// http1Options is what of the configuration the codec acts on.
func (spec *Spec) http1Options(st *h1.Stats) h1.ServerOptions {
	return h1.ServerOptions{
		Options: h1.Options{
			MaxHeadersKB:       int(spec.MaxHeadersKB),
			MaxHeadersCount:    int(spec.MaxHeadersCount),
			EnableTrailers:     spec.HTTP1.EnableTrailers,
			ProperCase:         spec.HTTP1.ProperCase,
			PreserveCase:       spec.HTTP1.PreserveCase,
			ProperOwn:          spec.HTTP1.ProperOwn,
			AllowChunkedLength: spec.HTTP1.AllowChunkedLength,
		},
		AcceptHTTP10:         spec.HTTP1.AcceptHTTP10,
		DefaultHostForHTTP10: spec.HTTP1.DefaultHost,
		RefuseAbsoluteURL:    !spec.HTTP1.AllowAbsoluteURL,
		AllowCustomMethods:   spec.HTTP1.AllowCustomMethods,
		Underscores:          h1.Underscores(spec.Underscores), // the same values
		HeadersTimeout:       spec.RequestHeadersTimeout,
		Stats:                st,
	}
}

// requests implements version.
func (c *http1) requests() *stats.Counter { return &c.m.counters.RqHTTP1 }

// drain makes the next response the last one of the connection.
func (c *http1) drain() {
	c.drained.Store(true)
	c.codec.Announce()
}

// spoil implements version.
func (c *http1) spoil() { c.codec.Drain() }

// limit implements version.
func (c *http1) limit() {
	spec, k := c.m.spec, c.m.counters
	if c.down.Engine.Ending() {
		c.drain()
	}
	if spec.MaxRequests > 0 && c.served.Load()+1 >= spec.MaxRequests {
		k.CxMaxRequests.Inc()
		c.codec.Drain()
	}
	if !c.age.old.IsZero() && !time.Now().Before(c.age.old) {
		c.tooOld()
		c.codec.Drain()
	}
}

// violated implements version.
func (c *http1) violated() { c.m.counters.CxProtocol.Inc() }

// lost implements version: the connection ends with the stream.
func (c *http1) lost(_ *stream, byClient bool) {
	if byClient {
		c.m.counters.CxActiveRq.Inc()
		c.m.counters.CxRemoteActive.Inc()
	}
}

// closed implements version.
func (c *http1) closed() {
	c.m.counters.CxHTTP1Active.Dec()
	_ = c.codec.Close() // the connection is over: nobody is left to tell
}

// over ends the connection with its last response.
func (c *http1) over() error {
	if c.drained.Load() {
		c.m.counters.CxDrainClose.Inc()
	}
	return c.close(nil)
}

// serve runs streams until the connection is over or parked. Most of them run in
// turns; here are those that read more from the client than their head.
func (c *http1) serve() error {
	for {
		down, err := c.accept()
		if err != nil {
			if err == filter.Parked {
				return err
			}
			return c.close(err)
		}
		if down != nil {
			c.next = c.begin(down, false)
		}
		st := c.next
		if c.next = nil; st == nil || !c.complete(st) {
			return c.over()
		}
	}
}

// turn serves a stream inside a read of the connection (h1.ServerConn.AcceptEach). It
// reports false, with the stream in c.next, if that must go on outside, and also if
// the connection is over.
func (c *http1) turn(down codec.ServerStream) (more bool) {
	st := c.begin(down, true)
	if st.reads() {
		c.next = st
		return false
	}
	return c.complete(st)
}

// complete serves a stream to its end and reports whether there may be another.
func (c *http1) complete(st *stream) (reusable bool) {
	c.idleSince, reusable = c.conn.complete(st)
	c.codec.SetIdleDeadline(c.parkAt())
	return reusable
}

// accept waits for a request that is not served in its turn, on this goroutine for a
// short while and parked from then on. A nil stream without an error says that c.next
// has it or, if that is nil, that the connection is over.
func (c *http1) accept() (codec.ServerStream, error) {
	c.codec.SetIdleDeadline(c.parkAt())
	s, err := c.codec.AcceptEach(c.turnFn)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return s, err
	}
	end, why := c.ends()
	if !end.IsZero() && !time.Now().Before(end) {
		return nil, why
	}
	if c.down.Engine.Park(end, c.resume) {
		return nil, filter.Parked
	}
	c.codec.SetIdleDeadline(end)
	s, err = c.codec.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = why
	}
	return s, err
}

// resume continues a parked connection on a new goroutine.
func (c *http1) resume(readable bool) error {
	if !readable {
		_, why := c.ends()
		return c.close(why)
	}
	c.idleSince = time.Now() // so that accept waits for what has made the socket readable
	return c.serve()
}
