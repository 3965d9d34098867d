package netio

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var errNotDirect = errors.New("netio: not a plain socket")

// Parker watches idle connections without a goroutine, a stack or a buffer for
// each, and others for their ends: one epoll instance beside the runtime's, in which every
// parked connection is armed for one event. The epoll descriptor itself waits on the runtime's poller, so
// that no thread is held either.
type Parker struct {
	mu     sync.Mutex
	file   *os.File // the epoll descriptor, nil before the first Park
	epoll  int      // its number: File.Fd would make it block
	raw    syscall.RawConn
	slots  []*place
	free   []uint32
	due    dueHeap
	timer  *time.Timer
	timerA int64 // when timer fires, 0 for not at all
	gen    uint32
	closed bool
	done   chan struct{}

	arming *place // argument of armFn
	armFn  func(fd uintptr)
	waitFn func(fd uintptr) bool
	events [128]unix.EpollEvent
	got    int
}

// place is where a Parker keeps a connection, from its first Park or watch until it is closed.
type place struct {
	p       *Parker
	c       *Conn
	idx     uint32
	gen     uint32 // tells an event for this Park or watch from one for an earlier one
	known   bool   // the descriptor is in the epoll set
	watches bool   // for the end of the stream; see WatchedBy
	err     syscall.Errno
	resume  func(readable bool)
	due     int64 // nanoseconds, 0 for never
	at      int   // index in the heap, -1 outside
}

// dueGrain is what deadlines of parked connections are rounded up to.
const dueGrain = int64(50 * time.Millisecond)

// NewParker returns a Parker. It takes no descriptor and starts nothing before the
// first Park.
func NewParker() *Parker {
	p := &Parker{}
	p.armFn = func(fd uintptr) { p.arming.arm(fd, unix.EPOLLIN|unix.EPOLLRDHUP) }
	p.waitFn = p.wait
	return p
}

// Park watches c until it is readable, closed by its peer or in error
// (readable), or until the deadline, if it is not zero, or until c is interrupted or
// closed (not readable). Then resume runs, once, on a goroutine of its own. Deadlines
// may be late by a twentieth of a second. The caller must be the only user of c and
// give it up. It reports false, and does nothing, for connections that are no plain
// sockets, nor TLS over one, and after Close.
func (p *Parker) Park(c *Conn, deadline time.Time, resume func(readable bool)) bool {
	if c.pending.Len() > 0 || c.rec != nil && !c.rec.idle() {
		go resume(true)
		return true
	}
	if c.rec != nil {
		return p.Park(c.rec.under, deadline, resume)
	}
	if c.raw == nil {
		return false
	}
	if !p.enter(c, deadline, resume) {
		return false
	}
	if c.halt.Load() != running { // an Interrupt that saw no place to wake
		c.unpark()
	}
	return true
}

func (p *Parker) enter(c *Conn, deadline time.Time, resume func(readable bool)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.start() != nil {
		return false
	}
	pl := p.place(c)
	if pl == nil {
		return false
	}
	pl.resume, pl.watches, c.end.armed = resume, false, false
	p.arming = pl
	if err := c.raw.Control(p.armFn); err != nil || pl.err != 0 {
		pl.resume = nil
		return false
	}
	if !deadline.IsZero() {
		pl.due = (deadline.UnixNano() + dueGrain - 1) / dueGrain * dueGrain
		p.due.push(pl)
		p.setTimer()
	}
	return true
}

// place returns the place of c, nil if another Parker has it. The lock is held.
func (p *Parker) place(c *Conn) *place {
	pl := c.parked.Load()
	switch {
	case pl == nil:
		pl = &place{p: p, c: c, idx: p.slot(), at: -1}
		p.slots[pl.idx] = pl
		c.parked.Store(pl)
	case pl.p != p:
		return nil
	}
	return pl
}

// start makes the epoll instance.
func (p *Parker) start() error {
	if p.file != nil {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	_ = unix.SetNonblock(fd, true) // makes os.NewFile put it on the poller; Read fails below if not
	p.epoll = fd
	p.file = os.NewFile(uintptr(fd), "parked connections")
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return err
	}
	p.done = make(chan struct{})
	go p.loop()
	return nil
}

func (p *Parker) slot() uint32 {
	if n := len(p.free); n > 0 {
		i := p.free[n-1]
		p.free = p.free[:n-1]
		return i
	}
	p.slots = append(p.slots, nil)
	return uint32(len(p.slots) - 1)
}

// arm makes the next of these events, or a reset, an event of pl. The lock is held.
func (pl *place) arm(fd uintptr, events uint32) {
	p := pl.p
	p.gen++
	pl.gen, pl.err = p.gen, 0
	ev := unix.EpollEvent{
		Events: events | unix.EPOLLONESHOT,
		Fd:     int32(pl.idx), Pad: int32(pl.gen),
	}
	op := unix.EPOLL_CTL_MOD
	if !pl.known {
		op = unix.EPOLL_CTL_ADD
	}
	if err := unix.EpollCtl(p.epoll, op, int(fd), &ev); err != nil {
		pl.err, _ = err.(syscall.Errno)
		return
	}
	pl.known = true
}

func (p *Parker) loop() {
	defer close(p.done)
	for p.raw.Read(p.waitFn) == nil { // it fails when the file is closed
		for i := range p.got {
			e := &p.events[i]
			p.ready(uint32(e.Fd), uint32(e.Pad))
		}
	}
}

func (p *Parker) wait(fd uintptr) bool {
	n, err := unix.EpollWait(int(fd), p.events[:], 0)
	p.got = max(n, 0)
	return n > 0 || err == unix.EBADF
}

func (p *Parker) ready(idx, gen uint32) {
	p.mu.Lock()
	var resume func(bool)
	var ended *Conn
	if int(idx) < len(p.slots) {
		if pl := p.slots[idx]; pl != nil && pl.gen == gen {
			resume = p.take(pl)
			if pl.watches {
				pl.watches, ended = false, pl.c
			}
		}
	}
	p.mu.Unlock()
	if resume != nil {
		go resume(true)
	}
	if ended != nil {
		ended.ended()
	}
}

// take ends the parking of pl and returns what to run, nil if it was not parked.
func (p *Parker) take(pl *place) func(bool) {
	resume := pl.resume
	pl.resume = nil
	if pl.at >= 0 {
		p.due.remove(pl)
	}
	return resume
}

func (p *Parker) wake(pl *place, leave bool) {
	p.mu.Lock()
	resume := p.take(pl)
	if leave {
		p.leave(pl)
	}
	p.mu.Unlock()
	if resume != nil {
		go resume(false)
	}
}

// leave gives the place of a closed connection to others. The lock is held.
func (p *Parker) leave(pl *place) {
	if p.slots[pl.idx] == pl {
		p.slots[pl.idx] = nil
		p.free = append(p.free, pl.idx)
	}
}

// unpark wakes c if it is parked.
func (c *Conn) unpark() {
	if pl := c.parked.Load(); pl != nil {
		pl.p.wake(pl, false)
	}
}

// forget is unpark for good: the descriptor leaves the epoll set by being closed.
func (c *Conn) forget() {
	c.gone.Store(true)
	if pl := c.parked.Load(); pl != nil {
		pl.p.wake(pl, true)
	}
}

// setTimer makes the timer fire at the earliest deadline, if it would fire later.
func (p *Parker) setTimer() {
	if len(p.due) == 0 {
		return
	}
	at := p.due[0].due
	if p.timerA != 0 && p.timerA <= at {
		return
	}
	p.timerA = at
	d := time.Until(time.Unix(0, at))
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.expire)
		return
	}
	p.timer.Reset(d)
}

// expire resumes what is due.
func (p *Parker) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timerA = 0
	now := time.Now().UnixNano()
	for len(p.due) > 0 && p.due[0].due <= now {
		if resume := p.take(p.due[0]); resume != nil {
			go resume(false)
		}
	}
	if !p.closed {
		p.setTimer()
	}
}

// Parked returns how many connections are parked. It is for statistics and tests.
func (p *Parker) Parked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, pl := range p.slots {
		if pl != nil && pl.resume != nil {
			n++
		}
	}
	return n
}

// Close resumes every parked connection (not readable) and ends the Parker. Connections that
// it watches look for their ends themselves from now on.
func (p *Parker) Close() {
	p.mu.Lock()
	p.closed = true
	for _, pl := range p.slots {
		if pl == nil {
			continue
		}
		if resume := p.take(pl); resume != nil {
			go resume(false)
		}
		if pl.watches {
			pl.watches = false
			pl.c.ended()
		}
	}
	if p.timer != nil {
		p.timer.Stop()
	}
	file, done := p.file, p.done
	p.mu.Unlock()
	if file != nil {
		_ = file.Close() // an epoll descriptor has nothing to lose
		<-done
	}
}
