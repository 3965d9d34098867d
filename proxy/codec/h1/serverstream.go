package h1

import (
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// ServerStream is a request and its response. There is one per connection, which
// serves one exchange after the other.
type ServerStream struct {
	c *ServerConn
	r reader
	w writer

	lineSeen    bool // of an incomplete head, the request line was checked
	upgrade     bool // the request asks for an upgrade
	upgraded    bool
	http10      bool
	keepAlive   bool // a 1.0 client asked for it
	closing     bool // the connection ends with this exchange
	asked       asked
	interrupted atomic.Bool
	dead        atomic.Bool // Reset was called
}

func (s *ServerStream) begin() {
	s.lineSeen, s.upgrade, s.upgraded, s.http10, s.keepAlive, s.closing = false, false, false, false, false, false
	s.asked = askedOther
}

// ReadHeaders implements codec.Stream. A *codec.ProtocolError says what to answer;
// whatever is answered, the connection is closed then.
func (s *ServerStream) ReadHeaders(m *header.Map) (codec.Next, error) {
	p, err := s.awaitHead()
	if err != nil {
		s.closing, s.r.failed = true, true
		return codec.End, err
	}
	next, err := s.parse(p, m)
	if err != nil {
		s.closing, s.r.failed = true, true
		return codec.End, err
	}
	return next, nil
}

func (s *ServerStream) parse(p []byte, m *header.Map) (codec.Next, error) {
	o := &s.c.opt
	line, rest := cutLine(p)
	q, err := s.checkLine(line)
	if err != nil {
		return codec.End, err
	}
	s.asked = askedBy(text(q.Method))
	s.http10 = q.Version == HTTP10
	t, err := ParseTarget(q.Method, q.Target, !o.RefuseAbsoluteURL)
	if err != nil {
		return codec.End, err
	}
	m.AddID(header.Method, text(q.Method))
	if s.asked != askedConnect {
		m.AddID(header.Path, t.path(m))
	}
	m.AddID(header.Authority, "")
	if t.Scheme != "" {
		m.AddID(header.Scheme, t.Scheme)
	} else if o.Scheme != "" {
		m.AddID(header.Scheme, o.Scheme)
	}
	if o.PreserveCase {
		m.Spell(o.ProperOwn)
	}
	f := fields{underscores: o.Underscores, stats: o.Stats}
	if err := f.parseFields(rest, m, o.countLimit(), true); err != nil {
		return codec.End, err
	}
	if err := s.authority(m, t, f.hosts); err != nil {
		return codec.End, err
	}
	fr, length, err := f.requestFraming(m, q.Version, o)
	if err != nil {
		return codec.End, err
	}
	if err := f.settle(m, fr == noBody && s.asked != askedConnect); err != nil {
		return codec.End, err
	}
	s.upgrade = f.upgrade
	s.keepAlive = f.keepAlive && !f.close
	s.closing = f.close || s.http10 && !f.keepAlive
	return s.r.begin(fr, length), nil
}

// authority settles ":authority" (RFC 9112 3.2.2 and 3.2.3): the target's comes
// before the Host field's.
func (s *ServerStream) authority(m *header.Map, t Target, hosts int) error {
	switch {
	case t.Authority != nil:
		m.SetID(header.Authority, text(t.Authority))
	case hosts > 0:
	case s.http10 && s.c.opt.DefaultHostForHTTP10 != "":
		m.SetID(header.Authority, s.c.opt.DefaultHostForHTTP10)
	default:
		m.DelID(header.Authority)
		return refuse(400, detailsNoHost, "no host field")
	}
	return nil
}

func (t *Target) path(m *header.Map) string {
	if t.NoSlash {
		return m.Concat("/", text(t.Path))
	}
	return text(t.Path)
}

// ReadData implements codec.Stream.
func (s *ServerStream) ReadData(b *buffer.Buf) (codec.Next, error) { return s.r.readData(b) }

// BufferedData implements codec.Stream.
func (s *ServerStream) BufferedData() bool { return s.r.buffered() }

// PeekBody implements codec.BodyPeeker. What went wrong in reading is left to ReadData.
func (s *ServerStream) PeekBody() bool {
	if s.r.buffered() {
		return true
	}
	_, err := s.r.conn.TryReadBuf(&s.r.in)
	return err == nil && s.r.buffered()
}

// EarlyData implements codec.Tunneler.
func (s *ServerStream) EarlyData() bool {
	if s.r.in.Len() == 0 {
		_, _ = s.r.conn.TryReadBuf(&s.r.in) // an error is that of the next read, too
	}
	return s.r.in.Len() > 0
}

// WholeBody implements codec.BodyPeeker, for bodies by length.
func (s *ServerStream) WholeBody(limit int) bool {
	r := &s.r
	for r.framing == byLength && r.left <= int64(limit) {
		if int64(r.in.Len()) >= r.left {
			return true
		}
		if _, err := r.conn.TryReadBuf(&r.in); err != nil {
			return false
		}
	}
	return false
}

// ReadTrailers implements codec.Stream.
func (s *ServerStream) ReadTrailers(m *header.Map) error { return s.r.readTrailers(m) }

// WriteHeaders implements codec.Stream. "connection: close" in m asks for the
// connection to be closed after the response.
func (s *ServerStream) WriteHeaders(m *header.Map, end bool) error {
	closes, err := s.w.writeResponse(m, end, responseHead{
		asked:     s.asked,
		http10:    s.http10 && s.c.opt.AcceptHTTP10,
		close:     s.closing || s.c.draining.Load() || s.c.announced.Load(),
		keepAlive: s.keepAlive,
		upgrade:   s.upgrade,
		proper:    s.c.opt.ProperCase,
	})
	s.closing = s.closing || closes
	if err == nil && s.w.framing == raw && !s.upgraded {
		s.upgraded = true
		s.r.begin(raw, 0)
		err = s.w.flush()
	}
	return err
}

// WriteData implements codec.Stream.
func (s *ServerStream) WriteData(b *buffer.Buf, end bool) error { return s.w.writeData(b, end) }

// WriteTrailers implements codec.Stream.
func (s *ServerStream) WriteTrailers(m *header.Map) error {
	return s.w.writeTrailers(m, &s.c.opt.Options)
}

// Flush implements codec.Stream.
func (s *ServerStream) Flush() error { return s.w.flush() }

// Upgraded implements codec.Stream.
func (s *ServerStream) Upgraded() bool { return s.upgraded }

// Protocol implements codec.Stream.
func (s *ServerStream) Protocol() meta.Protocol {
	if s.http10 {
		return meta.HTTP10
	}
	return meta.HTTP11
}

// SetReadDeadline implements codec.Stream.
func (s *ServerStream) SetReadDeadline(t time.Time) error { return s.r.conn.SetReadDeadline(t) }

// Interrupt implements codec.Stream. It lasts until Release.
func (s *ServerStream) Interrupt() {
	s.interrupted.Store(true)
	s.r.conn.Interrupt()
}

// Reset implements codec.Stream.
func (s *ServerStream) Reset(codec.Reset) { s.dead.Store(true) }

// WireBytes implements codec.Stream. It is for when neither side is in use.
func (s *ServerStream) WireBytes() (read, written codec.Wire) { return s.r.wire, s.w.wire }

// Release implements codec.ServerStream. A request body that nobody read makes the
// connection unusable unless its rest is at hand already.
func (s *ServerStream) Release() bool {
	ok := !s.closing && !s.upgraded && !s.dead.Load() && !s.r.failed && !s.w.failed && s.w.done
	if s.interrupted.Swap(false) {
		s.r.conn.Resume()
	}
	if ok && !s.r.done {
		ok = s.r.drain()
	}
	if ok {
		ok = s.r.conn.SetReadDeadline(time.Time{}) == nil
	}
	s.r.reset()
	s.w.reset()
	s.dead.Store(false)
	if !ok {
		s.r.in.Release()
	}
	return ok
}

// drain drops what has arrived of a body and reports whether that was the rest of it.
func (r *reader) drain() bool {
	var b buffer.Buf
	for !r.done && r.framing != raw && r.framing != untilClose && r.in.Len() > 0 && r.buffered() {
		next, err := r.readData(&b)
		b.Release()
		if err == nil && next == codec.Trailers {
			err = r.readTrailers(nil)
		}
		if err != nil {
			return false
		}
	}
	return r.done
}

var (
	_ codec.ServerStream = (*ServerStream)(nil)
	_ codec.BodyPeeker   = (*ServerStream)(nil)
)
