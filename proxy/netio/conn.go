// Package netio is the proxy's view of sockets: reads that take a slab only when
// there is something to read, writes of several views in one call, deadlines that
// are cheap to move, splicing, parking of idle connections, original destinations,
// dialling and listening.
//
// Reads and writes go to the descriptor inside syscall.RawConn callbacks on the
// runtime's poller. What travels on the sockets is not here.
package netio

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// ErrWouldBlock is what TryReadBuf returns when nothing has arrived.
var ErrWouldBlock = errors.New("netio: would block")

// ErrInterrupted is what a blocked read returns after Interrupt, and a blocked read
// or write after Cut.
var ErrInterrupted = errors.New("netio: interrupted")

// Conn is a stream connection. One goroutine may read while another writes. The
// embedded net.Conn is the connection itself or, after a TLS handshake, the
// encrypted one; Conn's own methods shadow those that would bypass its state.
type Conn struct {
	net.Conn
	raw     syscall.RawConn // nil where the bytes are not those of a descriptor
	r       readOp
	w       writeOp
	turn    turnOp
	end     endWatch
	rec     *Records   // nil unless this is a TLS connection
	pending buffer.Buf // read already, by listener filters: the next read returns it

	readBy, readArmed time.Time // deadline wanted; deadline that the poller knows
	halt              atomic.Uint32
	parked            atomic.Pointer[place] // where a Parker watches it, nil before the first time
	gone              atomic.Bool           // closed: no Parker shall keep it
	ctl               *control
}

// The states of Conn.halt.
const (
	running uint32 = iota
	interrupted
	cut
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// NewConn takes over c. TCP and unix sockets are read and written directly; any
// other connection through its methods.
func NewConn(c net.Conn) *Conn {
	nc := &Conn{Conn: c}
	switch s := c.(type) {
	case *Conn:
		return s
	case *net.TCPConn:
		nc.raw, _ = s.SyscallConn()
	case *net.UnixConn:
		nc.raw, _ = s.SyscallConn()
	}
	nc.r.fn = nc.r.try
	nc.w.fn = nc.w.try
	nc.r.w = &nc.w
	return nc
}

// Direct reports whether c is a plain socket, so that the kernel can splice it.
func (c *Conn) Direct() bool { return c.raw != nil }

// Tries reports whether TryWriteBuf can write anything.
func (c *Conn) Tries() bool { return c.below().raw != nil }

// Parkable reports whether a Parker can watch c: it is a plain socket, or TLS over one.
func (c *Conn) Parkable() bool { return c.below().raw != nil }

// CountInto adds every byte that is read from or written to c from now on to the
// counters; nil counts nothing. Unread bytes are counted at once: nobody has
// counted what listener filters have looked at. It is called before c is used. Over TLS
// these are the bytes inside.
func (c *Conn) CountInto(read, written *stats.Counter) {
	c.r.total, c.w.total = read, written
	c.r.count(c.pending.Len())
}

// Unread puts b in front of what the socket still has to give. It consumes b.
func (c *Conn) Unread(b *buffer.Buf) {
	b.MoveAll(&c.pending)
	c.pending.MoveAll(b)
}

// Pending returns how many unread bytes Conn holds in front of the socket.
func (c *Conn) Pending() int { return c.pending.Len() }

// ReadBuf waits until there is something to read and appends it to b, at most one
// slab. It holds no slab while it waits. It returns io.EOF at the end of the
// stream, os.ErrDeadlineExceeded after the read deadline, ErrInterrupted after
// Interrupt.
func (c *Conn) ReadBuf(b *buffer.Buf) (int, error) { return c.readBuf(b, buffer.SlabSize, false) }

// ReadBufMax is ReadBuf with the most bytes to read.
func (c *Conn) ReadBufMax(b *buffer.Buf, limit int) (int, error) { return c.readBuf(b, limit, false) }

// TryReadBuf is ReadBuf that returns ErrWouldBlock instead of waiting.
func (c *Conn) TryReadBuf(b *buffer.Buf) (int, error) { return c.readBuf(b, buffer.SlabSize, true) }

// minRead is the least room that is worth a system call.
const minRead = 2 << 10

func (c *Conn) readBuf(b *buffer.Buf, limit int, try bool) (int, error) {
	if c.below().halt.Load() != running {
		return 0, ErrInterrupted
	}
	if n := min(c.pending.Len(), limit); n > 0 || limit <= 0 {
		b.Move(&c.pending, max(n, 0))
		return max(n, 0), nil
	}
	if c.raw == nil {
		return c.readThrough(b, limit, try)
	}
	if c.turn.inside {
		if try {
			return c.tryInside(b, limit)
		}
		return 0, errInside
	}
	for {
		c.r.buf, c.r.limit, c.r.once = b, limit, try
		err := c.raw.Read(c.r.fn)
		c.r.buf = nil
		switch {
		case err == nil:
			return c.r.n, c.r.err
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		}
		if err := c.rearm(); err != nil {
			return 0, err
		}
	}
}

// Exchange writes all of out, then reads once into in, as WriteBuf and ReadBuf do, and
// saves the read that would find nothing: the poller is armed before the bytes leave.
// It is for connections on which nothing can arrive before something was sent. What
// does arrive early (an end, unsolicited bytes) may be noticed only when the read
// deadline has passed and the caller reads again, so there must be one. It bounds the write,
// too: after os.ErrDeadlineExceeded with sent false some of out is left, for the next
// Exchange. What arrives while the socket takes no more is returned with sent false.
// sent tells whether out has left. In all other cases out is consumed.
func (c *Conn) Exchange(out, in *buffer.Buf) (n int, sent bool, err error) {
	if c.rec != nil && c.pending.Len() == 0 {
		return c.exchangeRecords(out, in)
	}
	if c.raw == nil || c.pending.Len() > 0 {
		if err := c.WriteBuf(out); err != nil {
			return 0, false, err
		}
		n, err = c.ReadBuf(in)
		return n, true, err
	}
	if c.halt.Load() != running {
		out.Release()
		return 0, false, ErrInterrupted
	}
	for {
		c.r.buf, c.r.limit, c.r.once, c.r.out = in, buffer.SlabSize, false, out
		err := c.raw.Read(c.r.fn)
		sent := c.r.out == nil && out.Len() == 0
		c.r.buf, c.r.out = nil, nil
		switch {
		case err == nil && c.r.err == ErrWouldBlock: // the socket is full
			return c.exchangeFull(out, in)
		case err == nil:
			out.Release()
			return c.r.n, sent, c.r.err
		case !errors.Is(err, os.ErrDeadlineExceeded):
			out.Release()
			return 0, sent, err
		}
		switch err := c.rearm(); {
		case err == nil && !sent:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded) && !sent:
			// Time was up before anything was done, on a machine that is busy or throttled.
			// That says nothing about the bytes that have to leave.
			if err := c.TryWriteBuf(out); err != nil {
				return 0, false, c.unsent(out, err)
			}
		case err != nil:
			out.Release()
			return 0, sent, err
		}
		n, err := c.ReadBuf(in)
		return n, true, err
	}
}

// exchangeFull is Exchange on a socket that takes no more. The peer may have answered what it
// does not want to read.
func (c *Conn) exchangeFull(out, in *buffer.Buf) (n int, sent bool, err error) {
	switch n, err := c.TryReadBuf(in); {
	case err == nil:
		out.Release()
		return n, false, nil
	case !errors.Is(err, ErrWouldBlock):
		return 0, false, c.unsent(out, err)
	}
	if !c.readBy.IsZero() {
		_ = c.SetWriteDeadline(c.readBy) // fails only on a closed socket, as the wait will
		defer c.SetWriteDeadline(time.Time{})
	}
	stall := c.w.stall
	c.w.buf, c.w.err, c.w.stall = out, nil, 0
	err = c.raw.Write(c.w.fn)
	c.w.buf, c.w.stall = nil, stall
	if err == nil {
		err = c.w.err
	}
	if err != nil {
		return 0, false, c.unsent(out, c.why(err))
	}
	out.Release()
	n, err = c.ReadBuf(in)
	return n, true, err
}

// unsent keeps what is left of a write that another one may go on with.
func (c *Conn) unsent(out *buffer.Buf, err error) error {
	if errors.Is(err, ErrWouldBlock) || errors.Is(err, os.ErrDeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	out.Release()
	return err
}

// IsTimeout reports whether a deadline of ours has passed. ETIMEDOUT, which a peer that has
// vanished leaves, is a Timeout to package net, but a broken connection.
func IsTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// rearm is called when the poller's deadline has passed: it tells whether the
// deadline that was asked for has, too, and otherwise moves the poller's.
func (c *Conn) rearm() error {
	if c.halt.Load() != running {
		return ErrInterrupted
	}
	if !c.readBy.IsZero() && !time.Now().Before(c.readBy) {
		return os.ErrDeadlineExceeded
	}
	if err := c.arm(c.readBy); err != nil {
		return err
	}
	if c.halt.Load() != running {
		return ErrInterrupted
	}
	return nil
}

// arm tells the poller a deadline. An Interrupt that came just before must not be
// undone by it: whoever stores second restores the deadline in the past.
func (c *Conn) arm(t time.Time) error {
	c.readArmed = t
	err := c.Conn.SetReadDeadline(t)
	if c.halt.Load() != running {
		_ = c.Conn.SetReadDeadline(longAgo) // fails only on a closed socket
	}
	return err
}

// below returns what c waits on, is interrupted and has its deadlines at: the connection
// that TLS goes over, or c itself.
func (c *Conn) below() *Conn {
	if c.rec != nil {
		return c.rec.under
	}
	return c
}

// readThrough reads from a connection that is no plain socket.
func (c *Conn) readThrough(b *buffer.Buf, limit int, dontWait bool) (int, error) {
	switch {
	case c.rec != nil && dontWait:
		return c.readRecords(b, limit, try)
	case c.rec != nil:
		return c.readRecords(b, limit, wait)
	case dontWait:
		return 0, ErrWouldBlock
	}
	for {
		room := b.Reserve(minRead)
		n, err := c.Conn.Read(room[:min(len(room), limit)])
		b.Commit(n)
		if n > 0 {
			c.r.count(n)
			return n, nil
		}
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		if err := c.rearm(); err != nil {
			return 0, err
		}
	}
}

// Read implements net.Conn. It returns unread bytes first.
func (c *Conn) Read(p []byte) (int, error) {
	if c.pending.Len() > 0 {
		n := c.pending.CopyTo(p)
		c.pending.Discard(n)
		return n, nil
	}
	if c.rec != nil {
		var b buffer.Buf
		n, err := c.readRecords(&b, len(p), wait)
		b.CopyTo(p)
		b.Release()
		return n, err
	}
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			c.r.count(n)
			return n, err
		}
		if err := c.rearm(); err != nil {
			return 0, err
		}
	}
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.w.count(n)
	return n, c.below().why(err)
}

// WriteBuf writes all of b, several views in one system call, and releases what
// was written; on an error it releases the rest, too: it consumes b.
func (c *Conn) WriteBuf(b *buffer.Buf) error {
	if c.rec != nil {
		return c.writeRecords(b)
	}
	if b.Len() == 0 {
		b.Release()
		return nil
	}
	if c.raw == nil {
		defer b.Release()
		for p := range b.Views() {
			c.w.limit() // it may have to wait
			if _, err := c.Write(p); err != nil {
				return err
			}
		}
		return nil
	}
	if c.turn.inside {
		return c.writeFD(c.turn.fd, b)
	}
	c.w.buf, c.w.err = b, nil
	err := c.raw.Write(c.w.fn)
	c.w.settle()
	c.w.buf = nil
	b.Release()
	if err == nil {
		return c.w.err
	}
	return c.why(err)
}

// TryWriteBuf writes what the socket takes without waiting, and releases that. It
// returns ErrWouldBlock if some of b is left, which is then still the caller's; after
// any other error it is, too. On a TLS connection nothing of b may be left then: WriteBuf, or
// another TryWriteBuf, sends what waits inside, even if it is given nothing. Connections that
// are neither plain sockets nor TLS over one take nothing.
func (c *Conn) TryWriteBuf(b *buffer.Buf) error {
	if c.rec != nil {
		return c.tryWriteRecords(b)
	}
	if b.Len() == 0 {
		return nil
	}
	if c.raw == nil {
		return ErrWouldBlock
	}
	c.w.buf, c.w.once, c.w.err = b, true, nil
	err := c.raw.Write(c.w.fn)
	c.w.buf, c.w.once = nil, false
	if err == nil {
		return c.w.err
	}
	return c.why(err)
}

// why replaces the deadline in the past that Cut sets by what it means.
func (c *Conn) why(err error) error {
	if err != nil && c.halt.Load() == cut && errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrInterrupted
	}
	return err
}

// SetReadDeadline sets when a blocked read gives up; the zero time is never. It is
// cheap to move into the future: the poller learns of it only when an earlier
// deadline has passed. It is called by the goroutine that reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c = c.below()
	c.readBy = t
	if t.IsZero() || (!c.readArmed.IsZero() && !t.Before(c.readArmed)) {
		return nil
	}
	return c.arm(t)
}

// SetWriteDeadline sets when a blocked write gives up; the zero time is never.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c = c.below()
	err := c.Conn.SetWriteDeadline(t)
	if c.halt.Load() == cut {
		_ = c.Conn.SetWriteDeadline(longAgo) // fails only on a closed socket
	}
	return err
}

// LimitStall makes writes fail with os.ErrDeadlineExceeded when the peer has taken
// nothing for d; 0 is never. It costs nothing while the socket has room, and replaces
// SetWriteDeadline. It is called by the goroutine that writes.
func (c *Conn) LimitStall(d time.Duration) {
	c = c.below()
	c.w.conn, c.w.stall = c, d
}

// CountStalls counts writes that have to wait for room in the socket. It is called by the
// goroutine that writes, and costs nothing while there is room.
func (c *Conn) CountStalls(s Stalls) { c.below().w.stalls[0] = s }

// CountStallsFor is CountStalls for whoever the bytes come from, besides.
func (c *Conn) CountStallsFor(s Stalls) { c.below().w.stalls[1] = s }

// LimitWait makes a write fail with os.ErrDeadlineExceeded when it has waited for room for
// d in all, however slowly the peer reads; 0 is never. It is called before c is used.
func (c *Conn) LimitWait(d time.Duration) {
	c = c.below()
	c.w.conn, c.w.most = c, d
}

// Stuck reports, after a write has failed with os.ErrDeadlineExceeded, whether that was
// LimitWait.
func (c *Conn) Stuck() bool {
	by := c.below().w.by
	return !by.IsZero() && !time.Now().Before(by)
}

// StallLimit returns the limit that LimitStall has set, 0 is none.
func (c *Conn) StallLimit() time.Duration { return c.below().w.stall }

// SetDeadline sets the deadlines of both directions.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Interrupt makes a read that is blocked in another goroutine, and every later
// one, return ErrInterrupted until Resume. A parked connection is woken.
func (c *Conn) Interrupt() {
	c = c.below()
	c.halt.CompareAndSwap(running, interrupted)
	_ = c.Conn.SetReadDeadline(longAgo) // fails only on a closed socket, whose reads end anyway
	c.unpark()
}

// Cut is Interrupt for reads and writes, for good: it ends what other goroutines do
// with the connection without closing it under their hands.
func (c *Conn) Cut() {
	c = c.below()
	c.halt.Store(cut)
	_ = c.Conn.SetDeadline(longAgo) // as in Interrupt
	c.unpark()
}

// Resume ends an interruption. No read may be under way.
func (c *Conn) Resume() {
	c = c.below()
	if c.halt.CompareAndSwap(interrupted, running) {
		_ = c.arm(c.readBy) // fails only on a closed socket
	}
}

// CloseWrite ends the direction towards the peer (FIN).
func (c *Conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection and releases unread bytes. No read may be under
// way in another goroutine that still uses unread bytes. A parked connection is
// woken; its reads fail.
func (c *Conn) Close() error {
	if c.turn.inside {
		c.turn.closing = true // closing waits for reads, and one is under way
		return nil
	}
	if c.rec != nil {
		c.rec.bye.Store(true) // the farewell must not wait
	}
	c.forget()
	if c.pending.Len() > 0 { // without any, a read in another goroutine does not mind
		c.pending.Release()
	}
	return c.Conn.Close()
}

// Abort closes the connection with a reset (RST) instead of an orderly end.
func (c *Conn) Abort() error {
	if c.rec != nil {
		_ = c.rec.under.Abort() // what follows finds it closed
		return c.Close()
	}
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // a socket that is gone needs no reset
	}
	return c.Close()
}

var _ io.ReadWriteCloser = (*Conn)(nil)
