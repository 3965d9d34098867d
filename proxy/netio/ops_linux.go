package netio

import (
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// readOp is the state of one read. Its callback is made once per connection, so
// that a read allocates nothing.
type readOp struct {
	fn    func(fd uintptr) bool
	buf   *buffer.Buf
	limit int
	try1  bool // don't wait
	n     int
	err   error
}

// try reads once; false means "wait until readable, then call again". The calls are
// raw ones: the descriptor does not block, so the scheduler need not know.
func (o *readOp) try(fd uintptr) bool {
	room := o.buf.Reserve(minRead)
	if len(room) > o.limit {
		room = room[:o.limit]
	}
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&room[0])), uintptr(len(room)))
		switch {
		case errno == 0 && n > 0:
			o.buf.Commit(int(n))
			o.n, o.err = int(n), nil
			return true
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN && !o.try1:
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

const maxVecs = 16

// writeOp is the state of one write.
type writeOp struct {
	fn  func(fd uintptr) bool
	buf *buffer.Buf
	err error
	vec [maxVecs]unix.Iovec
}

// try writes until everything is gone (true) or the socket is full (false).
func (o *writeOp) try(fd uintptr) bool {
	for o.buf.Len() > 0 {
		n, errno := o.once(fd)
		switch errno {
		case 0:
			o.buf.Discard(int(n))
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			o.err = os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}

func (o *writeOp) once(fd uintptr) (uintptr, syscall.Errno) {
	if o.buf.Segments() == 1 {
		p := o.buf.First()
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		return n, errno
	}
	k := min(o.buf.Segments(), maxVecs)
	for i := range k {
		p := o.buf.Segment(i)
		o.vec[i].Base = &p[0]
		o.vec[i].SetLen(len(p))
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&o.vec[0])), uintptr(k))
	clear(o.vec[:k])
	return n, errno
}

// pollHangUp is what a socket reports when its peer has closed or reset it.
const pollHangUp = unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR

// PeerClosed reports, without waiting and without reading, whether the peer has
// closed or reset the connection. It cannot tell for connections that are no
// plain sockets and says false.
func (c *Conn) PeerClosed() bool {
	if c.raw == nil {
		return false
	}
	closed := false
	err := c.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		closed = err == nil && n > 0 && p[0].Revents&pollHangUp != 0
	})
	return closed || err != nil
}
