// Package wire appends the wire format of protobuf
// (https://protobuf.dev/programming-guides/encoding/). What the proxy writes all day long,
// such as spans and log entries, is made of few fields: they go straight into the buffer
// that is sent, without messages in between.
//
// What others send is read field by field (Fields). Nothing here knows of messages.
package wire

import (
	"encoding/binary"
	"math"
)

// Varint appends a field of int32, int64, uint32, uint64, bool or enum.
func Varint(b []byte, field int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3), v)
}

// Bool appends a field that is true; one that is not is left out.
func Bool(b []byte, field int, v bool) []byte {
	if !v {
		return b
	}
	return Varint(b, field, 1)
}

// Int appends a field of a number; 0 is left out.
func Int(b []byte, field int, v int64) []byte {
	if v == 0 {
		return b
	}
	return Varint(b, field, uint64(v))
}

// Fixed64 appends a field of fixed64 or sfixed64.
func Fixed64(b []byte, field int, v uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, uint64(field)<<3|1), v)
}

// Fixed32 appends a field of fixed32 or sfixed32.
func Fixed32(b []byte, field int, v uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.AppendUvarint(b, uint64(field)<<3|5), v)
}

// Double appends a field of double.
func Double(b []byte, field int, v float64) []byte { return Fixed64(b, field, math.Float64bits(v)) }

// Bytes appends a field of string, bytes or a message that is there already.
func Bytes[T string | []byte](b []byte, field int, v T) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(b, uint64(field)<<3|2), uint64(len(v))), v...)
}

// Text is Bytes of what is not empty.
func Text(b []byte, field int, v string) []byte {
	if v == "" {
		return b
	}
	return Bytes(b, field, v)
}

// Begin begins a message in a field; what is appended up to End is its content. mark is
// for End.
func Begin(b []byte, field int) (out []byte, mark int) {
	b = append(binary.AppendUvarint(b, uint64(field)<<3|2), 0)
	return b, len(b)
}

// End ends the message. Its length was given one byte: a longer one moves it.
func End(b []byte, mark int) []byte {
	n := len(b) - mark
	if n < 0x80 {
		b[mark-1] = byte(n)
		return b
	}
	var size [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(size[:], uint64(n))
	b = append(b, size[:k-1]...) // room
	copy(b[mark-1+k:], b[mark:mark+n])
	copy(b[mark-1:], size[:k])
	return b
}

// Zigzag is the value of a field of sint32 or sint64.
func Zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// RawFixed64 appends an element of a packed field of fixed64, whose field Begin has begun.
func RawFixed64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

// RawDouble is RawFixed64 for double.
func RawDouble(b []byte, v float64) []byte { return RawFixed64(b, math.Float64bits(v)) }
