// Package buffer holds bytes as views into pooled, reference-counted slabs, so
// that a proxy can hand bytes from a socket to a socket without copying them.
//
// A Buf has one owner. Passing a *Buf to a function lends it: the callee may
// read and change it until it returns. Move transfers bytes, Share adds a
// reference to them, Release gives them back. With the build tag "invariants"
// a released slab is poisoned and every live slab remembers who took it.
//
// Sockets are not here: see package netio.
package buffer

import (
	"iter"
)

// noCopy makes `go vet -copylocks` report copies of a Buf: its inline views
// would be shared by two owners.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// view is a part of one slab. Each view owns one reference to its slab.
type view struct {
	s        *slab
	off, end int
}

func (v view) bytes() []byte { return v.s.data[v.off:v.end] }

// Buf is a queue of bytes. The zero value is empty and ready to use. A Buf must
// not be copied after first use and is not safe for concurrent use; the slabs
// behind two Bufs may be shared between goroutines.
type Buf struct {
	_      noCopy
	views  []view
	inline [4]view
	n      int
}

// Len returns the number of bytes in b.
func (b *Buf) Len() int { return b.n }

// Segments returns the number of contiguous pieces in b.
func (b *Buf) Segments() int { return len(b.views) }

// Views yields the contiguous pieces of b in order. The pieces are lent: they
// are valid until b changes.
func (b *Buf) Views() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range b.views {
			if !yield(b.views[i].bytes()) {
				return
			}
		}
	}
}

// Segment returns the i-th contiguous piece, lent until b changes.
func (b *Buf) Segment(i int) []byte { return b.views[i].bytes() }

// First returns the first contiguous piece, lent until b changes, or nil.
func (b *Buf) First() []byte {
	if len(b.views) == 0 {
		return nil
	}
	return b.views[0].bytes()
}

// Peek returns the first n bytes as one contiguous slice, lent until b changes.
// Where they lie in several pieces they are first copied together. It reports
// false when b holds fewer than n bytes.
func (b *Buf) Peek(n int) ([]byte, bool) {
	if b.n < n {
		return nil, false
	}
	if n == 0 {
		return nil, true
	}
	if v := b.views[0]; v.end-v.off >= n {
		return v.s.data[v.off : v.off+n : v.off+n], true
	}
	b.gather(n)
	v := b.views[0]
	return v.s.data[v.off : v.off+n : v.off+n], true
}

// gather makes the first n bytes one view. n is at least 1 and at most b.n.
func (b *Buf) gather(n int) {
	s := take(max(n, SlabSize))
	got := 0
	for got < n {
		v := &b.views[0]
		c := copy(s.data[got:n], v.bytes())
		got += c
		v.off += c
		if v.off == v.end {
			b.popFront()
		}
	}
	s.used = n
	b.prepend(view{s, 0, n})
}

func (b *Buf) popFront() {
	b.views[0].s.unref()
	b.forget(1)
}

// keepViews is for how many views a Buf keeps the memory once it is empty: few
// Bufs ever hold more, and those that did once need not carry it for good.
const keepViews = 64

// forget drops the first k views without releasing them.
func (b *Buf) forget(k int) {
	left := copy(b.views, b.views[k:])
	clear(b.views[left:])
	b.views = b.views[:left]
	if left == 0 && cap(b.views) > keepViews {
		b.views = nil
	}
}

// whole returns how many views the first n bytes fill, and how many bytes of n lie
// in the view after them.
func (b *Buf) whole(n int) (views, rest int) {
	for n > 0 {
		v := &b.views[views]
		if v.end-v.off > n {
			break
		}
		n -= v.end - v.off
		views++
	}
	return views, n
}

func (b *Buf) prepend(v view) {
	b.push(view{})
	copy(b.views[1:], b.views)
	b.views[0] = v
}

func (b *Buf) push(v view) {
	if b.views == nil {
		b.views = b.inline[:0]
	}
	b.views = append(b.views, v)
}

// Append copies p to the end of b.
func (b *Buf) Append(p []byte) {
	for len(p) > 0 {
		room := b.Reserve(1)
		n := copy(room, p)
		b.Commit(n)
		p = p[n:]
	}
}

// AppendString copies s to the end of b.
func (b *Buf) AppendString(s string) {
	for len(s) > 0 {
		room := b.Reserve(1)
		n := copy(room, s)
		b.Commit(n)
		s = s[n:]
	}
}

// Reserve returns at least want bytes of room after the last byte of b, taking
// a slab where the last one has none left or is shared. The room belongs to the
// caller until the next call on b; Commit makes its first bytes part of b.
func (b *Buf) Reserve(want int) []byte {
	if len(b.views) > 0 {
		v := &b.views[len(b.views)-1]
		if v.end == v.s.used && v.s.refs.Load() == 1 && len(v.s.data)-v.end >= want {
			return v.s.data[v.end:]
		}
	}
	b.push(view{s: take(max(want, SlabSize))})
	return b.views[len(b.views)-1].s.data
}

// Commit appends the first n bytes of the room that Reserve returned. Commit(0)
// gives back a slab that Reserve took in vain.
func (b *Buf) Commit(n int) {
	last := len(b.views) - 1
	v := &b.views[last]
	v.end += n
	v.s.used = v.end
	b.n += n
	if v.off == v.end {
		v.s.unref()
		b.views[last] = view{}
		b.views = b.views[:last]
	}
}

// Move transfers the first n bytes of src to the end of b without copying
// them. It moves all of src if n exceeds its length.
func (b *Buf) Move(src *Buf, n int) {
	n = min(n, src.n)
	k, rest := src.whole(n)
	if k > 0 {
		if b.views == nil {
			b.views = b.inline[:0]
		}
		b.views = append(b.views, src.views[:k]...)
		src.forget(k)
	}
	if rest > 0 {
		v := &src.views[0]
		v.s.ref()
		b.push(view{v.s, v.off, v.off + rest})
		v.off += rest
	}
	src.n -= n
	b.n += n
}

// MoveAll transfers everything in src to the end of b.
func (b *Buf) MoveAll(src *Buf) { b.Move(src, src.n) }

// Share appends a second reference to the first n bytes of b to dst. Both see
// the same memory: neither owner may change those bytes afterwards.
func (b *Buf) Share(dst *Buf, n int) {
	n = min(n, b.n)
	for i := 0; n > 0; i++ {
		v := b.views[i]
		v.end = min(v.end, v.off+n)
		v.s.ref()
		dst.push(v)
		dst.n += v.end - v.off
		n -= v.end - v.off
	}
}

// Discard drops the first n bytes, or everything if b is shorter.
func (b *Buf) Discard(n int) {
	n = min(n, b.n)
	k, rest := b.whole(n)
	for i := range k {
		b.views[i].s.unref()
	}
	if k > 0 {
		b.forget(k)
	}
	if rest > 0 {
		b.views[0].off += rest
	}
	b.n -= n
}

// Truncate keeps the first n bytes and drops the rest.
func (b *Buf) Truncate(n int) {
	for b.n > n {
		last := len(b.views) - 1
		v := &b.views[last]
		size := v.end - v.off
		if drop := b.n - n; size > drop {
			v.end -= drop
			b.n -= drop
			return
		}
		v.s.unref()
		*v = view{}
		b.views = b.views[:last]
		b.n -= size
	}
}

// Release empties b and gives its references back.
func (b *Buf) Release() {
	for i := range b.views {
		b.views[i].s.unref()
	}
	b.forget(len(b.views))
	b.n = 0
}

// CopyTo copies from b into p and returns how many bytes it copied. b keeps them.
func (b *Buf) CopyTo(p []byte) int {
	n := 0
	for i := range b.views {
		if n == len(p) {
			break
		}
		n += copy(p[n:], b.views[i].bytes())
	}
	return n
}

// Bytes returns a fresh copy of everything in b. It is for tests, logs and
// other places off the hot path.
func (b *Buf) Bytes() []byte {
	p := make([]byte, b.n)
	b.CopyTo(p)
	return p
}
