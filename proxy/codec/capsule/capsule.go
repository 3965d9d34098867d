// Package capsule carries UDP datagrams in the body of an HTTP stream: the Capsule Protocol
// (RFC 9297, section 3) with the DATAGRAM capsules of CONNECT-UDP (RFC 9298, section 5).
package capsule

import (
	"errors"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// Protocol is the upgrade type of CONNECT-UDP, in lower case.
const Protocol = "connect-udp"

// Field is the header field that announces capsules, Announced its value (RFC 9297, section
// 3.4).
const (
	Field     = "capsule-protocol"
	Announced = "?1"
)

// MaxPayload is how long the payload of a UDP datagram may be, in bytes (RFC 9298, section 5).
const MaxPayload = 65527

// Overhead is by how much a capsule is longer than the payload in it, in bytes, at most.
const Overhead = 6

const (
	typeDatagram = 0
	maxVarint    = 8 // bytes
)

// What makes a stream unusable.
var (
	ErrContext = errors.New("capsule: a datagram without a context ID")
	ErrTooLong = errors.New("capsule: a datagram is longer than UDP allows")
)

// AppendDatagram appends a DATAGRAM capsule with a UDP payload, which has the context ID 0.
func AppendDatagram(dst, payload []byte) []byte {
	dst = append(dst, typeDatagram)
	dst = appendVarint(dst, uint64(len(payload))+1)
	return append(append(dst, 0), payload...)
}

// Reader finds the datagrams in a sequence of bytes. Other capsules and other contexts are
// passed over, however long they are. It holds one capsule at most, and the zero value is
// ready to use.
type Reader struct {
	b    buffer.Buf
	skip uint64 // bytes to pass over before the next capsule
}

// small is what is copied rather than kept in the memory that it came in: a peer that sends a
// datagram byte by byte must not take a slab for each.
const small = buffer.SlabSize / 4

// Feed gives r further bytes. It consumes b.
func (r *Reader) Feed(b *buffer.Buf) {
	if b.Len() > small {
		r.b.MoveAll(b)
		return
	}
	for p := range b.Views() {
		r.b.Append(p)
	}
	b.Release()
}

// Next returns the payload of the next datagram, lent until the next call; false asks for
// more bytes. After an error r is of no more use.
func (r *Reader) Next() (payload []byte, ok bool, err error) {
	for {
		if n := min(r.skip, uint64(r.b.Len())); n > 0 {
			r.b.Discard(int(n))
			r.skip -= n
		}
		if r.skip > 0 {
			return nil, false, nil
		}
		head, _ := r.b.Peek(min(r.b.Len(), 2*maxVarint))
		typ, n := varint(head)
		if n == 0 {
			return nil, false, nil
		}
		size, m := varint(head[n:])
		if m == 0 {
			return nil, false, nil
		}
		n += m
		if typ != typeDatagram {
			r.b.Discard(n)
			r.skip = size
			continue
		}
		if size > MaxPayload+maxVarint {
			return nil, false, ErrTooLong
		}
		all, ok := r.b.Peek(n + int(size))
		if !ok {
			return nil, false, nil
		}
		r.skip = uint64(len(all)) // with the next call: what is lent lies there
		id, m := varint(all[n:])
		switch {
		case m == 0:
			return nil, false, ErrContext
		case id != 0:
			continue
		case len(all)-n-m > MaxPayload:
			return nil, false, ErrTooLong
		}
		return all[n+m:], true, nil
	}
}

// Release gives back what r holds.
func (r *Reader) Release() { r.b.Release() }

// varint reads a variable-length integer (RFC 9000, section 16) and returns its length; 0
// if it is not complete.
func varint(p []byte) (v uint64, n int) {
	if len(p) == 0 || len(p) < 1<<(p[0]>>6) {
		return 0, 0
	}
	n = 1 << (p[0] >> 6)
	v = uint64(p[0] & 0x3f)
	for _, b := range p[1:n] {
		v = v<<8 | uint64(b)
	}
	return v, n
}

// appendVarint appends a variable-length integer below 2^30.
func appendVarint(dst []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(dst, byte(v))
	case v < 1<<14:
		return append(dst, byte(v>>8)|0x40, byte(v))
	}
	return append(dst, byte(v>>24)|0x80, byte(v>>16), byte(v>>8), byte(v))
}
