package tree

import "github.com/mecha-mesh/mecha/proxy/match"

// List leads to the first of its items whose predicate holds and that leads somewhere.
type List[C, A any] struct {
	Items []Item[C, A]
	None  *On[C, A] // on_no_match, may be nil
}

// Item is one entry of a List (Matcher.MatcherList.FieldMatcher).
type Item[C, A any] struct {
	If Predicate[C]
	On *On[C, A]
}

func (m *List[C, A]) find(r *run[C, A]) (A, Result) {
	for i := range m.Items {
		switch m.Items[i].If.test(r.c, &r.scratch) {
		case Unavailable:
			var zero A
			return zero, Unavailable
		case Match:
			if a, res := r.follow(m.Items[i].On); res != NoMatch {
				return a, res
			}
		}
	}
	return r.follow(m.None)
}

// Predicate is a condition on a context: *Single, *Not, All or Any.
type Predicate[C any] interface {
	test(c C, s *Scratch) Result
}

// Single holds if the input's value matches.
type Single[C any] struct {
	Input Input[C]
	Value ValueMatcher
}

// ValueMatcher decides about one value, which may be absent; it is not Pending.
type ValueMatcher interface {
	MatchValue(v Value) bool
}

func (p *Single[C]) test(c C, s *Scratch) Result {
	v := p.Input(c, s)
	switch {
	case v.State == Pending:
		return Unavailable
	case p.Value.MatchValue(v):
		return Match
	}
	return NoMatch
}

// Not turns the answer round.
type Not[C any] struct{ P Predicate[C] }

func (p *Not[C]) test(c C, s *Scratch) Result {
	switch p.P.test(c, s) {
	case Match:
		return NoMatch
	case NoMatch:
		return Match
	}
	return Unavailable
}

// All holds if all of its predicates do. The first that is not met or not known yet
// decides.
type All[C any] []Predicate[C]

func (ps All[C]) test(c C, s *Scratch) Result {
	for _, p := range ps {
		if res := p.test(c, s); res != Match {
			return res
		}
	}
	return Match
}

// Any holds if one of its predicates does, even if others are not known yet.
type Any[C any] []Predicate[C]

func (ps Any[C]) test(c C, s *Scratch) Result {
	out := NoMatch
	for _, p := range ps {
		switch p.test(c, s) {
		case Match:
			return Match
		case Unavailable:
			out = Unavailable
		}
	}
	return out
}

// String matches a text that is there.
type String struct{ match.String }

// MatchValue implements ValueMatcher.
func (m *String) MatchValue(v Value) bool { return v.State == Present && m.Match(v.Text) }

// Addresses matches a text that is an address in one of the ranges
// (envoy.extensions.matching.input_matchers.ip.v3.Ip).
type Addresses struct{ Ranges match.CIDRs }

// MatchValue implements ValueMatcher.
func (m *Addresses) MatchValue(v Value) bool {
	a, ok := v.addr()
	return ok && m.Ranges.Match(a)
}

// Hashed matches the share of all texts whose hash is at least Threshold modulo Modulo
// (ConsistentHashing).
type Hashed struct {
	Threshold, Modulo uint32
	Seed              uint64
}

// MatchValue implements ValueMatcher.
func (m *Hashed) MatchValue(v Value) bool {
	return v.State == Present && match.Hash64(v.Text, m.Seed)%uint64(m.Modulo) >= uint64(m.Threshold)
}

// Share matches a share of all texts (RuntimeFraction).
type Share struct {
	Fraction match.Fraction
	Seed     uint64
}

// MatchValue implements ValueMatcher.
func (m *Share) MatchValue(v Value) bool {
	return v.State == Present && m.Fraction.Match(match.Hash64(v.Text, m.Seed))
}

// Structured matches a value that is no text (envoy.extensions.matching.input_matchers.metadata.v3.Metadata).
type Structured struct {
	Value  match.Value
	Invert bool
}

// MatchValue implements ValueMatcher.
func (m *Structured) MatchValue(v Value) bool {
	return m.Value.Match(v.Data, v.State == Present) != m.Invert
}
