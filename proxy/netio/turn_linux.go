package netio

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// A look at a socket that has nothing to give costs as much as one that has. The
// runtime's poller forgets, at the beginning of each RawConn.Read, what has become
// readable before; so ReadBuf has to look before it waits. ReadEach stays inside one
// RawConn.Read over many turns of a dialogue, in which the poller forgets nothing.
//
// It tells once, however, of what it has noticed together: of the last bytes of a peer and
// of the end or the reset behind them. So who waits after a read that has left no
// bytes must hear of the end in another way; see WatchedBy.

// turnOp is the state of ReadEach.
type turnOp struct {
	eachFn  func(fd uintptr) bool
	each    func() bool
	shared  bool    // ReadShared: others write and close meanwhile
	inside  bool    // ReadEach runs its function: reads would wait for themselves
	drained bool    // the last read left no bytes behind
	closing bool    // Close was called inside
	fd      uintptr // while inside
}

// errInside is a read of a connection inside the function that ReadEach runs.
var errInside = errors.New("netio: read inside ReadEach")

// ReadEach waits until there is something to read, appends it to b, at most one slab,
// and calls f; so it goes on until f returns false, which is no error, or a read
// fails. Errors are those of ReadBuf. f may do anything with c but wait for more:
// TryReadBuf is allowed, other reads fail. A Close inside f happens when ReadEach
// returns.
func (c *Conn) ReadEach(b *buffer.Buf, f func() bool) error {
	if c.raw == nil && c.rec == nil || c.pending.Len() > 0 {
		if _, err := c.ReadBuf(b); err != nil || !f() {
			return err
		}
		if c.raw == nil && c.rec == nil {
			return c.readEachThrough(b, f)
		}
	}
	if c.rec != nil {
		return c.eachRecord(b, f)
	}
	if c.turn.inside {
		return errInside
	}
	if c.turn.eachFn == nil {
		c.turn.eachFn = c.tryEach
	}
	for {
		if c.halt.Load() != running {
			return ErrInterrupted
		}
		c.r.buf, c.turn.each = b, f
		err := c.raw.Read(c.turn.eachFn)
		c.r.buf, c.turn.each = nil, nil
		switch {
		case c.turn.closing:
			c.turn.closing = false
			return c.Close()
		case err == nil:
			return c.r.err
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		if err := c.rearm(); err != nil {
			return err
		}
	}
}

// ReadShared is ReadEach on a connection that other goroutines write to, and close, at any
// time. So f must not close it; it may write like everybody else.
func (c *Conn) ReadShared(b *buffer.Buf, f func() bool) error {
	c.below().turn.shared = true
	return c.ReadEach(b, f)
}

func (c *Conn) readEachThrough(b *buffer.Buf, f func() bool) error {
	for {
		if _, err := c.ReadBuf(b); err != nil || !f() {
			return err
		}
	}
}

// tryEach reads and runs turns until nothing is left in the socket (false: wait) or
// it is over.
func (c *Conn) tryEach(fd uintptr) bool {
	o := &c.r
	o.err = nil
	for {
		room := o.buf.Reserve(minRead)
		n, errno := c.recvTurn(fd, room)
		o.buf.Commit(n)
		switch {
		case n > 0:
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return false
		case errno != 0:
			o.err = os.NewSyscallError("read", errno)
			return true
		default:
			o.err = io.EOF
			return true
		}
		o.count(n)
		if !c.runTurn(fd) {
			return true
		}
		if c.turn.drained && c.mayWait(fd) {
			return false
		}
	}
}

// tryInside is TryReadBuf inside ReadEach.
func (c *Conn) tryInside(b *buffer.Buf, limit int) (int, error) {
	room := b.Reserve(min(minRead, limit))
	if len(room) > limit {
		room = room[:limit]
	}
	n, errno := c.recvTurn(c.turn.fd, room)
	b.Commit(n)
	switch {
	case n > 0:
		c.r.count(n)
		return n, nil
	case errno == 0:
		return 0, io.EOF
	case errno == syscall.EAGAIN || errno == syscall.EINTR:
		return 0, ErrWouldBlock
	}
	return 0, os.NewSyscallError("read", errno)
}

func (c *Conn) runTurn(fd uintptr) bool {
	t := &c.turn
	if t.shared {
		return t.each()
	}
	t.inside, t.fd = true, fd
	defer c.leaveTurn()
	return t.each() && !t.closing
}

func (c *Conn) leaveTurn() { c.turn.inside = false }

// recvTurn reads once. A read that does not fill its room has left nothing: TCP hands out
// all that is there, but for bytes behind urgent ones, which nobody has a use for in turns.
func (c *Conn) recvTurn(fd uintptr, room []byte) (n int, errno syscall.Errno) {
	c.turn.drained = false
	if n, errno = sysRead(fd, room); errno != 0 {
		return 0, errno
	}
	c.turn.drained = n < len(room)
	return n, 0
}

// writeFD is WriteBuf by someone who holds the descriptor.
func (c *Conn) writeFD(fd uintptr, b *buffer.Buf) error {
	c.w.buf, c.w.err = b, nil
	var err error
	if !c.w.try(fd) {
		err = c.raw.Write(c.w.fn)
		c.w.settle()
	}
	c.w.buf = nil
	b.Release()
	if err != nil {
		return c.why(err)
	}
	return c.w.err
}
