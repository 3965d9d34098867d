package netio

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// A look at a socket that has nothing to give costs as much as one that has. The
// runtime's poller forgets, at the beginning of each RawConn.Read, what has become
// readable before; so ReadBuf has to look before it waits. ReadEach stays inside one
// RawConn.Read over many turns of a dialogue, in which the poller forgets nothing.

// turnOp is the state of ReadEach.
type turnOp struct {
	eachFn  func(fd uintptr) bool
	each    func() bool
	inq     int8    // whether the socket tells what is left in it: 0 unknown, 1 yes, -1 no
	shared  bool    // ReadShared: others write and close meanwhile
	lateEnd bool    // see EndMayBeLate
	inside  bool    // ReadEach runs its function: reads would wait for themselves
	drained bool    // the last read left nothing behind, not even the end of the stream
	closing bool    // Close was called inside
	rounds  uint8   // reads, up to endAfter
	fd      uintptr // while inside
}

// errInside is a read of a connection inside the function that ReadEach runs.
var errInside = errors.New("netio: read inside ReadEach")

// inqAfter is how many reads a connection must see before it is worth asking the
// kernel to tell what is left.
const inqAfter = 2

// endAfter is how many reads a connection must see before its end may be late.
const endAfter = 32

// EndMayBeLate is for who waits in ReadEach with a deadline of a second or so, and looks
// at the socket in another way afterwards: on a connection that is in use for longer,
// the end of the stream may be noticed only then, if it came together with the last bytes
// and the peer still reads. To know at once takes a dearer read each time.
func (c *Conn) EndMayBeLate() { c.below().turn.lateEnd = true }

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
		if c.turn.drained {
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

// recvTurn reads once. Without the kernel's word on what is left, nothing is known to
// be drained, unless the end may be late: a read that does not fill its room has left
// nothing but that.
func (c *Conn) recvTurn(fd uintptr, room []byte) (n int, errno syscall.Errno) {
	t := &c.turn
	t.drained = false
	if t.rounds <= endAfter {
		t.rounds++
	}
	if t.lateEnd && t.rounds > endAfter {
		if n, errno = sysRead(fd, room); errno != 0 {
			return 0, errno
		}
		t.drained = n < len(room)
		return n, 0
	}
	if t.inq == 0 {
		if t.rounds > inqAfter {
			t.inq = -1
			one := int32(1)
			if _, _, e := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, tcpINQ, uintptr(unsafe.Pointer(&one)), 4, 0); e == 0 {
				t.inq = 1
			}
		}
	}
	if t.inq == 1 {
		n, t.drained, errno = recvINQ(fd, room)
	} else {
		n, errno = sysRead(fd, room)
	}
	if errno != 0 {
		n = 0
	}
	return n, errno
}

// recvINQ reads from a socket that tells with each read how many bytes are left: one
// if only the end of the stream is. What it needs is on the stack: idle connections
// hold none.
func recvINQ(fd uintptr, room []byte) (n int, drained bool, errno syscall.Errno) {
	var cmsg [cmsgRoom]byte
	iov := unix.Iovec{Base: unsafe.SliceData(room)}
	iov.SetLen(len(room))
	msg := unix.Msghdr{Iov: &iov, Control: &cmsg[0]}
	msg.SetIovlen(1)
	msg.SetControllen(cmsgRoom)
	r, _, errno := syscall.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&msg)), 0)
	if errno != 0 {
		return 0, false, errno
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&cmsg[0]))
	if msg.Controllen >= unix.SizeofCmsghdr+4 && h.Level == unix.IPPROTO_TCP && h.Type == tcpINQ {
		drained = *(*int32)(unsafe.Pointer(&cmsg[unix.SizeofCmsghdr])) == 0
	}
	return int(r), drained, 0
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
