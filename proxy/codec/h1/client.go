package h1

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// defaultMaxResponseHeadersKB is Envoy's limit for the head of a response.
const defaultMaxResponseHeadersKB = 80

// ClientConn is the client side of an HTTP/1 connection. It carries one exchange
// after the other and is used by one goroutine at a time.
type ClientConn struct {
	conn   *netio.Conn
	opt    ClientOptions
	stream ClientStream
	busy   bool
	broken bool // carries no further exchange
	used   bool
	told   bool // see Told
}

// NewClient takes over c.
func NewClient(c *netio.Conn, o ClientOptions) *ClientConn {
	if o.MaxHeadersKB == 0 {
		o.MaxHeadersKB = defaultMaxResponseHeadersKB
	}
	s := &ClientConn{conn: c, opt: o}
	s.stream.c = s
	s.stream.r.conn, s.stream.r.opt = c, &s.opt.Options
	s.stream.w.conn = c
	return s
}

// Told reports whether the host has said that the connection ends with the last exchange.
func (c *ClientConn) Told() bool { return c.told }

var errBusy = errors.New("h1: connection has no room for another exchange")

// Open implements codec.ClientConn. It does not wait.
func (c *ClientConn) Open(ctx context.Context) (codec.ClientStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.Free() == 0 {
		return nil, errBusy
	}
	c.busy = true
	c.stream.begin()
	return &c.stream, nil
}

// Free implements codec.ClientConn.
func (c *ClientConn) Free() int {
	if c.busy || c.broken {
		return 0
	}
	return 1
}

// Used implements codec.ClientConn.
func (c *ClientConn) Used() bool { return c.used }

// Alive implements codec.ClientConn. Bytes that nobody asked for are as bad as the
// end of the connection.
func (c *ClientConn) Alive() bool {
	if c.busy {
		return !c.broken
	}
	if c.broken || c.stream.r.in.Len() > 0 {
		return false
	}
	_, err := c.conn.TryReadBuf(&c.stream.r.in)
	if !errors.Is(err, netio.ErrWouldBlock) {
		c.broken = true
	}
	return !c.broken
}

// Close implements codec.ClientConn.
func (c *ClientConn) Close() error {
	c.broken = true
	err := c.conn.Close()
	c.stream.r.in.Release()
	c.stream.r.head.Release()
	c.stream.w.out.Release()
	return err
}

// ClientStream is a request and its response. There is one per connection, which
// serves one exchange after the other.
type ClientStream struct {
	c *ClientConn
	r reader
	w writer

	asked       asked
	upgrade     bool // the request asked for an upgrade
	upgraded    bool
	http10      bool
	closing     bool        // the connection ends with this exchange
	began       bool        // a response byte has arrived
	infos       int         // 1xx responses seen
	held        atomic.Bool // the whole request waits in w to leave with the wait for its response
	interrupted atomic.Bool
	dead        atomic.Bool // Reset was called
}

func (s *ClientStream) begin() {
	s.asked, s.upgrade, s.upgraded, s.http10, s.closing, s.began, s.infos = askedOther, false, false, false, false, false, 0
	s.held.Store(false)
}

// maxInformational is how many 1xx responses may come before the final one.
const maxInformational = 32

// ReadHeaders implements codec.Stream. codec.ErrClosedBeforeResponse says that the
// connection ended before the first byte of a response: where the request may be
// repeated, it may be repeated elsewhere.
func (s *ClientStream) ReadHeaders(m *header.Map) (codec.Next, error) {
	p, err := s.awaitHead()
	if err == nil {
		var next codec.Next
		if next, err = s.parse(p, m); err == nil {
			return next, nil
		}
	}
	if !errors.Is(err, netio.ErrInterrupted) && !netio.IsTimeout(err) {
		s.r.failed = true
	}
	return codec.End, err
}

func (s *ClientStream) awaitHead() ([]byte, error) {
	for {
		p, err := s.r.nextHead(s.c.opt.headLimit())
		if p != nil || err != nil {
			return p, err
		}
		err = s.fill()
		if err == nil {
			s.began = true
			continue
		}
		gone := err == io.ErrUnexpectedEOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
		switch {
		case gone && !s.began:
			return nil, codec.ErrClosedBeforeResponse
		case err == io.ErrUnexpectedEOF && s.r.in.Len() > 0:
			return nil, truncated
		}
		return nil, err
	}
}

// fill waits for more bytes, having sent what is held.
func (s *ClientStream) fill() error {
	if !s.held.Load() && (!s.w.hold || s.w.out.Len() == 0 && !s.w.full) {
		return s.r.fill()
	}
	s.held.Store(false)
	_, sent, err := s.r.conn.Exchange(&s.w.out, &s.r.in)
	switch {
	case sent:
		s.w.full = false
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.held.Store(true) // the next read goes on with it
	default:
		s.w.failed = true
	}
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// HoldEnd implements codec.EndHolder.
func (s *ClientStream) HoldEnd(on bool) { s.w.hold = on }

// Fits implements codec.Patient: while a reader is to follow, a write keeps what the socket
// does not take, once.
func (s *ClientStream) Fits(int) bool { return !s.w.full }

// StopWriting implements codec.ClientStream.
func (s *ClientStream) StopWriting() {
	s.dead.Store(true)
	s.r.conn.Cut()
}

var truncated = &codec.ProtocolError{Code: 502, Details: detailsCodec, Reason: "connection ended within a message"}

func (s *ClientStream) parse(p []byte, m *header.Map) (codec.Next, error) {
	line, rest := cutLine(p)
	status, err := ParseStatusLine(line)
	if err != nil {
		return codec.End, err
	}
	m.AddID(header.Status, text(status.Status))
	if o := &s.c.opt; o.PreserveCase {
		if spelling := m.Spell(o.ProperOwn); o.ReasonPhrase {
			spelling.SetReason(status.Reason)
		}
	}
	var f fields
	if err := f.parseFields(rest, m, s.c.opt.countLimit(), false); err != nil {
		return codec.End, err
	}
	fr, length, err := f.responseFraming(m, status.Code, status.Version, s.asked, &s.c.opt)
	if err != nil {
		return codec.End, err
	}
	if err := f.settle(m, status.Code == 101); err != nil {
		return codec.End, err
	}
	s.http10 = status.Version == HTTP10
	if status.Code < 200 && status.Code != 101 {
		if s.infos++; s.infos > maxInformational {
			return codec.End, malformed("too many informational responses")
		}
		return codec.Data, nil
	}
	if status.Code == 101 {
		if !s.upgrade || !f.upgrade {
			return codec.End, malformed("101 for a request that asked for no upgrade")
		}
		fr = raw
	}
	s.c.told = f.close || s.http10 && !f.keepAlive
	s.closing = s.closing || s.c.told || fr == untilClose
	if fr == raw {
		s.upgraded = true
		s.w.framing, s.w.done = raw, false
	}
	return s.r.begin(fr, length), nil
}

// ReadData implements codec.Stream.
func (s *ClientStream) ReadData(b *buffer.Buf) (codec.Next, error) {
	next, err := s.r.readData(b)
	if err == io.ErrUnexpectedEOF {
		s.r.failed = true
		err = truncated
	}
	return next, err
}

// BufferedData implements codec.Stream.
func (s *ClientStream) BufferedData() bool { return s.r.buffered() }

// ReadTrailers implements codec.Stream.
func (s *ClientStream) ReadTrailers(m *header.Map) error { return s.r.readTrailers(m) }

// WriteHeaders implements codec.Stream. "connection: close" in m asks for the
// connection not to be used again. After an error in writing, ReadHeaders may
// still find a response.
func (s *ClientStream) WriteHeaders(m *header.Map, end bool) error {
	q, err := s.w.writeRequest(m, end, s.c.opt.ProperCase)
	s.asked, s.upgrade = q, s.w.framing == noBody && codec.IsUpgrade(m)
	s.closing = s.closing || wantsClose(m)
	if err == nil && !end {
		return s.w.push()
	}
	s.held.Store(err == nil)
	return err
}

// WriteData implements codec.Stream.
func (s *ClientStream) WriteData(b *buffer.Buf, end bool) error { return s.w.writeData(b, end) }

// WriteTrailers implements codec.Stream.
func (s *ClientStream) WriteTrailers(m *header.Map) error {
	return s.w.writeTrailers(m, &s.c.opt.Options)
}

// Flush implements codec.Stream.
func (s *ClientStream) Flush() error {
	s.held.Store(false)
	return s.w.flush()
}

// Upgraded implements codec.Stream.
func (s *ClientStream) Upgraded() bool { return s.upgraded }

// Protocol implements codec.Stream.
func (s *ClientStream) Protocol() meta.Protocol {
	if s.http10 {
		return meta.HTTP10
	}
	return meta.HTTP11
}

// SetReadDeadline implements codec.Stream.
func (s *ClientStream) SetReadDeadline(t time.Time) error { return s.r.conn.SetReadDeadline(t) }

// Interrupt implements codec.Stream. It lasts until Release.
func (s *ClientStream) Interrupt() {
	s.interrupted.Store(true)
	s.r.conn.Interrupt()
}

// Reset implements codec.Stream.
func (s *ClientStream) Reset(codec.Reset) { s.dead.Store(true) }

// WireBytes implements codec.Stream. It is for when neither side is in use.
func (s *ClientStream) WireBytes() (read, written codec.Wire) { return s.r.wire, s.w.wire }

// Release implements codec.ClientStream. Bytes behind the response make the
// connection unusable: nobody asked for them.
func (s *ClientStream) Release() bool {
	ok := !s.closing && !s.upgraded && !s.dead.Load() && !s.r.failed && !s.w.failed && s.w.done
	if s.interrupted.Swap(false) {
		s.r.conn.Resume()
	}
	if ok && !s.r.done {
		ok = s.r.drain()
	}
	ok = ok && s.r.in.Len() == 0 && s.r.conn.SetReadDeadline(time.Time{}) == nil
	s.r.reset()
	s.w.reset()
	s.dead.Store(false)
	s.c.busy, s.c.used = false, true
	if !ok {
		s.c.broken = true
		s.r.in.Release()
	}
	return ok
}

var (
	_ codec.ClientConn   = (*ClientConn)(nil)
	_ codec.ClientStream = (*ClientStream)(nil)
	_ codec.EndHolder    = (*ClientStream)(nil)
)
