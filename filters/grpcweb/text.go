package grpcweb

import (
	"encoding/base64"
	bigendian "encoding/binary"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// decoder reads base64 in pieces. Each four characters may be padded, since a client may
// have put several texts together.
type decoder struct {
	quad [4]byte
	n    int // characters of it that are there
}

// decode replaces b by what it says, and reports whether it is base64.
func (d *decoder) decode(b *buffer.Buf) bool {
	var out buffer.Buf
	for v := range b.Views() {
		for _, c := range v {
			if c == '\r' || c == '\n' { // which the library skips
				out.Release()
				return false
			}
			d.quad[d.n] = c
			if d.n++; d.n < len(d.quad) {
				continue
			}
			d.n = 0
			var plain [3]byte
			n, err := base64.StdEncoding.Decode(plain[:], d.quad[:])
			if err != nil {
				out.Release()
				return false
			}
			out.Append(plain[:n])
		}
	}
	b.Release()
	b.MoveAll(&out)
	return true
}

// encoder writes the frames of gRPC as base64, each for itself: the client can read one
// when it has come.
type encoder struct {
	rest   [3]byte
	n      int    // bytes of it that are there
	head   int    // bytes of the frame's prefix that were seen
	length uint32 // of the frame, as far as it was seen
	left   uint32 // of the frame, still to come
}

// encode replaces b by its text.
func (e *encoder) encode(b *buffer.Buf) {
	var out buffer.Buf
	for v := range b.Views() {
		for _, c := range v {
			e.rest[e.n] = c
			if e.n++; e.n == len(e.rest) {
				e.flush(&out)
			}
			if e.ends(c) {
				e.flush(&out)
			}
		}
	}
	b.Release()
	b.MoveAll(&out)
}

// ends notes a byte, and reports whether it is the last one of its frame.
func (e *encoder) ends(c byte) bool {
	if e.head < filter.GRPCPrefix {
		if e.head > 0 {
			e.length = e.length<<8 | uint32(c)
		}
		if e.head++; e.head < filter.GRPCPrefix {
			return false
		}
		e.left = e.length
	} else {
		e.left--
	}
	if e.left > 0 {
		return false
	}
	e.head, e.length = 0, 0
	return true
}

// flush appends what is there, padded.
func (e *encoder) flush(out *buffer.Buf) {
	if e.n == 0 {
		return
	}
	var quad [4]byte
	base64.StdEncoding.Encode(quad[:], e.rest[:e.n])
	out.Append(quad[:])
	e.n = 0
}

// finish ends the text, within a frame if it must be.
func (e *encoder) finish(out *buffer.Buf) {
	e.flush(out)
	e.head, e.length, e.left = 0, 0, 0
}

// trailerFrame is the flag of a frame with trailers.
const trailerFrame = 0x80

// appendTrailers appends a frame with trailers.
func appendTrailers(b *buffer.Buf, m *header.Map) {
	length := 0
	for name, value := range m.All() {
		length += len(name) + len(":") + len(value) + len("\r\n")
	}
	prefix := [filter.GRPCPrefix]byte{trailerFrame}
	bigendian.BigEndian.PutUint32(prefix[1:], uint32(length))
	b.Append(prefix[:])
	for name, value := range m.All() {
		b.AppendString(name)
		b.AppendString(":")
		b.AppendString(value)
		b.AppendString("\r\n")
	}
}
