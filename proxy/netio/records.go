package netio

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// The record layer of TLS as far as it is looked at here (RFC 8446 section 5.1).
const (
	recordHeader = 5
	maxFragment  = 16 << 10 // the most bytes that leave in one record
)

// Records is the net.Conn that a TLS connection is given for its records. It hands out
// what has arrived up to the end of a record and not more, so that between reads nothing
// is hidden inside the TLS connection: whoever waits waits on the socket, without a
// buffer, in turns, or parked.
type Records struct {
	under *Conn
	in    buffer.Buf // arrived, not handed out
	out   buffer.Buf // records that have to leave before others: of Exchange, or of a write that did not wait
	rest  int        // how much of the record that was begun is not handed out
	more  bool       // the last read may have left plain bytes behind
	mode  readMode
	hold  bool        // writes are collected in out
	bye   atomic.Bool // the connection is being closed: writes do not wait
	err   error       // what a read has really failed with, where that is not final

	sending sync.Mutex  // guards out, but for Exchange, during which nobody else writes
	noWait  atomic.Bool // writes leave in out what the socket does not take

	users atomic.Int32 // reads and writes under way, and whether it is closed
	turn  func() bool  // made once
	lost  func(error)  // is told the first read that fails for good
	each  struct {
		b   *buffer.Buf
		f   func() bool
		err error
	}
}

// readMode is what a read does when there is not enough.
type readMode uint8

const (
	wait readMode = iota
	try           // look at the socket
	none          // nothing
)

// maxLeft is how many bytes of records wait in memory at most before a write waits after
// all: answers to a peer that only asks (KeyUpdate) are bounded so.
const maxLeft = 64 << 10

// shut is added to Records.users by Close.
const shut = 1 << 16

// NewRecords returns what the TLS connection over c is made of. c belongs to it.
func NewRecords(c *Conn) *Records { return &Records{under: c} }

// Over returns the Conn of a TLS connection that was made of r and has completed its
// handshake. lost, if not nil, is called once, with what a read has failed with.
func (r *Records) Over(tls net.Conn, lost func(error)) *Conn {
	c := NewConn(tls)
	c.rec, r.lost = r, lost
	r.turn = func() bool { return c.recordTurn() }
	return c
}

// Read implements net.Conn, for the TLS connection.
func (r *Records) Read(p []byte) (int, error) {
	for !r.begun() {
		switch err := r.fill(); {
		case err == nil:
			continue
		case err == io.EOF && r.in.Len() > 0:
			r.rest = r.in.Len() // less than a header: whoever reads it finds it cut off
		default:
			return 0, r.fail(err)
		}
	}
	n := r.in.CopyTo(p[:min(len(p), r.rest)])
	r.in.Discard(n)
	r.rest -= n
	return n, nil
}

// begun makes sure that the next bytes are known to be of one record, and there.
func (r *Records) begun() bool {
	if r.rest == 0 {
		h, ok := r.in.Peek(recordHeader)
		if !ok {
			return false
		}
		r.rest = recordHeader + int(h[3])<<8 + int(h[4])
	}
	return r.in.Len() > 0
}

// whole reports whether there is a whole record, or the rest of one.
func (r *Records) whole() bool { return r.begun() && r.in.Len() >= r.rest }

func (r *Records) fill() error {
	if r.mode == none {
		return ErrWouldBlock
	}
	_, err := r.under.readBuf(&r.in, buffer.SlabSize, r.mode == try)
	return err
}

// fail returns what the TLS connection is told: it takes an error for its end unless that
// is temporary.
func (r *Records) fail(err error) error {
	if temporary(err) {
		r.err = err
		return os.ErrDeadlineExceeded
	}
	return err
}

func temporary(err error) bool {
	return errors.Is(err, ErrWouldBlock) || errors.Is(err, ErrInterrupted) || errors.Is(err, errInside) || errors.Is(err, os.ErrDeadlineExceeded)
}

// why returns what a read of the TLS connection has really failed with.
func (r *Records) why(err error) error {
	if real := r.err; real != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		r.err = nil
		return real
	}
	return err
}

// Write implements net.Conn, for the TLS connection, which writes one record at a time.
func (r *Records) Write(p []byte) (int, error) {
	if r.hold {
		r.out.Append(p)
		return len(p), nil
	}
	r.sending.Lock()
	defer r.sending.Unlock()
	if !r.noWait.Load() || r.out.Len() >= maxLeft {
		if err := r.sendLeft(r.bye.Load()); err != nil {
			return 0, err
		}
		return r.under.writeFlat(p, r.bye.Load())
	}
	n := 0
	if r.out.Len() == 0 {
		var err error
		if n, err = r.under.writeFlat(p, true); err != nil && !errors.Is(err, ErrWouldBlock) {
			return n, err
		}
	}
	r.out.Append(p[n:])
	return len(p), nil
}

// sendLeft sends the records that wait in out. The lock is held.
func (r *Records) sendLeft(once bool) error {
	switch {
	case r.out.Len() == 0:
		return nil
	case once:
		return r.under.TryWriteBuf(&r.out)
	}
	return r.under.WriteBuf(&r.out)
}

// Close implements net.Conn, for the TLS connection.
func (r *Records) Close() error {
	err := r.under.Close()
	if r.users.Or(shut) == 0 {
		r.release()
	}
	return err
}

func (r *Records) release() {
	r.in.Release()
	r.out.Release()
}

func (r *Records) enter() { r.users.Add(1) }

// leave releases what Close could not, because a read or a write was under way.
func (r *Records) leave() {
	if r.users.Add(-1) == shut {
		r.release()
	}
}

// LocalAddr implements net.Conn.
func (r *Records) LocalAddr() net.Addr { return r.under.LocalAddr() }

// RemoteAddr implements net.Conn.
func (r *Records) RemoteAddr() net.Addr { return r.under.RemoteAddr() }

// SetDeadline implements net.Conn. Deadlines are those of the connection below, and set
// there.
func (r *Records) SetDeadline(time.Time) error { return nil }

// SetReadDeadline is like SetDeadline.
func (r *Records) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline is like SetDeadline.
func (r *Records) SetWriteDeadline(time.Time) error { return nil }

// readRecords is readBuf through a TLS connection.
func (c *Conn) readRecords(b *buffer.Buf, limit int, mode readMode) (int, error) {
	r := c.rec
	r.enter()
	defer r.leave()
	r.mode = mode
	defer func() { r.mode = wait }()
	want := minRead
	if !r.more {
		for !r.begun() { // without a slab for what is not there
			err := r.fill()
			if err == io.EOF {
				break // for TLS to judge
			}
			if err != nil {
				return 0, err
			}
		}
		want = max(r.rest, 1)
	}
	room := b.Reserve(min(want, limit, buffer.SlabSize))
	room = room[:min(len(room), limit)]
	n, err := c.Conn.Read(room)
	b.Commit(n)
	r.more = n == len(room)
	if n > 0 {
		c.r.count(n)
		return n, nil
	}
	if err = r.why(err); r.lost != nil && !temporary(err) {
		r.lost(err)
		r.lost = nil
	}
	return 0, err
}

// writeRecords is WriteBuf through a TLS connection: small views leave together, in one
// record.
func (c *Conn) writeRecords(b *buffer.Buf) error {
	defer b.Release()
	r := c.rec
	r.enter()
	defer r.leave()
	if r.noWait.Swap(false) {
		defer r.noWait.Store(true)
		r.sending.Lock()
		err := r.sendLeft(false)
		r.sending.Unlock()
		if err != nil {
			return err
		}
	}
	for b.Len() > 0 {
		if err := c.writeRecord(b); err != nil {
			return err
		}
	}
	return nil
}

// writeRecord encrypts and writes the front of b.
func (c *Conn) writeRecord(b *buffer.Buf) error {
	p := b.First()
	if len(p) < maxFragment/2 && b.Segments() > 1 {
		p, _ = b.Peek(min(b.Len(), maxFragment))
	}
	n, err := c.Conn.Write(p)
	c.w.count(n)
	if err != nil {
		return c.rec.under.why(err)
	}
	b.Discard(n)
	return nil
}

// tryWriteRecords is TryWriteBuf through a TLS connection. What is encrypted can't be taken
// back: the rest of a record that the socket does not take waits in Records.
func (c *Conn) tryWriteRecords(b *buffer.Buf) error {
	r := c.rec
	if r.under.raw == nil {
		if b.Len() == 0 {
			return nil
		}
		return ErrWouldBlock
	}
	r.enter()
	defer r.leave()
	r.noWait.Store(true)
	for {
		r.sending.Lock()
		err := r.sendLeft(true)
		r.sending.Unlock()
		if err != nil || b.Len() == 0 {
			return err
		}
		if err := c.writeRecord(b); err != nil {
			return err
		}
	}
}

// exchangeRecords is Exchange through a TLS connection.
func (c *Conn) exchangeRecords(out, in *buffer.Buf) (n int, sent bool, err error) {
	r := c.rec
	if r.under.raw == nil || r.more || r.in.Len() > 0 {
		if err := c.writeRecords(out); err != nil {
			return 0, false, err
		}
		n, err := c.readRecords(in, buffer.SlabSize, wait)
		return n, true, err
	}
	r.enter()
	defer r.leave()
	r.hold = true
	err = c.writeRecords(out)
	r.hold = false
	if err != nil {
		r.out.Release()
		return 0, false, err
	}
	if _, sent, err = r.under.Exchange(&r.out, &r.in); err != nil && err != io.EOF {
		return 0, sent, err // what is left of out waits there
	}
	n, err = c.readRecords(in, buffer.SlabSize, wait)
	return n, sent, err
}

// eachRecord is ReadEach through a TLS connection: the turns run inside one read of the
// socket below.
func (c *Conn) eachRecord(b *buffer.Buf, f func() bool) error {
	r := c.rec
	r.enter()
	defer r.leave()
	r.each.b, r.each.f, r.each.err = b, f, nil
	defer func() { r.each.b, r.each.f = nil, nil }()
	if !c.recordTurn() {
		return r.each.err
	}
	err := r.under.ReadEach(&r.in, r.turn)
	switch {
	case r.each.err != nil:
		return r.each.err
	case err == io.EOF:
		_, err = c.readRecords(b, buffer.SlabSize, wait) // for TLS to judge
	}
	return err
}

// recordTurn runs a turn for everything that is there, and reports whether to wait for
// more.
func (c *Conn) recordTurn() bool {
	r := c.rec
	for r.more || r.whole() {
		switch _, err := c.readRecords(r.each.b, buffer.SlabSize, none); {
		case errors.Is(err, ErrWouldBlock): // it was nothing for the application
		case err != nil:
			r.each.err = err
			return false
		case !r.each.f():
			return false
		}
	}
	return true
}

// idle reports whether nothing that has arrived waits to be read.
func (r *Records) idle() bool { return !r.more && !r.whole() }
