package l7

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// http2 serves a connection whose streams run at the same time. Its own goroutine reads
// frames; each stream has one of the connection's workers.
type http2 struct {
	*conn
	codec    *h2.ServerConn
	accepted uint32
	aging    *time.Timer // nil: the connection may become as old as it likes
	resets   prematureResets
	idle     time.Time // since when there has been no stream; zero: not for long

	work    chan *stream // to a worker that has nothing to do
	waiting atomic.Int32 // workers that wait for that
	workers sync.WaitGroup

	mu     sync.Mutex
	parked bool // nobody reads; see drain
	told   bool // the client was asked to go elsewhere
}

var _ version = (*http2)(nil)

func newHTTP2(c *conn) *http2 {
	spec := c.m.spec
	o := c.m.h2
	o.DrainTimeout = jittered(spec.DrainTimeout, spec.DrainJitter)
	v := &http2{conn: c, codec: h2.NewServer(c.down.Engine.Socket(), o), work: make(chan *stream)}
	v.resets.of = c.m
	c.m.counters.CxHTTP2Total.Inc()
	c.m.counters.CxHTTP2Active.Inc()
	if !c.age.old.IsZero() {
		v.aging = time.AfterFunc(time.Until(c.age.old), v.aged)
	}
	v.codec.SetIdleTimeout(v.patience())
	return v
}

// http2Options is what of the configuration the codec acts on.
func (spec *Spec) http2Options(st *h2.Stats) h2.ServerOptions {
	o := h2.ServerOptions{
		Options:     spec.HTTP2,
		Underscores: h2.Underscores(spec.Underscores), // the same values
	}
	o.MaxHeadersKB, o.MaxHeadersCount = int(spec.MaxHeadersKB), int(spec.MaxHeadersCount)
	o.Stall, o.Stats = spec.StreamIdleTimeout, st
	o.HeadTimeout = spec.StreamIdleTimeout // that of a stream begins with its head
	if t := spec.RequestHeadersTimeout; t > 0 && (o.HeadTimeout == 0 || t < o.HeadTimeout) {
		o.HeadTimeout = t
	}
	return o
}

// requests implements version.
func (c *http2) requests() *stats.Counter { return &c.m.counters.RqHTTP2 }

// drain asks the client to go elsewhere, which HTTP/2 can do at any time.
func (c *http2) drain() {
	if c.goAway() {
		c.m.counters.CxDrainClose.Inc()
	}
}

// goAway begins the end of the connection: GOAWAY in two steps, and the close when the
// last stream is over. It may be called from any goroutine, and reports whether it is
// the first one to do so.
func (c *http2) goAway() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told {
		return false
	}
	c.told = true
	c.codec.Drain()
	if c.parked { // somebody has to see to the end
		c.down.Engine.Socket().Interrupt()
	}
	return true
}

// aged is called when the connection has become too old.
func (c *http2) aged() {
	c.m.counters.CxMaxDuration.Inc()
	c.goAway()
}

// spoil implements version: what is wrong with a stream is no other one's concern.
func (c *http2) spoil() {}

// limit implements version: the streams are counted when they begin, and the age has a
// timer.
func (c *http2) limit() {
	if c.down.Engine.Ending() {
		c.drain()
	}
}

// violated implements version: the codec ends the connection where that is due.
func (c *http2) violated() {}

// lost implements version.
func (c *http2) lost(st *stream, byClient bool) {
	if byClient && st.Meta.Code == 0 {
		c.resets.reset(time.Since(st.Meta.Start))
	}
}

// serve hands streams to workers until the connection is over or parked.
func (c *http2) serve() error {
	for {
		err := c.codec.AcceptEach(c.start)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return c.end(err)
		}
		if err := c.rest(); err != nil {
			return err
		}
	}
}

// start gives a stream to a worker, a new one if all have something to do.
func (c *http2) start(down codec.ServerStream) {
	if most := c.m.spec.MaxRequests; most > 0 {
		if c.accepted++; c.accepted >= most {
			c.m.counters.CxMaxRequests.Inc()
			c.goAway()
		}
	}
	if !c.idle.IsZero() {
		c.idle = time.Time{}
		c.codec.SetIdleTimeout(c.patience())
	}
	st := c.m.begin()
	st.conn, st.down = c.conn, down
	select {
	case c.work <- st:
	default:
		work := c.work // this one: dismiss makes another
		c.workers.Go(func() { c.run(st, work) })
	}
}

// maxWaiting is how many workers of a connection stay when they have nothing to do. A
// goroutine that is used again has the stack that it needs.
const maxWaiting = 32

// run is a worker.
func (c *http2) run(st *stream, work <-chan *stream) {
	for st != nil {
		st.begin(c.conn, st.down, true)
		c.complete(st)
		if c.resets.ended() {
			c.down.Engine.Socket().Cut()
		}
		if c.waiting.Add(1) > maxWaiting {
			c.waiting.Add(-1)
			return
		}
		st = <-work
		c.waiting.Add(-1)
	}
}

// dismiss lets the workers that wait go. New streams get new ones.
func (c *http2) dismiss() {
	close(c.work)
	c.work = make(chan *stream)
}

// patience is how long the connection may be without a stream before it rests.
func (c *http2) patience() time.Duration {
	if idle := c.m.spec.IdleTimeout; idle > 0 {
		return min(idle, parkAfter)
	}
	return parkAfter
}

// rest is called when the connection has been without a stream for a while: it gives
// back what it holds, its goroutine last, or ends.
func (c *http2) rest() error {
	c.dismiss()
	now, end := time.Now(), time.Time{}
	if c.idle.IsZero() {
		c.idle = now.Add(-c.patience())
	}
	if most := c.m.spec.IdleTimeout; most > 0 {
		if end = c.idle.Add(most); !now.Before(end) {
			c.tooIdle()
			return nil
		}
	}
	if c.park(end) {
		return filter.Parked
	}
	left := time.Duration(0)
	if !end.IsZero() {
		left = end.Sub(now)
	}
	c.codec.SetIdleTimeout(left)
	return nil
}

// tooIdle begins the end of a connection that nobody has used for too long.
func (c *http2) tooIdle() {
	c.codec.SetIdleTimeout(0)
	c.m.counters.CxIdle.Inc()
	c.goAway()
}

// park reports whether the connection was parked. If not, somebody has to read.
func (c *http2) park(end time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told || c.codec.Buffered() || !c.down.Engine.Park(end, c.resume) {
		return false
	}
	c.parked = true
	return true
}

// resume continues a parked connection on a new goroutine.
func (c *http2) resume(readable bool) error {
	c.mu.Lock()
	c.parked = false
	told := c.told
	c.mu.Unlock()
	if told {
		c.down.Engine.Socket().Resume()
	} else if !readable {
		c.tooIdle()
	}
	return c.serve()
}

// end waits for the streams that are under way, all of which fail, and closes the
// connection.
func (c *http2) end(err error) error {
	if n := c.codec.Streams(); n > 0 {
		k := c.m.counters
		k.CxActiveRq.Inc()
		if local := (*codec.ProtocolError)(nil); errors.As(err, &local) || errors.Is(err, h2.ErrSlowHead) || c.resets.over.Load() {
			k.CxLocalActive.Inc()
		} else {
			k.CxRemoteActive.Inc()
		}
	}
	c.dismiss()
	c.workers.Wait()
	switch {
	case c.resets.over.Load():
		err = errPremature
	case errors.Is(err, h2.ErrSlowHead):
		c.countSlowHead()
		err = nil
	case errors.Is(err, codec.ErrDraining):
		err = nil
	}
	return c.close(err)
}

// countSlowHead counts a head that took longer than it may, by the limit that it ran into.
func (c *http2) countSlowHead() {
	spec := c.m.spec
	if t := spec.RequestHeadersTimeout; t > 0 && (spec.StreamIdleTimeout == 0 || t < spec.StreamIdleTimeout) {
		c.m.counters.RqHeaderTime.Inc()
		return
	}
	c.m.counters.RqIdle.Inc()
}

// closed implements version.
func (c *http2) closed() {
	if c.aging != nil {
		c.aging.Stop()
	}
	c.m.counters.CxHTTP2Active.Dec()
	_ = c.codec.Close() // the connection is over: nobody is left to tell
}
