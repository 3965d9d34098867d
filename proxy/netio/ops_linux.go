package netio

import (
	"io"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// readOp is the state of one read. Its callback is made once per connection, so
// that a read allocates nothing.
type readOp struct {
	fn    func(fd uintptr) bool
	buf   *buffer.Buf
	limit int
	once  bool // don't wait
	n     int
	err   error
	total *stats.Counter
	out   *buffer.Buf // to be written first; see Exchange
	w     *writeOp
}

func (o *readOp) count(n int) {
	if o.total != nil && n > 0 {
		o.total.Add(uint64(n))
	}
}

// try reads once; false means "wait until readable, then call again". The calls are
// raw ones: the descriptor does not block, so the scheduler need not know.
func (o *readOp) try(fd uintptr) bool {
	if o.out != nil {
		return o.send(fd)
	}
	room := o.buf.Reserve(min(minRead, o.limit))
	if len(room) > o.limit {
		room = room[:o.limit]
	}
	for {
		n, errno := sysRead(fd, room)
		switch {
		case errno == 0 && n > 0:
			o.buf.Commit(n)
			o.count(n)
			o.n, o.err = n, nil
			return true
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN && !o.once:
			o.buf.Commit(0)
			return false
		}
		o.buf.Commit(0)
		o.n = 0
		switch errno {
		case 0:
			o.err = io.EOF
		case syscall.EAGAIN:
			o.err = ErrWouldBlock
		default:
			o.err = os.NewSyscallError("read", errno)
		}
		return true
	}
}

// send is the first half of Exchange. The poller was armed before it is called, so
// that an answer wakes the reader although nobody has tried to read yet; false waits
// for it.
func (o *readOp) send(fd uintptr) bool {
	o.w.buf, o.w.err = o.out, nil
	full := !o.w.try(fd)
	o.w.buf, o.out = nil, nil
	o.n, o.err = 0, o.w.err
	if full {
		o.err = ErrWouldBlock
	}
	return o.err != nil
}

// sysRead and sysWrite are recvfrom and sendto: on a socket they cost a few per cent
// less than read and write, which go through the layer for files first.
func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
	return int(n), errno
}

// maxVecs is how many views leave in one system call.
const maxVecs = 16

// writeOp is the state of one write.
type writeOp struct {
	fn    func(fd uintptr) bool
	buf   *buffer.Buf
	flat  []byte // in place of buf, for writeFlat
	once  bool   // don't wait: ErrWouldBlock says that the socket is full
	err   error
	total *stats.Counter
	conn  *Conn         // whose deadline is set when the socket is full; see LimitStall
	stall time.Duration // how long it may stay full; 0 is for ever
	armed bool          // a deadline is set

	stalls [2]Stalls // see CountStalls
	waits  bool      // they have been told of a beginning

	most time.Duration // how long one write may wait in all; see LimitWait
	by   time.Time     // when the wait that began last has to be over, zero: never
}

// Stalls counts, each by itself, how often the peer takes no more for a while, and how
// often that is over. nil counters count nothing.
type Stalls struct{ Begun, Over *stats.Counter }

// full is called when the socket takes no more. It reports whether the write is over,
// rather than to wait.
func (o *writeOp) full() (over bool) {
	if o.once {
		o.err = ErrWouldBlock
		return true
	}
	if !o.waits {
		o.waits = true
		if o.most > 0 {
			o.by = time.Now().Add(o.most)
		}
		for i := range o.stalls {
			if begun := o.stalls[i].Begun; begun != nil {
				begun.Inc()
			}
		}
	}
	o.limit()
	return false
}

// limit bounds a wait for room.
func (o *writeOp) limit() {
	at := o.by
	if o.stall > 0 {
		if t := time.Now().Add(o.stall); at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if !at.IsZero() {
		o.armed = true
		_ = o.conn.SetWriteDeadline(at) // fails only on a closed socket, as the wait will
	}
}

// settle takes back the deadline of a wait that is over.
func (o *writeOp) settle() {
	if o.waits {
		o.waits = false
		for i := range o.stalls {
			if over := o.stalls[i].Over; over != nil {
				over.Inc()
			}
		}
	}
	if o.armed {
		o.armed = false
		_ = o.conn.SetWriteDeadline(time.Time{}) // as in full
	}
}

func (o *writeOp) count(n int) {
	if o.total != nil && n > 0 {
		o.total.Add(uint64(n))
	}
}

// try writes until everything is gone (true) or the socket is full (false).
func (o *writeOp) try(fd uintptr) bool {
	if o.flat != nil {
		return o.tryFlat(fd)
	}
	for o.buf.Len() > 0 {
		n, errno := writeOnce(fd, o.buf)
		switch errno {
		case 0:
			o.buf.Discard(n)
			o.count(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return o.full()
		default:
			o.err = os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}

// writeFlat writes p without counting it. With once it gives up where it would have to
// wait.
func (c *Conn) writeFlat(p []byte, once bool) (int, error) {
	if c.raw == nil {
		return c.Conn.Write(p)
	}
	if len(p) == 0 {
		return 0, nil
	}
	c.w.flat, c.w.once, c.w.err = p, once, nil
	var err error
	if !c.turn.inside || !c.w.try(c.turn.fd) {
		err = c.raw.Write(c.w.fn)
		c.w.settle()
	}
	n := len(p) - len(c.w.flat)
	c.w.flat, c.w.once = nil, false
	if err != nil {
		return n, c.why(err)
	}
	return n, c.w.err
}

func (o *writeOp) tryFlat(fd uintptr) bool {
	for len(o.flat) > 0 {
		n, errno := sysWrite(fd, o.flat)
		switch errno {
		case 0:
			o.flat = o.flat[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return o.full()
		default:
			o.err = os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

func writeOnce(fd uintptr, b *buffer.Buf) (int, syscall.Errno) {
	if b.Segments() == 1 {
		return sysWrite(fd, b.First())
	}
	return writeVec(fd, b)
}

// writeVec keeps its vector on the stack: idle connections hold none.
func writeVec(fd uintptr, b *buffer.Buf) (int, syscall.Errno) {
	var vec [maxVecs]unix.Iovec
	k := min(b.Segments(), maxVecs)
	for i := range k {
		p := b.Segment(i)
		vec[i].Base = unsafe.SliceData(p)
		vec[i].SetLen(len(p))
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&vec[0])), uintptr(k))
	return int(n), errno
}

// control is what is asked of a descriptor outside reads and writes. It is made on
// first use.
type control struct {
	fn   func(fd uintptr)
	do   func(fd uintptr, c *Conn) // a plain function, so that setting it allocates nothing
	conn *Conn
	poll unix.PollFd
	err  error
}

// onFD runs do with the descriptor, which stays open meanwhile.
func (c *Conn) onFD(do func(fd uintptr, c *Conn)) error {
	if c.raw == nil {
		return errNotDirect
	}
	if c.ctl == nil {
		k := &control{conn: c}
		k.fn = func(fd uintptr) { k.do(fd, k.conn) }
		c.ctl = k
	}
	c.ctl.do, c.ctl.err = do, nil
	if err := c.raw.Control(c.ctl.fn); err != nil {
		return err
	}
	return c.ctl.err
}

// pollHangUp is what a socket reports when its peer has closed or reset it.
const pollHangUp = unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR

// PeerClosed reports, without waiting and without reading, whether the peer has
// closed or reset the connection. It cannot tell for connections that are no
// plain sockets and says false. After Cut it says true. It is called by the goroutine
// that owns c.
func (c *Conn) PeerClosed() bool {
	c = c.below()
	if c.halt.Load() == cut {
		return true
	}
	if c.raw == nil {
		return false
	}
	err := c.onFD(pollPeer)
	return err != nil || c.ctl.poll.Revents&pollHangUp != 0
}

// PeerReset is PeerClosed for connections in error only: a peer that has ended its
// own direction may still be waiting for an answer.
func (c *Conn) PeerReset() bool {
	c = c.below()
	if c.halt.Load() == cut {
		return true
	}
	if c.raw == nil {
		return false
	}
	err := c.onFD(pollPeer)
	return err != nil || c.ctl.poll.Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

func pollPeer(fd uintptr, c *Conn) {
	p := &c.ctl.poll
	*p = unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
	var now unix.Timespec
	_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	if errno != 0 && errno != syscall.EINTR {
		c.ctl.err = os.NewSyscallError("poll", errno)
	}
}
