package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop is an edge-triggered epoll loop for one thread. Load generator and back
// end have one each: they must stay cheap beside the proxies they drive.
type loop struct {
	ep     int
	socks  []*sock // by descriptor
	events []unix.EpollEvent
	trash  []byte // where skipped bytes would go; never touched
	buf    []byte // read buffer of every sock of the loop
}

// sock is one connection. Only its loop's goroutine touches it.
type sock struct {
	loop *loop
	fd   int
	on   handler

	out   []byte // what still has to be written; shared, not changed
	own   []byte // where sendCopy puts it
	again []byte // what is written once out is through, more times
	more  int
	skip  int    // bytes to read and forget
	got   []byte // bytes read that no message was made of yet
}

// handler is who owns a sock.
type handler interface {
	// data takes what arrived. It returns how much of b it used; the rest comes
	// again, with more behind it.
	data(s *sock, b []byte) (used int, err error)
	// skipped tells that all of s.skip was read.
	skipped(s *sock) error
	// gone tells that the connection ended; err is nil at its plain end.
	gone(s *sock, err error)
}

const readSize = 64 << 10

func newLoop() (*loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &loop{
		ep: ep, events: make([]unix.EpollEvent, 256),
		trash: make([]byte, 1<<20), buf: make([]byte, readSize),
	}, nil
}

func (l *loop) close() {
	for _, s := range l.socks {
		if s != nil {
			unix.Close(s.fd)
		}
	}
	l.socks = nil
	unix.Close(l.ep)
}

// add takes over fd.
func (l *loop) add(fd int, on handler) (*sock, error) {
	s := &sock{loop: l, fd: fd, on: on}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff, Fd: int32(fd)}
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	for len(l.socks) <= fd {
		l.socks = append(l.socks, nil)
	}
	l.socks[fd] = s
	return s, nil
}

// watch wakes turn for a descriptor that is no sock, level-triggered.
func (l *loop) watch(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &ev)
}

// turn waits at most ms and serves what is ready; other is called for watched
// descriptors.
func (l *loop) turn(ms int, other func(fd int) error) error {
	n, err := unix.EpollWait(l.ep, l.events, ms)
	if err != nil {
		if errors.Is(err, unix.EINTR) {
			return nil
		}
		return fmt.Errorf("epoll: %w", err)
	}
	for _, ev := range l.events[:n] {
		fd := int(ev.Fd)
		var s *sock
		if fd < len(l.socks) {
			s = l.socks[fd]
		}
		if s == nil {
			if err := other(fd); err != nil {
				return err
			}
			continue
		}
		if err := s.ready(ev.Events); err != nil {
			l.drop(s, err)
		}
	}
	return nil
}

// errEnd is the plain end of a connection.
var errEnd = errors.New("the connection ended")

func (l *loop) drop(s *sock, err error) {
	if l.socks[s.fd] != s {
		return
	}
	l.socks[s.fd] = nil
	unix.Close(s.fd)
	if errors.Is(err, errEnd) {
		err = nil
	}
	s.on.gone(s, err)
}

func (s *sock) ready(events uint32) error {
	if events&unix.EPOLLOUT != 0 && len(s.out) > 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0 {
		return s.read()
	}
	return nil
}

// send writes b, and b again more times; what does not fit now goes later. b is
// lent until then. The previous send must be over.
func (s *sock) send(b []byte, more int) error {
	if len(s.out) > 0 {
		return errors.New("a message before the last one was written")
	}
	s.out, s.again, s.more = b, b, more
	return s.flush()
}

// sendCopy writes b behind what is still to be written, and keeps nothing of b.
func (s *sock) sendCopy(b []byte) error {
	s.own = append(append(s.own[:0], s.out...), b...)
	s.out = s.own
	return s.flush()
}

func (s *sock) flush() error {
	for len(s.out) > 0 {
		n, errno := sysSend(s.fd, s.out)
		switch errno {
		case 0:
			s.out = s.out[n:]
		case unix.EAGAIN:
			return nil
		default:
			return os.NewSyscallError("send", errno)
		}
		if len(s.out) == 0 && s.more > 0 {
			s.more--
			s.out = s.again
		}
	}
	return nil
}

func (s *sock) read() error {
	for {
		if s.skip > 0 {
			n, errno := sysRecv(s.fd, s.loop.trash[:min(s.skip, len(s.loop.trash))], unix.MSG_TRUNC)
			if done, err := readResult(n, errno); done || err != nil {
				return err
			}
			if s.skip -= n; s.skip == 0 {
				if err := s.on.skipped(s); err != nil {
					return err
				}
			}
			continue
		}
		n, errno := sysRecv(s.fd, s.loop.buf, 0)
		if done, err := readResult(n, errno); done || err != nil {
			return err
		}
		if err := s.take(s.loop.buf[:n]); err != nil {
			return err
		}
		if n < len(s.loop.buf) && s.skip == 0 {
			return nil // edge-triggered: a short read has emptied the socket
		}
	}
}

// take hands bytes to the handler and keeps what it leaves.
func (s *sock) take(b []byte) error {
	if len(s.got) > 0 {
		s.got = append(s.got, b...)
		b = s.got
	}
	for len(b) > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(b))
			b = b[n:]
			if s.skip -= n; s.skip == 0 {
				if err := s.on.skipped(s); err != nil {
					return err
				}
			}
			continue
		}
		used, err := s.on.data(s, b)
		if err != nil {
			return err
		}
		if used == 0 {
			break
		}
		b = b[used:]
	}
	s.got = append(s.got[:0], b...)
	return nil
}

func readResult(n int, errno unix.Errno) (done bool, err error) {
	switch {
	case errno == unix.EAGAIN:
		return true, nil
	case errno != 0:
		return true, os.NewSyscallError("recv", errno)
	case n == 0:
		return true, errEnd
	}
	return false, nil
}

// The descriptors never block, so the calls need not tell the scheduler.

func sysRecv(fd int, b []byte, flags int) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(flags), 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func sysSend(fd int, b []byte) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// dial connects to a port on loopback; the returned descriptor does not block.
func dial(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	addr := &unix.SockaddrInet4{Port: port, Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1}).As4()}
	if err := unix.Connect(fd, addr); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, prepare(fd)
}

func prepare(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
}
