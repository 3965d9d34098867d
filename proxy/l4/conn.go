package l4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// conn is one downstream connection that a chain has taken. It implements
// filter.ConnEngine.
type conn struct {
	fc   filter.Conn
	meta meta.Conn
	l    *Listener
	ch   *chain
	set  *set
	sock *netio.Conn
	in   buffer.Buf // Recv: what the read hooks look at
	hook sync.Mutex // held while a data hook runs
	rst  bool       // close with a reset

	parkUntil time.Time
	resume    func(readable bool) error

	mu      sync.Mutex
	ctx     context.Context
	cancel  context.CancelFunc
	ended   bool
	drained bool
	drains  atomic.Bool // the same, without the lock
	drainCh chan struct{}
	onDrain []*func()
	other   filter.Peer // upstream side of a relay, to be cut with sock

	chosenBy    *filter.Conn // see remember; nil is nothing but meta
	young, live link         // in l.young and ch.conns
}

var _ filter.ConnEngine = (*conn)(nil)

// run serves the connection on the calling goroutine until it ends or is parked.
func (c *conn) run() {
	c.over(c.guard(func() error {
		for _, h := range c.set.open {
			if err := h.OnConn(&c.fc); err != nil {
				return err
			}
		}
		return c.set.term.Serve(&c.fc)
	}))
}

// errPanic is the end of a connection one of whose filters has panicked.
var errPanic = errors.New("l4: a filter panicked")

// guard turns a panic of a filter into the end of this connection.
func (c *conn) guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			c.l.stats.Panics.Inc()
			c.l.log().Error("a network filter panicked; its connection is closed",
				slog.String("listener", c.l.name), slog.String("chain", c.meta.FilterChain),
				slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
			if c.set != nil {
				c.ch.drop(c.set) // not to be used again
			}
			c.set = nil
			err = errPanic
		}
	}()
	return f()
}

// over ends the connection, unless its filter has parked it.
func (c *conn) over(err error) {
	for err == filter.Parked {
		if c.resume == nil {
			err = errors.New("l4: Serve returned Parked without Park")
			break
		}
		l := c.l
		if l.m.parker.Park(c.sock, c.parkUntil, c.resumed) {
			if note := l.m.o.Parked; note != nil {
				note()
			}
			return // c belongs to resumed since it was parked
		}
		err = c.guard(func() error { return c.call(c.wait()) })
	}
	c.finish(err)
}

// resumed runs on a goroutine of its own.
func (c *conn) resumed(readable bool) {
	c.over(c.guard(func() error { return c.call(readable) }))
}

func (c *conn) call(readable bool) error {
	f := c.resume
	c.resume = nil
	return f(readable)
}

// wait is parking where the kernel has no room for another watch: on the goroutine.
func (c *conn) wait() bool {
	var b buffer.Buf
	if err := c.sock.SetReadDeadline(c.parkUntil); err != nil {
		return false
	}
	_, err := c.sock.ReadBuf(&b)
	_ = c.sock.SetReadDeadline(time.Time{}) // moving it away cannot fail
	c.sock.Unread(&b)
	return err == nil || err == io.EOF
}

// finish closes the connection and accounts for it.
func (c *conn) finish(why error) {
	c.mu.Lock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
	c.mu.Unlock()
	if c.fc.Log.End == 0 {
		c.fc.Log.End = time.Since(c.meta.Start)
	}
	if c.set != nil {
		_ = c.guard(func() error { // the connection has ended anyway
			for _, h := range c.set.close {
				h.OnClose(&c.fc, why)
			}
			return nil
		})
	}
	c.in.Release()
	if c.rst {
		_ = c.sock.Abort() // nobody is left to tell
	} else {
		_ = c.sock.Close()
	}
	c.l.ended(c)
	if c.set != nil {
		c.ch.give(c.set)
		c.set = nil
	}
	c.ch.conns.remove(&c.live)
	c.l.release()
}

// Context implements filter.ConnEngine.
func (c *conn) Context() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil {
		c.ctx, c.cancel = context.WithCancel(context.Background())
		if c.ended {
			c.cancel()
		}
	}
	return c.ctx
}

// Socket implements filter.ConnEngine.
func (c *conn) Socket() *netio.Conn { return c.sock }

// Plain implements filter.ConnEngine.
func (c *conn) Plain() bool { return c.set.plain() }

// Recv implements filter.ConnEngine.
func (c *conn) Recv(b *buffer.Buf) (end bool, err error) {
	if len(c.set.read) == 0 {
		_, err := c.sock.ReadBuf(b)
		if err == io.EOF {
			return true, nil
		}
		return false, err
	}
	for {
		_, err := c.sock.ReadBuf(&c.in)
		if end = err == io.EOF; err != nil && !end {
			return false, err
		}
		if err := c.onRead(end); err != nil {
			return false, err
		}
		if n := c.in.Len(); n > 0 || end {
			b.MoveAll(&c.in)
			return end, nil
		}
	}
}

func (c *conn) onRead(end bool) error {
	c.hook.Lock()
	defer c.hook.Unlock()
	for _, h := range c.set.read {
		if err := h.OnRead(&c.fc, &c.in, end); err != nil {
			c.in.Release()
			return err
		}
	}
	return nil
}

// Send implements filter.ConnEngine.
func (c *conn) Send(b *buffer.Buf, end bool) error {
	if len(c.set.write) > 0 {
		if err := c.onWrite(b, end); err != nil {
			b.Release()
			return err
		}
	}
	if err := c.sock.WriteBuf(b); err != nil || !end {
		return err
	}
	return c.sock.CloseWrite()
}

func (c *conn) onWrite(b *buffer.Buf, end bool) error {
	c.hook.Lock()
	defer c.hook.Unlock()
	for _, h := range c.set.write {
		if err := h.OnWrite(&c.fc, b, end); err != nil {
			return err
		}
	}
	return nil
}

// Draining implements filter.ConnEngine.
func (c *conn) Draining() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drainCh == nil {
		c.drainCh = make(chan struct{})
		if c.drained {
			close(c.drainCh)
		}
	}
	return c.drainCh
}

// OnDrain implements filter.ConnEngine.
func (c *conn) OnDrain(f func()) (stop func()) {
	c.mu.Lock()
	if c.drained {
		c.mu.Unlock()
		f()
		return func() {}
	}
	c.onDrain = append(c.onDrain, &f)
	c.mu.Unlock()
	return func() {
		c.mu.Lock()
		c.onDrain = slices.DeleteFunc(c.onDrain, func(g *func()) bool { return g == &f })
		c.mu.Unlock()
	}
}

// Ending implements filter.ConnEngine.
func (c *conn) Ending() bool {
	if c.drains.Load() {
		return true
	}
	s := c.ch.conns.slope.Load()
	return s != nil && s.slips(time.Now())
}

// drain tells the filters of the connection to finish what is under way.
func (c *conn) drain() {
	c.mu.Lock()
	if c.drained {
		c.mu.Unlock()
		return
	}
	c.drained = true
	c.drains.Store(true)
	fs := c.onDrain
	c.onDrain = nil
	if c.drainCh != nil {
		close(c.drainCh)
	}
	c.mu.Unlock()
	for _, f := range fs {
		(*f)()
	}
}

// cut ends the connection at once, from another goroutine.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
	c.sock.Cut()
	if c.other != nil {
		c.other.Cut()
	}
}

// setOther names the upstream side that cut has to end, too; nil for none any more.
func (c *conn) setOther(up filter.Peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.other = up
	if up != nil && c.ended {
		up.Cut()
	}
}

// Park implements filter.ConnEngine.
func (c *conn) Park(deadline time.Time, resume func(readable bool) error) (ok bool) {
	if !c.sock.Parkable() || !c.Plain() {
		return false
	}
	c.parkUntil, c.resume = deadline, resume
	return true
}
