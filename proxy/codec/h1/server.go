package h1

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// ServerConn is the server side of an HTTP/1 connection. It carries one request
// after the other; pipelined ones wait in its buffer.
type ServerConn struct {
	conn   *netio.Conn
	opt    ServerOptions
	idleBy time.Time
	stream ServerStream

	draining  atomic.Bool
	announced atomic.Bool

	mu    sync.Mutex // guards what follows
	idle  bool       // Accept waits for the first byte of a request
	woken bool       // by Drain

	each    func(codec.ServerStream) bool // AcceptEach
	turnFn  func() bool
	left    codec.ServerStream
	waitErr error
}

// NewServer takes over c, with what is unread in it.
func NewServer(c *netio.Conn, o ServerOptions) *ServerConn {
	s := &ServerConn{conn: c, opt: o}
	s.stream.c = s
	s.stream.r.conn, s.stream.r.opt = c, &s.opt.Options
	s.stream.w.conn = c
	return s
}

// SetIdleDeadline bounds the wait of the next Accept; the zero time is no bound.
// It comes on top of ServerOptions.IdleTimeout. Not for use while Accept waits.
func (s *ServerConn) SetIdleDeadline(t time.Time) { s.idleBy = t }

// Accept implements codec.ServerConn. It returns when the first byte of a request
// has arrived; os.ErrDeadlineExceeded when the connection was idle for too long.
// The stream before must have been released.
func (s *ServerConn) Accept() (codec.ServerStream, error) {
	st := &s.stream
	for {
		st.r.skipEmptyLines()
		if st.r.in.Len() > 0 {
			break
		}
		if err := s.await(); err != nil {
			return nil, err
		}
	}
	st.begin()
	return st, nil
}

// AcceptEach is Accept in a loop, for less: it hands each request whose head has
// arrived to f, until f returns false (nil, nil), an error ends it, or a request
// comes whose head is not complete: that one it returns. f runs inside a read of
// the connection. So it must not read more of the request than its head, nor let
// anybody else; it returns false, and goes on outside, where that is not enough. It
// does release the stream where it returns true.
func (s *ServerConn) AcceptEach(f func(codec.ServerStream) bool) (codec.ServerStream, error) {
	if s.turnFn == nil {
		s.turnFn = s.turn
	}
	s.each, s.left, s.waitErr = f, nil, nil
	defer func() { s.each = nil }()
	if !s.serveBuffered() {
		return s.left, nil
	}
	if err := s.beginWait(); err != nil {
		return nil, err
	}
	err := s.endWait(s.conn.ReadEach(&s.stream.r.in, s.turnFn))
	if err == nil {
		err = s.waitErr
	}
	return s.left, err
}

// turn is called when something was read. It reports whether to wait for more.
func (s *ServerConn) turn() bool {
	if s.waitErr = s.endWait(nil); s.waitErr != nil {
		return false
	}
	if !s.serveBuffered() {
		return false
	}
	s.waitErr = s.beginWait()
	return s.waitErr == nil
}

// serveBuffered hands on the requests that are at hand. It reports whether the next
// one has to be waited for.
func (s *ServerConn) serveBuffered() bool {
	st := &s.stream
	for {
		st.r.skipEmptyLines()
		if st.r.in.Len() == 0 {
			return true
		}
		st.begin()
		if !st.r.headReady() {
			s.left = st
			return false
		}
		if !s.each(st) {
			return false
		}
	}
}

// await reads the first bytes of a request.
func (s *ServerConn) await() error {
	if err := s.beginWait(); err != nil {
		return err
	}
	_, err := s.conn.ReadBuf(&s.stream.r.in)
	return s.endWait(err)
}

// beginWait prepares the wait for the first byte of a request.
func (s *ServerConn) beginWait() error {
	by := s.idleBy
	if s.opt.IdleTimeout > 0 {
		if t := time.Now().Add(s.opt.IdleTimeout); by.IsZero() || t.Before(by) {
			by = t
		}
	}
	if err := s.conn.SetReadDeadline(by); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return codec.ErrDraining
	}
	s.idle = true
	return nil
}

// endWait is called when that wait is over. It returns what its error means.
func (s *ServerConn) endWait(err error) error {
	s.mu.Lock()
	s.idle = false
	if s.woken {
		s.woken = false
		s.conn.Resume()
		if errors.Is(err, netio.ErrInterrupted) {
			err = codec.ErrDraining
		}
	}
	s.mu.Unlock()
	if err == nil {
		err = s.conn.SetReadDeadline(time.Time{})
	}
	return err
}

// Drain implements codec.ServerConn.
func (s *ServerConn) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	if s.idle && !s.woken {
		s.woken = true
		s.conn.Interrupt()
	}
}

// Announce makes the next response head say "connection: close", which ends the
// connection. It is Drain for who cannot afford to lose a request: an idle connection
// stays open, since HTTP/1 has no other way to tell a client that may be sending one
// at this moment. It may be called from any goroutine.
func (s *ServerConn) Announce() { s.announced.Store(true) }

// Buffered reports whether bytes of another request are at hand, so that the
// connection must not be put aside until its socket becomes readable.
func (s *ServerConn) Buffered() bool { return s.stream.r.in.Len() > 0 || s.conn.Pending() > 0 }

// Close implements codec.ServerConn. The stream must have been released, or be
// given up by everyone.
func (s *ServerConn) Close() error {
	err := s.conn.Close()
	s.stream.r.in.Release()
	s.stream.r.head.Release()
	s.stream.w.out.Release()
	return err
}

// skipEmptyLines drops what some clients send behind a request (RFC 9112 2.2).
func (r *reader) skipEmptyLines() {
	for r.in.Len() > 0 {
		p := r.in.First()
		n := len(p) - len(bytes.TrimLeft(p, "\r\n"))
		r.in.Discard(n)
		if n < len(p) {
			return
		}
	}
}

// awaitHead reads until the head of a request is complete. It has HeadersTimeout
// for that, which is looked at only when the head comes in more than one piece.
func (s *ServerStream) awaitHead() ([]byte, error) {
	o := &s.c.opt
	limit := o.headLimit()
	var by time.Time
	for first := true; ; first = false {
		p, err := s.r.nextHead(limit)
		if p != nil || err != nil {
			if !by.IsZero() {
				err = errors.Join(err, s.r.conn.SetReadDeadline(time.Time{}))
			}
			return p, err
		}
		if err := s.checkEarly(); err != nil {
			return nil, err
		}
		if first && o.HeadersTimeout > 0 {
			by = time.Now().Add(o.HeadersTimeout)
			if err := s.r.conn.SetReadDeadline(by); err != nil {
				return nil, err
			}
		}
		if err := s.r.fill(); err != nil {
			return nil, err
		}
	}
}

// checkEarly looks at a head that is not complete yet for what no request line
// begins with: who speaks TLS, SSH or HTTP/0.9 to us need not wait for a timeout.
func (s *ServerStream) checkEarly() error {
	if s.lineSeen {
		return nil
	}
	p := s.r.in.First()
	if bytes.IndexByte(p, '\n') >= 0 {
		s.lineSeen = true
		line, _ := cutLine(p)
		_, err := s.checkLine(line)
		return err
	}
	if i := bytes.IndexByte(p, ' '); i >= 0 {
		p = p[:i]
	}
	return checkMethod(p)
}

// checkLine parses the request line and checks method and version.
func (s *ServerStream) checkLine(line []byte) (RequestLine, error) {
	o := &s.c.opt
	q, err := ParseRequestLine(line)
	switch {
	case err != nil:
		return q, err
	case !o.AllowCustomMethods && !knownMethod(q.Method):
		return q, malformed("unknown method")
	case q.Version == Unsupported || q.Version == HTTP10 && !o.AcceptHTTP10:
		return q, refuse(426, detailsVersion, "request is not HTTP/1.1")
	}
	return q, nil
}

var _ codec.ServerConn = (*ServerConn)(nil)
var _ io.Closer = (*ServerConn)(nil)
