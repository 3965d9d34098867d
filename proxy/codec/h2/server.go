package h2

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// ServerConn is the server side of a connection. The goroutine that calls Accept is the
// one that reads: streams move only while it is there.
type ServerConn struct {
	conn
	opt     ServerOptions
	preface bool // the client's connection preface has been read
	fresh   *ServerStream

	// The lock guards these.
	waiting    bool // Accept waits for the socket
	woken      bool // it was interrupted, by us
	idled      bool // because no stream was there for too long
	idleAfter  time.Duration
	idleSince  time.Time
	headBy     time.Time // when the header section that was begun has to be complete; zero: there is none. The goroutine of Accept writes it
	draining   bool
	final      bool // the second GOAWAY was sent
	drainTimer *time.Timer
}

// NewServer takes over c, with what is unread in it. Nothing is sent before Accept.
func NewServer(c *netio.Conn, o ServerOptions) *ServerConn {
	s := &ServerConn{opt: o}
	s.begin(c, &s.opt.Options, DefaultMaxHeadersKB)
	s.server = true
	s.underscores = o.Underscores
	s.resetBurst = float64(pick(o.StreamResetBurst, DefaultStreamResetBurst))
	s.resetRate = float64(pick(o.StreamResetRate, DefaultStreamResetRate))
	s.newStream, s.changed, s.acked, s.onTick = s.open, func() {}, s.pong, s.tick
	set := []Setting{{settingMaxStreams, s.lim.streams}}
	if o.AllowConnect {
		set = append(set, Setting{settingEnableConnect, 1})
	}
	s.sendSettings(set...)
	s.mu.Lock()
	s.keepalive.start(&s.conn, time.Now())
	s.mu.Unlock()
	return s
}

// SetIdleTimeout makes Accept return ErrIdle when the connection has been
// without a stream for d, counted from the call of Accept at the earliest; 0 is never.
func (s *ServerConn) SetIdleTimeout(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idleAfter = d
}

// Accept implements codec.ServerConn. It also does all reading for the streams that are
// under way, so it is called again at once, until it returns an error; each stream is
// served on another goroutine. ErrIdle is that of SetIdleTimeout, and Accept may be
// called again. After any other error the streams that are not complete
// fail; when all are released, Close is called. A *codec.ProtocolError is the client's
// fault, and it was told.
func (s *ServerConn) Accept() (codec.ServerStream, error) {
	s.mu.Lock()
	s.startIdle()
	s.mu.Unlock()
	for {
		more, err := s.next()
		if st := s.fresh; st != nil {
			s.fresh = nil
			return st, nil // an error comes up again
		}
		if err != nil {
			return nil, err
		}
		if more {
			continue
		}
		if err := s.watchHead(); err != nil {
			return nil, err
		}
		if err := s.wait(); err != nil {
			return nil, err
		}
	}
}

// AcceptEach is Accept that calls f with each stream, and goes on until there is an error.
// f must not wait for the connection. It saves a look at the socket for each read.
func (s *ServerConn) AcceptEach(f func(codec.ServerStream)) error {
	s.mu.Lock()
	s.startIdle()
	s.mu.Unlock()
	var bad error
	turn := func() bool {
		s.heard()
		if bad = s.serve(f); bad == nil {
			bad = s.watchHead()
		}
		if bad == nil {
			bad = s.beginWait()
		}
		return bad == nil
	}
	if bad = s.serve(f); bad == nil {
		bad = s.watchHead()
	}
	if bad != nil {
		return bad
	}
	return s.waitWith(func() error {
		err := s.sock.ReadShared(&s.in, turn)
		if bad != nil {
			return &ended{bad}
		}
		return err
	})
}

// ended is an error that needs no other look.
type ended struct{ error }

// serve handles the frames that are at hand, and calls f with the streams that begin.
func (s *ServerConn) serve(f func(codec.ServerStream)) error {
	for {
		more, err := s.next()
		if st := s.fresh; st != nil {
			s.fresh = nil
			f(st)
			continue // an error comes up again
		}
		if err != nil || !more {
			return err
		}
	}
}

// next handles what is at the front of what was read.
func (s *ServerConn) next() (more bool, err error) {
	if s.preface {
		return s.step()
	}
	n := min(s.in.Len(), len(clientPreface))
	p, _ := s.in.Peek(n)
	if string(p) != clientPreface[:n] {
		return false, s.end(protocol("no connection preface"))
	}
	if n < len(clientPreface) {
		return false, nil
	}
	s.in.Discard(n)
	s.preface = true
	return true, nil
}

// wait reads more.
func (s *ServerConn) wait() error { return s.waitWith(s.fill) }

// waitWith waits by read.
func (s *ServerConn) waitWith(read func() error) error {
	for {
		if err := s.beginWait(); err != nil {
			return err
		}
		err := read()
		again, idle := s.endWait(err)
		if e, ok := err.(*ended); ok {
			return e.error
		}
		switch {
		case err == nil:
			return nil
		case idle:
			return ErrIdle
		case again:
			if err := s.watchHead(); err != nil {
				return err
			}
			continue
		}
		if netio.IsTimeout(err) {
			err = errDeadline // it would come again and again
		}
		s.fail(unexpectedEOF(err))
		return s.cause(err)
	}
}

// beginWait prepares the wait for the socket, unless there is nothing to wait for.
func (s *ServerConn) beginWait() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.streamError(s.err)
	case s.final && s.held == 0:
		s.lastFlush()
		s.failLocked(codec.ErrDraining)
		return codec.ErrDraining
	}
	s.waiting = true
	s.flushNow()
	return nil
}

// endWait is called when the wait is over. It tells whether we have ended it ourselves,
// and whether that was because of SetIdleTimeout.
func (s *ServerConn) endWait(err error) (again, idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = false
	if !s.woken {
		return false, false
	}
	idle = s.idled && s.held == 0
	s.woken, s.idled = false, false
	s.sock.Resume()
	return errors.Is(err, netio.ErrInterrupted) && s.err == nil, idle
}

// startIdle begins to count the time without a stream. The lock is held.
func (s *ServerConn) startIdle() {
	if s.idleAfter > 0 && s.held == 0 {
		s.idleSince = time.Now()
		s.arm(s.idleSince.Add(s.idleAfter))
	}
}

// tick is called by the connection's timer.
func (s *ServerConn) tick(now time.Time) time.Time {
	next, idle := s.headTick(now), s.idleTick(now)
	if next.IsZero() || !idle.IsZero() && idle.Before(next) {
		return idle
	}
	return next
}

func (s *ServerConn) idleTick(now time.Time) time.Time {
	if s.idleAfter <= 0 || s.held > 0 {
		return time.Time{}
	}
	at := s.idleSince.Add(s.idleAfter)
	if now.Before(at) {
		return at
	}
	s.idled = true
	s.wake()
	return time.Time{}
}

// wake makes Accept look up from the socket. The lock is held.
func (s *ServerConn) wake() {
	if s.waiting && !s.woken {
		s.woken = true
		s.sock.Interrupt()
	}
}

// cause is what ended the connection: a read that was cut short says nothing about it.
func (s *ServerConn) cause(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == io.EOF || s.err == nil {
		return err
	}
	return s.streamError(s.err)
}

// open begins a stream with the head that was just decoded.
func (s *ServerConn) open(h FrameHeader) *connError {
	c := &s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastSeen = h.Stream
	c.flood.opened++
	if s.final {
		return nil // it came after the GOAWAY that says so
	}
	if c.open >= int(c.lim.streams) || c.held >= int(c.lim.streams)+heldBeyond {
		c.stats.StreamRefused.Inc()
		c.resetLocked(h.Stream, RefusedStream)
		return nil
	}
	st := pools.server.Get().(*ServerStream)
	st.stream.begin(c)
	st.id, st.conn = h.Stream, s
	c.streams[st.id] = &st.stream
	c.open++
	c.held++
	c.stats.StreamsActive.Inc()
	st.final = true
	st.wireIn.Header = int64(frameHeaderLen + h.Length)
	st.bad = c.head.bad
	if st.bad != nil {
		s.fresh = st
		return c.badMessage(&st.stream, st.bad)
	}
	st.take(&c.head)
	s.fresh = st
	if h.has(FlagEndStream) {
		return c.endRemote(&st.stream)
	}
	return nil
}

// heldBeyond is how many more streams than may be open may be in our hands: the client
// counts one as over when it has the answer, or has given it up, and we a little later.
const heldBeyond = 100

// Drain implements codec.ServerConn: GOAWAY in two steps (RFC 9113 6.8). The first one
// asks for no more streams; after DrainTimeout, or when the client has seen it and has
// no stream, the second one says which stream was the last.
func (s *ServerConn) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || s.err != nil {
		return
	}
	s.draining = true
	s.stats.GoawayGracefulSent.Inc()
	s.goAwayLocked(maxStreamID, NoError)
	s.put(FrameHeader{Type: FramePing}, drainPing[:], false)
	s.drainTimer = time.AfterFunc(pick(s.opt.DrainTimeout, DefaultDrainTimeout), s.drained)
	s.flush()
}

// drainPing is the payload of the PING behind the first GOAWAY.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// drained sends the second GOAWAY.
func (s *ServerConn) drained() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastGoAway()
	s.flush()
}

// lastGoAway is drained with the lock held; the caller flushes.
func (s *ServerConn) lastGoAway() {
	if s.final || s.err != nil {
		return
	}
	s.final = true
	s.drainTimer.Stop()
	s.goAwayLocked(s.lastSeen, NoError)
	s.checkIdle()
}

// checkIdle ends a drained connection with its last stream.
func (s *ServerConn) checkIdle() {
	if s.final && s.held == 0 {
		s.flush()
		s.wake()
	}
}

// pong is called when a PING was answered.
func (s *ServerConn) pong(data uint64) {
	s.keepalive.pong(&s.conn, time.Now())
	if s.draining && s.held == 0 {
		s.lastGoAway()
	}
}

// Streams returns how many streams were not released. It may be called from any
// goroutine.
func (s *ServerConn) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Buffered reports whether bytes are at hand, so that the connection must not be put
// aside until its socket becomes readable. It is for the goroutine of Accept.
func (s *ServerConn) Buffered() bool { return s.in.Len() > 0 || s.sock.Pending() > 0 }

// Close implements codec.ServerConn. It is called by the goroutine of Accept, when the
// streams have been released or will find the connection gone.
func (s *ServerConn) Close() error {
	s.mu.Lock()
	if s.drainTimer != nil {
		s.drainTimer.Stop()
	}
	s.mu.Unlock()
	err := s.close()
	s.in.Release()
	return err
}

// pools keeps the memory of streams that are over for those to come: no state.
var pools = struct{ server, client sync.Pool }{
	server: sync.Pool{New: func() any { return &ServerStream{} }},
	client: sync.Pool{New: func() any { return &ClientStream{} }},
}

var _ codec.ServerConn = (*ServerConn)(nil)
