package h1

import (
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// readSide implements codec.RawStream.ReadSide: it is not ok while bytes of the body
// are buffered, which ReadData gives.
func (r *reader) readSide() (*netio.Conn, int64, bool) {
	if r.done || r.failed || r.in.Len() > 0 || r.conn.Pending() > 0 {
		return nil, 0, false
	}
	switch r.framing {
	case byLength:
		return r.conn, r.left, true
	case untilClose, raw:
		return r.conn, -1, true
	}
	return nil, 0, false
}

func (r *reader) doneRead(n int64, eof bool) {
	r.wire.Body += n
	switch r.framing {
	case byLength:
		r.left -= n
		r.done = r.left == 0
		r.failed = r.failed || eof && !r.done
	default:
		r.done = r.done || eof
	}
}

// writeSide implements codec.RawStream.WriteSide.
func (w *writer) writeSide() (*netio.Conn, int64, bool) {
	if !w.headed || w.done || w.failed || w.flush() != nil {
		return nil, 0, false
	}
	switch w.framing {
	case byLength:
		return w.conn, w.left, true
	case untilClose, raw:
		return w.conn, -1, true
	}
	return nil, 0, false
}

func (w *writer) doneWrite(n int64) {
	w.wire.Body += n
	if w.framing == byLength {
		w.left -= n
		w.done = w.left == 0
	}
}

// Raw implements codec.Stream. Which side may be used is for RawStream to say.
func (s *ServerStream) Raw() (codec.RawStream, bool) { return s, s.r.conn.Direct() }

// ReadSide implements codec.RawStream. It is not ok while BufferedData is true.
func (s *ServerStream) ReadSide() (*netio.Conn, int64, bool) { return s.r.readSide() }

// DoneRead implements codec.RawStream. When the body is complete by that, ReadData returns End.
func (s *ServerStream) DoneRead(n int64, eof bool) { s.r.doneRead(n, eof) }

// WriteSide implements codec.RawStream.
func (s *ServerStream) WriteSide() (*netio.Conn, int64, bool) { return s.w.writeSide() }

// DoneWrite implements codec.RawStream. When the body is complete by that, so is the
// message; otherwise WriteData with end ends it.
func (s *ServerStream) DoneWrite(n int64) { s.w.doneWrite(n) }

// Raw implements codec.Stream. Which side may be used is for RawStream to say.
func (s *ClientStream) Raw() (codec.RawStream, bool) { return s, s.r.conn.Direct() }

// ReadSide implements codec.RawStream. It is not ok while BufferedData is true.
func (s *ClientStream) ReadSide() (*netio.Conn, int64, bool) { return s.r.readSide() }

// DoneRead implements codec.RawStream. When the body is complete by that, ReadData returns End.
func (s *ClientStream) DoneRead(n int64, eof bool) { s.r.doneRead(n, eof) }

// WriteSide implements codec.RawStream.
func (s *ClientStream) WriteSide() (*netio.Conn, int64, bool) { return s.w.writeSide() }

// DoneWrite implements codec.RawStream. When the body is complete by that, so is the
// message; otherwise WriteData with end ends it.
func (s *ClientStream) DoneWrite(n int64) { s.w.doneWrite(n) }

var (
	_ codec.RawStream = (*ServerStream)(nil)
	_ codec.RawStream = (*ClientStream)(nil)
)
