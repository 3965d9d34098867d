package h1

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// maxHeld is how many bytes a stream holds back at most before it writes them.
const maxHeld = 64 << 10

// copyBody is up to which size body bytes are copied behind what is held back: the
// write is no gathering one then and the body's slab is free at once. In CPU the two
// are equal within 3 percent, at 512 and at 1,000 bytes.
const copyBody = 1 << 10

// Errors of the caller, not of the peer: nothing was written.
var (
	errAfterEnd  = errors.New("h1: write after the end of the message")
	errNoHead    = errors.New("h1: body before the head")
	errLength    = errors.New("h1: body and content-length differ")
	errBadField  = errors.New("h1: field with characters that would break the message")
	errTwoHeads  = errors.New("h1: second head")
	errNoUpgrade = errors.New("h1: 101 for a request that asked for no upgrade")
	errBadStatus = errors.New("h1: :status is no number from 100 to 999")
)

// writer is the sending half of a connection. Only the goroutine that writes
// touches it, until the stream is released.
type writer struct {
	conn *netio.Conn
	out  buffer.Buf // held back

	framing framing
	headed  bool // the final head is written
	done    bool // the message is complete
	failed  bool
	hold    bool  // the last bytes leave with the next read: HoldEnd
	full    bool  // the socket did not take what it was given then
	left    int64 // of a body by length

	wire codec.Wire
}

func (w *writer) reset() {
	w.out.Release()
	w.framing, w.headed, w.done, w.hold, w.full, w.left = noBody, false, false, false, false, 0
	w.wire = codec.Wire{}
}

// flush sends what is held back, as far as the socket takes it if a reader is to follow on
// the same goroutine.
func (w *writer) flush() error {
	if w.out.Len() == 0 && !w.full {
		return nil
	}
	if w.hold {
		err := w.conn.TryWriteBuf(&w.out)
		if w.full = errors.Is(err, netio.ErrWouldBlock); w.full {
			return nil
		}
		if err != nil {
			w.out.Release()
			w.failed = true
		}
		return err
	}
	err := w.conn.WriteBuf(&w.out)
	w.full = false
	if err != nil {
		w.failed = true
	}
	return err
}

// push flushes if the message is at its end or much is held back.
func (w *writer) push() error {
	if w.done {
		return w.last()
	}
	if w.out.Len() >= maxHeld {
		return w.flush()
	}
	return nil
}

// last sends the end of the message, if that is not the reader's to do.
func (w *writer) last() error {
	if w.hold {
		return nil
	}
	return w.flush()
}

// writeData implements codec.Stream.WriteData. A nil b is an empty one. Ending a
// message that has ended already is no error.
func (w *writer) writeData(b *buffer.Buf, end bool) error {
	n := 0
	if b != nil {
		n = b.Len()
	}
	if n == 0 && w.done {
		return nil
	}
	if err := w.checkData(n, end); err != nil {
		if b != nil {
			b.Release()
		}
		return err
	}
	switch {
	case n == 0:
	case w.framing == noBody: // HEAD: the body is only described
		b.Release()
	case w.framing == byChunks:
		w.writeChunk(b, n)
	default:
		w.left -= int64(n)
		w.wire.Body += int64(n)
		w.move(b, n)
	}
	if end {
		return w.end()
	}
	return w.push()
}

func (w *writer) checkData(n int, end bool) error {
	switch {
	case !w.headed:
		return errNoHead
	case w.done:
		return errAfterEnd
	case w.framing == byLength && (int64(n) > w.left || end && int64(n) < w.left):
		w.failed = true
		return errLength
	}
	return nil
}

// move appends b to what is held back.
func (w *writer) move(b *buffer.Buf, n int) {
	if n <= copyBody && w.out.Len() > 0 {
		for i := range b.Segments() {
			w.out.Append(b.Segment(i))
		}
		b.Release()
		return
	}
	w.out.MoveAll(b)
}

func (w *writer) writeChunk(b *buffer.Buf, n int) {
	before := w.out.Len()
	var size [18]byte
	w.out.Append(AppendChunkSize(size[:0], n))
	w.move(b, n)
	w.out.AppendString("\r\n")
	w.wire.Body += int64(w.out.Len() - before)
}

// end ends the message and sends it.
func (w *writer) end() error {
	switch w.framing {
	case byChunks:
		w.out.AppendString("0\r\n\r\n")
		w.wire.Body += int64(len("0\r\n\r\n"))
	case raw:
		w.done = true
		if err := w.flush(); err != nil {
			return err
		}
		return w.conn.CloseWrite()
	}
	w.done = true
	return w.last()
}

// writeTrailers implements codec.Stream.WriteTrailers. Where there is no chunked
// framing or trailers are not enabled they are left out.
func (w *writer) writeTrailers(m *header.Map, o *Options) error {
	if err := w.checkData(0, true); err != nil {
		return err
	}
	if w.framing != byChunks || !o.EnableTrailers || m.Len() == 0 {
		return w.end()
	}
	h := headWriter{proper: o.ProperCase}
	h.open(&w.out, m, len("0\r\n\r\n"))
	h.str("0")
	h.crlf()
	for f := range m.Fields() {
		if f.Name[0] != ':' {
			h.field(f)
		}
	}
	h.crlf()
	n, err := h.close()
	if err != nil {
		w.failed = true
		return err
	}
	w.wire.Body += int64(n)
	w.done = true
	return w.last()
}

// headWriter serialises a head into one contiguous piece of a Buf and sees to it
// that nothing in a name or a value can be taken for the end of a line.
type headWriter struct {
	out     *buffer.Buf
	p       []byte
	room    int
	lines   int
	bad     bool
	proper  bool
	spelled *header.Spelling // of the message, nil: in lower case
}

// open makes room for the fields of m and extra bytes for what else is written.
func (h *headWriter) open(out *buffer.Buf, m *header.Map, extra int) {
	size := m.Bytes() + m.Len()*len(": \r\n") + extra
	room := out.Reserve(size)
	h.out, h.p, h.room = out, room[:0:len(room)], len(room)
	h.spelled = m.Spelling()
}

func (h *headWriter) str(s string) { h.p = append(h.p, s...) }

func (h *headWriter) crlf() {
	h.p = append(h.p, '\r', '\n')
	h.lines++
}

func (h *headWriter) field(f header.Field) {
	if f.ID == header.Other && !codec.IsToken(f.Name) {
		h.bad = true
	}
	h.line(f.Name, f.Value)
}

func (h *headWriter) line(name, value string) {
	switch at := len(h.p); {
	case h.spelled != nil:
		h.p = h.spelled.Append(h.p, name)
	default:
		h.p = append(h.p, name...)
		if h.proper {
			header.ProperCase(h.p[at:])
		}
	}
	h.p = append(h.p, ':', ' ')
	h.p = append(h.p, value...)
	h.crlf()
}

// close commits the head, unless something in it would break it.
func (h *headWriter) close() (int, error) {
	if h.bad || bytes.Count(h.p, lf) != h.lines || bytes.Count(h.p, cr) != h.lines || bytes.IndexByte(h.p, 0) >= 0 {
		h.out.Commit(0)
		return 0, errBadField
	}
	if len(h.p) > h.room { // the estimate was too low and append moved it
		h.out.Commit(0)
		h.out.Append(h.p)
	} else {
		h.out.Commit(len(h.p))
	}
	return len(h.p), nil
}

var cr, lf = []byte{'\r'}, []byte{'\n'}

// declared returns the Content-Length in m and whether there is one.
func (w *writer) declared(m *header.Map, end bool) (int64, bool, error) {
	v, ok := m.Find("content-length")
	if !ok {
		return 0, false, nil
	}
	n, ok := ParseContentLength([]byte(v))
	if !ok || m.Count("content-length") > 1 {
		return 0, true, fmt.Errorf("h1: content-length %q: %w", v, errBadField)
	}
	if end && n > 0 {
		return n, true, errLength
	}
	return n, true, nil
}

func wantsClose(m *header.Map) bool {
	v := m.Value(header.Connection)
	for v != "" {
		var token string
		if token, v = codec.CutToken(v); strings.EqualFold(token, "close") {
			return true
		}
	}
	return false
}
