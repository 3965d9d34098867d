package h2

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// ResetError is what the peer's RST_STREAM makes of reads and writes.
type ResetError struct {
	Code ErrCode
}

func (e *ResetError) Error() string {
	return fmt.Sprintf("h2: stream reset by the peer (error code %d)", e.Code)
}

// Is makes it codec.ErrReset, and REFUSED_STREAM codec.ErrRefused.
func (e *ResetError) Is(target error) bool {
	return target == codec.ErrReset || target == codec.ErrRefused && e.Code == RefusedStream
}

// errNotLookedAt is the error of a stream that the peer's GOAWAY says it has not looked at.
var errNotLookedAt = &ResetError{Code: RefusedStream}

// Errors of the caller, not of the peer: nothing was written.
var (
	errAfterEnd  = errors.New("h2: write after the end of the message")
	errNoHead    = errors.New("h2: body before the head")
	errTwoHeads  = errors.New("h2: second head")
	errBadField  = errors.New("h2: field with characters that are not allowed")
	errBadTarget = errors.New("h2: :method, :path, :scheme or :authority is missing")
	errBadStatus = errors.New("h2: :status is no number from 100 to 999")
	errNoHeads   = errors.New("h2: no head to read")
	errReset     = errors.New("h2: stream was reset")
)

// stream is what both sides of a stream have in common. It belongs to one connection
// from its beginning until Release; the connection's lock guards all of it that is
// shared, which is nearly everything.
type stream struct {
	c  *conn
	id uint32 // 0: not opened yet

	rd, wr sync.Cond // one reader, one writer

	// Receiving.
	fields      []header.Field // heads that were not read, one after the other
	marks       []int          // where they end in fields
	taken       []header.Field // of the last one that was read: memory for the next
	final       bool           // the final head has come
	small       []byte         // the first bytes of the body that were not read, if they are few
	in          buffer.Buf     // and those after them
	trailers    []header.Field
	hasTrailers bool
	remoteEnd   bool
	noBody      bool  // the message has none, whatever content-length says
	left        int64 // of the body by content-length; -1: not known
	recvWin     int64
	consumed    int64
	readBy      time.Time
	interrupted bool

	// Sending.
	sendWin  int64
	headed   bool // the final head was written
	localEnd bool
	unwanted bool          // the peer takes no more and that is no error
	starved  bool          // waits for the connection's window, in c.starved
	stall    time.Duration // how long a write waits for a window; 0: for ever
	stallBy  time.Time
	bodiless bool // what we send has no body: it is only described
	granted  int  // bytes of the body that Fits has promised not to wait for
	stopped  bool // StopWriting was called

	err      error  // reset, or the end of the connection
	gone     bool   // not in the connection's map any more
	deferred bool   // gone while something of it was unread
	onGone   func() // see codec.Shared
	upgrade  string
	upgraded bool

	wireIn, wireOut codec.Wire
}

func (s *stream) begin(c *conn) {
	s.c = c
	s.rd.L, s.wr.L = &c.mu, &c.mu
	s.left, s.stall = -1, c.opt.Stall
	s.sendWin, s.recvWin = c.peer.window, c.lim.streamWindow
}

// reset prepares s for another life.
func (s *stream) reset() {
	s.in.Release()
	fields, marks, taken, trailers, small := s.fields, s.marks, s.taken, s.trailers, s.small
	if cap(small) > keepSmall {
		small = nil
	}
	for _, f := range [][]header.Field{fields, taken, trailers} {
		clear(f[:cap(f)])
	}
	*s = stream{fields: fields[:0], marks: marks[:0], taken: taken[:0], trailers: trailers[:0], small: small[:0]}
}

// addHead queues a head. The lock is held.
func (s *stream) addHead(h *head) {
	s.fields = append(s.fields, h.fields...)
	s.marks = append(s.marks, len(s.fields))
}

// expect notes what a final head says about the body.
func (s *stream) expect(length int64, status int) {
	s.left = length
	if s.noBody || status == 204 || status == 304 {
		s.noBody, s.left = true, -1
	}
}

// failLocked ends both directions with an error. What has arrived as a whole can still
// be read.
func (s *stream) failLocked(err error) {
	if s.err == nil {
		s.err = err
		if s.onGone != nil {
			s.onGone()
		}
	}
	s.rd.Signal()
	s.wr.Signal()
	s.c.room.Broadcast()
}

// closeStream takes a stream out of the connection's map: the peer does not count it
// any more. The lock is held.
func (c *conn) closeStream(s *stream) {
	if s.gone {
		return
	}
	s.gone = true
	delete(c.streams, s.id)
	c.open--
	c.stats.StreamsActive.Dec()
	if s.unread() > 0 || s.hasTrailers {
		c.stats.DeferredStreamClose.Inc()
		s.deferred = true
	}
}

// waitRead waits for something to happen to the receiving side. The lock is held.
func (s *stream) waitRead() error {
	switch {
	case s.err != nil:
		return s.err
	case s.interrupted:
		return netio.ErrInterrupted
	case !s.readBy.IsZero() && !time.Now().Before(s.readBy):
		return os.ErrDeadlineExceeded
	}
	s.c.flush() // nobody waits while something of ours stays behind
	if s.err == nil && !s.interrupted && !s.readable() {
		s.rd.Wait()
	}
	return nil
}

func (s *stream) readable() bool { return s.unread() > 0 || len(s.marks) > 0 || s.remoteEnd }

// unread is how many bytes of the body have come and were not read.
func (s *stream) unread() int { return len(s.small) + s.in.Len() }

// ReadData implements codec.Stream.
func (s *stream) ReadData(b *buffer.Buf) (codec.Next, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if n := s.unread(); n > 0 {
			b.Append(s.small)
			s.small = s.small[:0]
			b.MoveAll(&s.in)
			c.creditStream(s, int64(n))
			return s.next(), nil
		}
		if s.remoteEnd {
			return s.next(), nil
		}
		if err := s.waitRead(); err != nil {
			return codec.Data, err
		}
	}
}

// next tells what follows. The lock is held.
func (s *stream) next() codec.Next {
	switch {
	case !s.remoteEnd || s.unread() > 0:
		return codec.Data
	case s.hasTrailers:
		return codec.Trailers
	}
	return codec.End
}

// BufferedData implements codec.Stream.
func (s *stream) BufferedData() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.unread() > 0 || s.remoteEnd
}

// ReadTrailers implements codec.Stream.
func (s *stream) ReadTrailers(m *header.Map) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.hasTrailers || !s.remoteEnd {
		return errNoHeads
	}
	fill(m, s.trailers)
	s.hasTrailers = false
	return nil
}

func fill(m *header.Map, fields []header.Field) {
	for i := range fields {
		m.AddKnown(fields[i].ID, fields[i].Name, fields[i].Value)
	}
}

// takeHead waits for a head and returns its fields, valid until the next call.
func (s *stream) takeHead() ([]header.Field, error) {
	for len(s.marks) == 0 {
		if s.remoteEnd && s.err == nil {
			return nil, errNoHeads
		}
		if err := s.waitRead(); err != nil {
			return nil, err
		}
	}
	n := s.marks[0]
	s.taken = append(s.taken[:0], s.fields[:n]...)
	s.fields = append(s.fields[:0], s.fields[n:]...)
	s.marks = append(s.marks[:0], s.marks[1:]...)
	for i := range s.marks {
		s.marks[i] -= n
	}
	return s.taken, nil
}

// WriteData implements codec.Stream. A nil b is an empty one. Ending a message that has
// ended already is no error.
func (s *stream) WriteData(b *buffer.Buf, end bool) error { return writeError(s.writeData(b, end)) }

func (s *stream) writeData(b *buffer.Buf, end bool) error {
	var none buffer.Buf
	if b == nil {
		b = &none
	}
	defer b.Release()
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.localEnd && b.Len() == 0 || s.unwanted {
		return nil
	}
	if s.bodiless {
		b.Release()
	}
	err := s.putAll(b, end)
	c.wakeStarved() // the window of the connection is the next one's, whatever has become of us
	if err != nil || !end || s.unwanted {
		return err
	}
	s.endLocal()
	c.flush()
	return s.err
}

// putAll queues a body, or a part of it. The lock is held.
func (s *stream) putAll(b *buffer.Buf, end bool) error {
	c := s.c
	for first := true; first || b.Len() > 0; first = false {
		if s.unwanted { // the peer may say so while we write
			return nil
		}
		if err := s.writable(); err != nil {
			return err
		}
		if b.Len() == 0 && !end {
			return nil
		}
		n := int(min(int64(b.Len()), s.sendWin, c.sendWin, int64(c.peer.frame)))
		if b.Len() > 0 && n <= 0 {
			if err := s.waitWindow(b.Len()); err != nil || s.unwanted {
				return err
			}
			continue
		}
		c.putData(s, b, n, end && n == b.Len())
		if s.granted -= n; s.granted <= 0 {
			s.granted = 0
			c.waitRoom(s)
		}
	}
	return s.err
}

// writable reports whether a body, or its end, may be written. The lock is held.
func (s *stream) writable() error {
	switch {
	case s.err != nil:
		return s.err
	case s.c.err != nil:
		return s.c.streamError(s.c.err)
	case s.stopped:
		return netio.ErrInterrupted
	case !s.headed:
		return errNoHead
	case s.localEnd:
		return errAfterEnd
	}
	return nil
}

// Fits implements codec.Patient. What it says yes to may make the queue longer than it is
// for others, once.
func (s *stream) Fits(n int) bool {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.granted = 0
	if s.err != nil || s.unwanted {
		return true
	}
	if int64(n) > min(s.sendWin, c.sendWin) {
		return false
	}
	if c.queueFull() {
		c.flush()
	}
	if c.queueFull() {
		return false
	}
	s.granted = n + 1 // also where there is only an end
	return true
}

// waitWindow waits for the peer to open a window. n bytes wait meanwhile.
func (s *stream) waitWindow(n int) error {
	c := s.c
	c.flush()
	if s.err != nil || s.sendWin > 0 && c.sendWin > 0 {
		return s.err
	}
	if d := s.stall; d > 0 {
		s.stallBy = time.Now().Add(d)
		c.arm(s.stallBy)
	}
	c.stats.PendingSendBytes.Add(int64(n))
	for s.err == nil && !s.unwanted && !s.stopped && (s.sendWin <= 0 || c.sendWin <= 0) {
		if s.sendWin <= 0 {
			c.wakeStarved() // it is not that of the connection that we wait for
		} else if !s.starved {
			s.starved = true
			c.starved = append(c.starved, s)
		}
		s.wr.Wait()
		if !s.stallBy.IsZero() && !time.Now().Before(s.stallBy) && (s.sendWin <= 0 || c.sendWin <= 0) {
			c.stats.TxFlushTimeout.Inc()
			s.failLocked(ErrStalled)
		}
	}
	c.stats.PendingSendBytes.Add(-int64(n))
	c.unstarve(s)
	s.stallBy = time.Time{}
	return s.err
}

// endLocal is called when the end of our message was queued. The lock is held.
func (s *stream) endLocal() {
	s.localEnd = true
	if s.remoteEnd {
		s.c.closeStream(s)
	}
}

// Flush implements codec.Stream.
func (s *stream) Flush() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.flush()
	return writeError(s.err)
}

// Upgraded implements codec.Stream.
func (s *stream) Upgraded() bool { return s.upgraded }

// Raw implements codec.Stream: what is on the socket are frames.
func (s *stream) Raw() (codec.RawStream, bool) { return nil, false }

// Protocol implements codec.Stream.
func (s *stream) Protocol() meta.Protocol { return meta.HTTP2 }

// SetReadDeadline implements codec.Stream.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.readBy = t
	s.c.arm(t)
	return nil
}

// Interrupt implements codec.Stream. It lasts until Release.
func (s *stream) Interrupt() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.interrupted = true
	s.rd.Signal()
}

// Reset implements codec.Stream. What waits in the stream's reads and writes fails.
func (s *stream) Reset(why codec.Reset) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.giveUp(resetCode(why))
	c.flushNow()
}

// giveUp resets a stream that is not over. The lock is held.
func (s *stream) giveUp(code ErrCode) {
	if s.id != 0 && !s.gone {
		s.c.resetStream(s, code, errReset)
		return
	}
	s.failLocked(errReset)
}

func resetCode(why codec.Reset) ErrCode {
	switch why {
	case codec.ResetInternal:
		return InternalError
	case codec.ResetRefused:
		return RefusedStream
	case codec.ResetProtocol:
		return ProtocolError
	}
	return Cancel
}

// WireBytes implements codec.Stream.
func (s *stream) WireBytes() (read, written codec.Wire) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.wireIn, s.wireOut
}

// release gives back what the stream holds and takes it off the connection. The lock
// is held.
func (s *stream) release() {
	c := s.c
	if n := s.unread(); n > 0 {
		s.small = s.small[:0]
		s.in.Release()
		c.credit(int64(n))
	}
	if s.deferred {
		c.stats.DeferredStreamClose.Dec()
	}
	c.unstarve(s)
	c.held--
}
