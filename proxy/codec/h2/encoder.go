package h2

import (
	"hash/maphash"
	"math"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// encoder writes header sections (RFC 7541). A field that was written lately, as most are,
// costs a hash and a comparison. The strings in its table are copies: those of a header.Map
// end with the message.
type encoder struct {
	seed  maphash.Seed
	limit uint32 // what we keep at most
	max   uint32 // what we keep now
	least uint32 // the smallest max since the peer was told; see sizes
	told  bool   // the peer knows max

	table []tableField // a ring, its length a power of two
	gone  uint32       // how many fields have left the table; field number gone+1 is its oldest
	n     uint32       // fields in it
	size  uint32       // theirs (RFC 7541 4.1)

	fields finder
	names  finder
}

// tableField is an entry of the table.
type tableField struct{ name, value string }

// size is what RFC 7541 section 4.1 says.
func (f *tableField) size() uint32 { return uint32(len(f.name) + len(f.value) + fieldOverhead) }

// finder tells by a hash which number a field may have. It forgets fields where it has no
// place for all: they are written once more.
type finder []uint32

const (
	fieldPlaces = 256
	namePlaces  = 64
	tries       = 4 // places in which a field may be
	firstTable  = 16
)

func newEncoder(limit uint32) *encoder {
	e := &encoder{seed: maphash.MakeSeed(), limit: limit, max: minTableSize, least: math.MaxUint32, told: true}
	if limit < e.max {
		e.resize(limit)
	}
	return e
}

// resize follows the peer's SETTINGS_HEADER_TABLE_SIZE.
func (e *encoder) resize(size uint32) {
	e.max = min(size, e.limit)
	e.least = min(e.least, e.max)
	e.told = false
	e.evict(e.max)
}

// sizes tells the peer what has become of the table (RFC 7541 section 4.2): that it was
// smaller for a while, and its size. Some decoders, Go's for one, take two sizes only while
// their table is empty, so then it is.
func (e *encoder) sizes(dst []byte) []byte {
	if e.told {
		return dst
	}
	if e.least < e.max {
		e.evict(0)
		dst = appendInt(dst, 0x20, 5, 0)
	}
	e.told, e.least = true, math.MaxUint32
	return appendInt(dst, 0x20, 5, e.max)
}

// field appends a field, which the table keeps if it is not too large. name and value are
// lent.
func (e *encoder) field(dst []byte, name, value string) []byte {
	dst = e.sizes(dst)
	if i := staticPair(name, value); i > 0 {
		return appendInt(dst, 0x80, 7, i)
	}
	f := tableField{name, value}
	if f.size() > e.max {
		return e.literal(dst, 0, 4, &f)
	}
	at := uint32(maphash.String(e.seed, name))*31 + uint32(maphash.String(e.seed, value))
	for i := range uint32(tries) {
		if number := e.fields.get(at + i); e.holds(number) && *e.entry(number) == f {
			return appendInt(dst, 0x80, 7, e.index(number))
		}
	}
	dst = e.literal(dst, 0x40, 6, &f)
	e.keep(at, &f)
	return dst
}

// once appends a field that no table keeps, here or further on.
func (e *encoder) once(dst []byte, name, value string) []byte {
	return e.literal(e.sizes(dst), 0x10, 4, &tableField{name, value})
}

// literal appends a field in full, but for a name that is in a table.
func (e *encoder) literal(dst []byte, kind byte, bits uint, f *tableField) []byte {
	i := staticNames[f.name]
	if i == 0 {
		number := e.names.get(uint32(maphash.String(e.seed, f.name)))
		if e.holds(number) && e.entry(number).name == f.name {
			i = e.index(number)
		}
	}
	dst = appendInt(dst, kind, bits, i)
	if i == 0 {
		dst = appendString(dst, f.name)
	}
	return appendString(dst, f.value)
}

// keep adds a field to the table.
func (e *encoder) keep(at uint32, f *tableField) {
	e.evict(e.max - f.size())
	if int(e.n) == len(e.table) {
		e.grow()
	}
	e.n++
	e.size += f.size()
	number := e.gone + e.n
	name, value := copyField(f.name, f.value)
	*e.entry(number) = tableField{name, value}
	place := at
	for i := range uint32(tries) {
		if !e.holds(e.fields.get(at + i)) {
			place = at + i
			break
		}
	}
	e.fields.set(place, number, fieldPlaces)
	e.names.set(uint32(maphash.String(e.seed, name)), number, namePlaces)
}

// evict takes the oldest fields out until the rest is no larger than size.
func (e *encoder) evict(size uint32) {
	for e.size > size {
		f := e.entry(e.gone + 1)
		e.size -= f.size()
		*f = tableField{}
		e.gone++
		e.n--
	}
}

func (e *encoder) grow() {
	old := *e
	e.table = make([]tableField, max(firstTable, 2*len(old.table)))
	for i := range e.n {
		*e.entry(e.gone + 1 + i) = *old.entry(e.gone + 1 + i)
	}
}

// holds reports whether the field with a number is in the table. Numbers may wrap around:
// who has one compares the field, too.
func (e *encoder) holds(number uint32) bool { return number-e.gone-1 < e.n }

func (e *encoder) entry(number uint32) *tableField {
	return &e.table[number&uint32(len(e.table)-1)]
}

// index is how the peer calls the field with a number: the newest is the first after the
// static table.
func (e *encoder) index(number uint32) uint32 { return staticFields + 1 + e.gone + e.n - number }

func (f finder) get(at uint32) uint32 {
	if len(f) == 0 {
		return 0
	}
	return f[at&uint32(len(f)-1)]
}

func (f *finder) set(at, number uint32, places int) {
	if len(*f) == 0 {
		*f = make(finder, places)
	}
	(*f)[at&uint32(len(*f)-1)] = number
}

// copyField makes both copies at once.
func copyField(name, value string) (string, string) {
	var both strings.Builder
	both.Grow(len(name) + len(value))
	both.WriteString(name)
	both.WriteString(value)
	s := both.String()
	return s[:len(name)], s[len(name):]
}

// appendInt appends n in the lower bits of a byte and what follows (RFC 7541 section 5.1).
func appendInt(dst []byte, first byte, bits uint, n uint32) []byte {
	most := uint32(1)<<bits - 1
	if n < most {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		dst = append(dst, 0x80|byte(n))
	}
	return append(dst, byte(n))
}

// appendString appends s, in Huffman's code if that is shorter (RFC 7541 section 5.2).
func appendString(dst []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(appendInt(dst, 0x80, 7, uint32(n)), s)
	}
	return append(appendInt(dst, 0, 7, uint32(len(s))), s...)
}
