package cluster

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher notices that a host closes, or speaks on, a connection that is idle. The
// sockets are in a poll set of their own only while they are idle for long: busy ones
// pay nothing, idle ones need no goroutine. It starts with the first connection.
type watcher struct {
	mu     sync.Mutex
	set    *os.File // epoll descriptor; nil before the start, and where there is none
	fd     int
	conns  map[uint64]*Conn // by ID
	closed bool
	done   chan struct{}
}

// add watches c. If that fails, c is found dead when it is used: Conn.usable asks.
func (w *watcher) add(c *Conn) {
	sc, ok := c.sock.Conn.(syscall.Conn)
	if !ok {
		return
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.set == nil && !w.begin() {
		return
	}
	events := uint32(unix.EPOLLRDHUP | unix.EPOLLONESHOT)
	if c.plain { // an encrypted connection may have something to say of its own
		events |= unix.EPOLLIN
	}
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(c.ID)), Pad: int32(uint32(c.ID >> 32))}
	err = rc.Control(func(fd uintptr) { ok = unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, int(fd), &e) == nil })
	if err == nil && ok {
		w.conns[c.ID] = c
	}
}

// remove ends the watch over c. Closing a socket ends it, too, but c must be forgotten.
func (w *watcher) remove(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns[c.ID] != c {
		return
	}
	delete(w.conns, c.ID)
	rc, err := c.sock.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) { // fails if it was closed, which removes it as well
		_ = unix.EpollCtl(w.fd, unix.EPOLL_CTL_DEL, int(fd), nil)
	})
}

// begin makes the poll set. The lock is held.
func (w *watcher) begin() bool {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that the runtime can wait for it
		_ = unix.Close(fd)
		return false
	}
	w.fd, w.set = fd, os.NewFile(uintptr(fd), "epoll")
	w.conns, w.done = map[uint64]*Conn{}, make(chan struct{})
	go w.run(w.set, fd)
	return true
}

// run waits, on the runtime's poller, for the poll set to have events.
func (w *watcher) run(set *os.File, fd int) {
	defer close(w.done)
	rc, err := set.SyscallConn()
	if err != nil {
		return
	}
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := rc.Read(func(uintptr) bool {
			var err error
			if n, err = unix.EpollWait(fd, events[:], 0); err == unix.EINTR {
				n = 0
			}
			return n != 0
		})
		if err != nil || n < 0 {
			return
		}
		for _, e := range events[:n] {
			w.event(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
		}
	}
}

func (w *watcher) event(id uint64) {
	w.mu.Lock()
	c := w.conns[id]
	w.mu.Unlock()
	if c != nil {
		c.hp.pool.hungUp(c)
	}
}

// close ends the watch over everything.
func (w *watcher) close() {
	w.mu.Lock()
	w.closed = true
	set, done := w.set, w.done
	w.mu.Unlock()
	if set != nil {
		_ = set.Close()
		<-done
	}
}
