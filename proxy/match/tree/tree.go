// Package tree holds compiled match trees (xds.type.matcher.v3.Matcher): they read
// inputs from a context, such as a connection or a stream, and lead to an action.
// What an input reads and what an action means is the caller's: a Tree is generic over
// both, immutable, used by all connections at once, and matches without an allocation.
//
// Protobuf is not here: see filter/fromproto.
package tree

import (
	"net/netip"
	"strconv"
	"sync"
	"unsafe"
)

// Tree leads from a context C to an action A.
type Tree[C, A any] struct {
	root Matcher[C, A]
	pool sync.Pool // *run[C, A]
}

// New returns a tree with that root.
func New[C, A any](root Matcher[C, A]) *Tree[C, A] { return &Tree[C, A]{root: root} }

// Result is how a match ended.
type Result uint8

// The results.
const (
	NoMatch Result = iota
	Match
	// Unavailable: an input that decides has not arrived yet, such as trailers. Ask again
	// later, or take it for no match.
	Unavailable
)

// Find returns the action that c leads to. Without a Match the action is the zero value.
func (t *Tree[C, A]) Find(c C) (A, Result) { return t.FindSkipped(c, nil) }

// FindSkipped is Find; skipped, which may be nil, is called with each action that was
// reached and not taken because of keep_matching.
func (t *Tree[C, A]) FindSkipped(c C, skipped func(A)) (A, Result) {
	r, ok := t.pool.Get().(*run[C, A])
	if !ok {
		r = &run[C, A]{}
	}
	r.c, r.skipped = c, skipped
	a, res := r.find(t.root)
	var zero C
	r.c, r.skipped = zero, nil
	r.scratch.buf = r.scratch.buf[:0]
	if cap(r.scratch.buf) <= maxScratch {
		t.pool.Put(r)
	}
	return a, res
}

// maxScratch is the most bytes of memory for values that are kept for the next match.
const maxScratch = 4 << 10

// Matcher is a node: *List, *Exact, *Prefix, *Ranges, *Names or *Always.
type Matcher[C, A any] interface {
	find(r *run[C, A]) (A, Result)
}

// On is what a match leads to (Matcher.OnMatch).
type On[C, A any] struct {
	Next   Matcher[C, A] // another matcher, or
	Action A             // the end
	// Keep is keep_matching: the action is reported as skipped, and the search goes on as
	// if nothing had matched.
	Keep bool
}

// run is one match under way.
type run[C, A any] struct {
	c       C
	skipped func(A)
	scratch Scratch
}

func (r *run[C, A]) find(m Matcher[C, A]) (A, Result) {
	if m == nil {
		var zero A
		return zero, NoMatch
	}
	return m.find(r)
}

// follow returns where on leads; nil leads nowhere.
func (r *run[C, A]) follow(on *On[C, A]) (a A, res Result) {
	switch {
	case on == nil:
		return a, NoMatch
	case on.Next != nil:
		a, res = on.Next.find(r)
	default:
		a, res = on.Action, Match
	}
	if on.Keep && res == Match {
		if r.skipped != nil {
			r.skipped(a)
		}
		var zero A
		return zero, NoMatch
	}
	return a, res
}

// Always leads to On, whatever the context: a Matcher that has only on_no_match.
type Always[C, A any] struct{ On *On[C, A] }

func (m *Always[C, A]) find(r *run[C, A]) (A, Result) { return r.follow(m.On) }

// Input reads a value from a context. What it puts together goes into s.
type Input[C any] func(c C, s *Scratch) Value

// Value is what an input has read. The zero value is that there is none.
type Value struct {
	State State
	Text  string
	Addr  netip.Addr // the address that Text says, where the input reads addresses
	Data  any        // what a structured input reads, such as metadata, instead of Text
}

// State is whether there is a value.
type State uint8

// The states.
const (
	Absent State = iota
	Present
	Pending // has not arrived yet
)

// Text is a value that is there.
func Text(s string) Value { return Value{State: Present, Text: s} }

// NotYet is a value that has not arrived yet.
func NotYet() Value { return Value{State: Pending} }

// Scratch is memory for values that inputs put together. It lasts for one match.
type Scratch struct{ buf []byte }

// Addr is an address as text; one that is none is absent.
func (s *Scratch) Addr(a netip.Addr) Value {
	if !a.IsValid() {
		return Value{}
	}
	v := s.since(len(s.buf), func(b []byte) []byte { return a.AppendTo(b) })
	v.Addr = a
	return v
}

// Number is a number as decimal text.
func (s *Scratch) Number(n int) Value {
	return s.since(len(s.buf), func(b []byte) []byte { return strconv.AppendInt(b, int64(n), 10) })
}

// Append is the text that f appends.
func (s *Scratch) Append(f func(dst []byte) []byte) Value { return s.since(len(s.buf), f) }

// since returns what f has appended after the first n bytes. Memory that append leaves
// behind stays what it is: values from before go on to be good.
func (s *Scratch) since(n int, f func([]byte) []byte) Value {
	s.buf = f(s.buf)
	b := s.buf[n:]
	return Text(unsafe.String(unsafe.SliceData(b), len(b)))
}
