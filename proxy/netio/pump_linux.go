package netio

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// WriteError is a failure of the side that a Pump writes to; any other error is one
// of the side it reads from.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }

// ErrStopped is the end of a Pump whose Stop was set.
var ErrStopped = errors.New("netio: stopped")

// Pump moves bytes from one connection to another. While chunks are small they go
// through one slab; when reads fill the slab they stay in the kernel (splice), until
// they are small again. While it waits it holds neither slab nor pipe.
//
// The loop runs inside one RawConn callback: the poller keeps what becomes readable
// between a read and the wait for the next, so that after a read that drained the
// socket no second one has to find out that nothing is left. A Pump is used again
// after Run has returned.
type Pump struct {
	// Moved is how many bytes have been written to dst. It may be read meanwhile.
	Moved atomic.Int64
	// Clock, if not nil, is set to the time since Start whenever something arrives.
	Clock *atomic.Int64
	// Stop, if not nil, is looked at whenever something arrives; true ends Run with
	// ErrStopped once that has been moved.
	Stop func() bool
	// Start is what Clock counts from.
	Start time.Time

	src, dst *Conn
	left     int64 // most bytes still to move, negative for no limit
	buf      buffer.Buf
	want     int // room for the next read
	full     int // reads in a row that filled the slab
	small    int // splices in a row that carried little
	spin     int // bytes moved without waiting
	splicing bool
	inq      bool // the socket tells what is left in it (TCP_INQ)
	eof      bool
	stopped  bool
	err      error

	pipe   *pipe
	inPipe int
	step   func(fd uintptr) bool
	out    func(fd uintptr) bool

	msg    unix.Msghdr
	iov    unix.Iovec
	cmsg   [cmsgRoom]byte
	outErr error
}

const (
	// bulkReads is how many full slabs in a row begin splicing.
	bulkReads = 2
	// smallSplice is what counts as little, smallSplices how often in a row that ends
	// splicing: below, the copy is cheaper than the two calls around the pipe.
	smallSplice  = 8 << 10
	smallSplices = 8
	// spinLimit is how much one Pump moves before others get their turn.
	spinLimit = 1 << 20

	cmsgRoom = 32
	tcpINQ   = 36 // TCP_INQ and TCP_CM_INQ of linux/tcp.h
)

// pumps is a pool of Pumps for Splice: free memory, no state.
var pumps = sync.Pool{New: func() any { return new(Pump) }}

// Splice moves n bytes from src to dst inside the kernel where both are plain
// sockets, and returns how many have been written to dst. Unread bytes of src go
// first. It returns io.ErrUnexpectedEOF if src ends before, the errors of ReadBuf
// for src, and a *WriteError for dst. A negative n moves everything until the end of
// src, which is then no error. An interrupted or timed out Splice has lost no byte.
func Splice(dst, src *Conn, n int64) (int64, error) {
	p := pumps.Get().(*Pump)
	p.splicing = n < 0 || n > buffer.LargeSlabSize
	err := p.Run(dst, src, n)
	moved := p.Moved.Swap(0)
	p.Clock, p.Stop = nil, nil
	pumps.Put(p)
	return moved, err
}

// Run moves n bytes, all until the end of the stream if n is negative. The errors
// are those of Splice.
func (p *Pump) Run(dst, src *Conn, n int64) error {
	p.src, p.dst, p.left = src, dst, n
	p.want, p.full, p.small, p.spin = buffer.SlabSize, 0, 0, 0
	p.eof, p.stopped, p.err = false, false, nil
	err := p.run()
	p.buf.Release()
	p.src, p.dst, p.splicing = nil, nil, false
	return err
}

func (p *Pump) run() error {
	if err := p.movePending(); err != nil || p.left == 0 {
		return err
	}
	if p.stopped {
		return ErrStopped
	}
	if p.src.raw == nil || p.dst.raw == nil {
		return p.copyThrough()
	}
	if p.step == nil {
		p.step, p.out = p.stepFD, p.outFD
	}
	p.inq = p.left < 0 && p.src.wantINQ()
	for {
		if p.src.halt.Load() != running {
			return ErrInterrupted
		}
		err := p.src.raw.Read(p.step)
		p.givePipe()
		switch {
		case err == nil && p.eof:
			return p.end()
		case err == nil:
			return p.err
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		if err := p.src.rearm(); err != nil {
			return err
		}
	}
}

// end is what the end of src means.
func (p *Pump) end() error {
	if p.left > 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// movePending sends what was read from src before.
func (p *Pump) movePending() error {
	n := p.src.Pending()
	if n == 0 {
		return nil
	}
	if p.src.halt.Load() != running {
		return ErrInterrupted
	}
	if p.left >= 0 {
		n = int(min(int64(n), p.left))
	}
	p.buf.Move(&p.src.pending, n)
	p.arrived()
	return p.flush()
}

// flush writes p.buf to dst.
func (p *Pump) flush() error {
	n := int64(p.buf.Len())
	if err := p.dst.WriteBuf(&p.buf); err != nil {
		return &WriteError{err}
	}
	p.account(n)
	return nil
}

// arrived looks at Stop when something has been read, which is moved in any case.
func (p *Pump) arrived() { p.stopped = p.Stop != nil && p.Stop() }

func (p *Pump) account(n int64) {
	p.Moved.Add(n)
	if p.left > 0 {
		p.left -= n
	}
	if p.Clock != nil {
		p.Clock.Store(int64(time.Since(p.Start)))
	}
}

// copyThrough is for connections that are not both plain sockets.
func (p *Pump) copyThrough() error {
	for p.left != 0 {
		limit := p.want
		if p.left > 0 {
			limit = int(min(int64(limit), p.left))
		}
		n, err := p.src.readBuf(&p.buf, limit, false)
		if err == io.EOF {
			return p.end()
		}
		if err != nil {
			return err
		}
		if n == p.want {
			p.want = buffer.LargeSlabSize
		}
		p.arrived()
		if err := p.flush(); err != nil {
			return err
		}
		if p.stopped {
			return ErrStopped
		}
	}
	return nil
}

// stepFD moves until src is drained (false: wait), ended, failed or all is moved.
func (p *Pump) stepFD(fd uintptr) bool {
	for {
		var wait, done bool
		if p.splicing {
			wait, done = p.spliceOnce(fd)
		} else {
			wait, done = p.copyOnce(fd)
		}
		switch {
		case done:
			return true
		case p.stopped:
			p.err = ErrStopped
			return true
		case wait:
			p.givePipe()
			p.spin = 0
			return false
		}
		if p.spin >= spinLimit {
			p.spin = 0
			runtime.Gosched()
		}
	}
}

// copyOnce moves one slab.
func (p *Pump) copyOnce(fd uintptr) (wait, done bool) {
	room := p.buf.Reserve(p.want)
	if p.left > 0 && int64(len(room)) > p.left {
		room = room[:p.left]
	}
	n, drained, errno := p.recv(fd, room)
	if errno != 0 {
		n = 0
	}
	p.buf.Commit(n)
	switch {
	case errno == syscall.EINTR:
		return false, false
	case errno == syscall.EAGAIN:
		return true, false
	case errno != 0:
		p.err = os.NewSyscallError("read", errno)
		return false, true
	case n == 0:
		p.eof = true
		return false, true
	}
	p.src.r.count(n)
	p.arrived()
	p.adapt(n, len(room))
	if p.err = p.flush(); p.err != nil || p.left == 0 {
		return false, true
	}
	p.spin += n
	return drained && p.src.mayWait(fd), false
}

// adapt chooses how the next bytes are moved after n came into room bytes.
func (p *Pump) adapt(n, room int) {
	if n < room {
		p.full, p.want = 0, buffer.SlabSize
		return
	}
	p.full++
	p.want = buffer.LargeSlabSize
	p.splicing = p.full >= bulkReads
	p.small = 0
}

// recv reads once. drained tells that no bytes were left behind, not even behind urgent
// ones: it takes the kernel's word, and without that says no.
func (p *Pump) recv(fd uintptr, room []byte) (n int, drained bool, errno syscall.Errno) {
	if !p.inq {
		n, errno = sysRead(fd, room)
		return n, false, errno
	}
	p.iov.Base = unsafe.SliceData(room)
	p.iov.SetLen(len(room))
	p.msg.Iov = &p.iov
	p.msg.SetIovlen(1)
	p.msg.Control = &p.cmsg[0]
	p.msg.SetControllen(cmsgRoom)
	p.msg.Flags = 0
	r, _, errno := syscall.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&p.msg)), 0)
	p.iov.Base = nil
	if errno != 0 {
		return 0, false, errno
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&p.cmsg[0]))
	if p.msg.Controllen >= unix.SizeofCmsghdr+4 && h.Level == unix.IPPROTO_TCP && h.Type == tcpINQ {
		drained = *(*int32)(unsafe.Pointer(&p.cmsg[unix.SizeofCmsghdr])) == 0
	}
	return int(r), drained, 0
}

// wantINQ asks the kernel to tell with every recvmsg how many bytes are left. That needs
// somebody who tells of the end of the stream: of a reset it does not.
func (c *Conn) wantINQ() bool {
	return c.end.by != nil && c.onFD(setINQ) == nil
}

func setINQ(fd uintptr, c *Conn) {
	one := int32(1)
	_, _, errno := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, tcpINQ, uintptr(unsafe.Pointer(&one)), 4, 0)
	if errno != 0 { // a unix socket
		c.ctl.err = errno
	}
}

// spliceOnce moves one pipe full.
func (p *Pump) spliceOnce(fd uintptr) (wait, done bool) {
	if p.pipe == nil {
		if p.pipe = takePipe(); p.pipe == nil {
			p.splicing, p.full = false, 0
			return false, false
		}
	}
	limit := p.pipe.size
	if p.left > 0 && int64(limit) > p.left {
		limit = int(p.left)
	}
	n, errno := sysSplice(fd, uintptr(p.pipe.w), limit)
	switch {
	case errno == syscall.EINTR:
		return false, false
	case errno == syscall.EAGAIN:
		return true, false
	case errno == syscall.EINVAL: // a socket family that cannot splice
		p.splicing, p.full = false, -1<<30
		return false, false
	case errno != 0:
		p.err = os.NewSyscallError("splice", errno)
		return false, true
	case n == 0:
		p.eof = true
		return false, true
	}
	p.src.r.count(n)
	p.arrived()
	p.inPipe, p.outErr = n, nil
	err := p.dst.raw.Write(p.out)
	p.dst.w.settle()
	if err == nil {
		err = p.outErr
	}
	if err != nil {
		p.err = &WriteError{p.dst.why(err)}
		return false, true
	}
	p.account(int64(n))
	p.spin += n
	if n >= smallSplice {
		p.small = 0
	} else if p.small++; p.small >= smallSplices && p.left < 0 {
		p.splicing, p.full, p.want = false, 0, buffer.SlabSize
	}
	return false, p.left == 0
}

// outFD empties the pipe into dst.
func (p *Pump) outFD(fd uintptr) bool {
	for p.inPipe > 0 {
		n, errno := sysSplice(uintptr(p.pipe.r), fd, p.inPipe)
		switch {
		case errno == 0 && n > 0:
			p.inPipe -= n
			p.dst.w.count(n)
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			p.dst.w.full()
			return false
		case errno == 0:
			p.outErr = io.ErrUnexpectedEOF // the pipe lost bytes: cannot happen
			return true
		default:
			p.outErr = os.NewSyscallError("splice", errno)
			return true
		}
	}
	return true
}

// givePipe gives the pipe back while nothing is in it; one that a failed write left
// full is closed.
func (p *Pump) givePipe() {
	switch {
	case p.pipe == nil:
		return
	case p.inPipe == 0:
		p.pipe.give()
	default:
		p.pipe.close()
	}
	p.pipe, p.inPipe = nil, 0
}
