package header

import "hash/maphash"

// Spelling is how the names of a message were written when it came, for who wants to
// write them the same way. Only a codec that is told to makes one.
type Spelling struct {
	text   []byte
	names  []span
	reason []byte
	proper bool
	seed   maphash.Seed
	table  []uint32 // of many names, by their hash: where they are in names, from 1; 0 is free
	lower  []byte   // memory for the name that is looked for
}

// manyNames is up to which number names are compared one by one. Who sends a message must
// not choose how long its names are looked for.
const manyNames = 16

type span struct{ from, to int }

// Spell makes m remember how names are written, until Reset. proper is what becomes of
// names that were not in the message: their words begin with a capital letter.
func (m *Map) Spell(proper bool) *Spelling {
	if m.spelling == nil {
		m.spelling = &Spelling{seed: maphash.MakeSeed()}
	}
	m.spelled, m.spelling.proper = true, proper
	return m.spelling
}

// Spelling returns what m remembers of how names were written, nil if it was not told to.
func (m *Map) Spelling() *Spelling {
	if !m.spelled {
		return nil
	}
	return m.spelling
}

// Note remembers a name; of several the first one counts. It is copied.
func (s *Spelling) Note(name []byte) {
	if find(s, name) != nil {
		return
	}
	from := len(s.text)
	s.text = append(s.text, name...)
	s.names = append(s.names, span{from, len(s.text)})
	s.enter()
}

// enter keeps the table up with the names, of which the last one is new.
func (s *Spelling) enter() {
	n := len(s.names)
	switch {
	case n <= manyNames:
	case 2*n <= len(s.table):
		s.put(n)
	default:
		size := 4 * manyNames
		for size < 4*n {
			size *= 2
		}
		if cap(s.table) < size {
			s.table = make([]uint32, size)
		}
		s.table = s.table[:size]
		clear(s.table)
		for i := range n {
			s.put(i + 1)
		}
	}
}

// put enters the name in a place, from 1.
func (s *Spelling) put(place int) {
	n := s.names[place-1]
	at := s.hash(s.text[n.from:n.to])
	for s.table[at] != 0 {
		at = (at + 1) & (len(s.table) - 1)
	}
	s.table[at] = uint32(place)
}

// hash returns where in the table a name is looked for first.
func (s *Spelling) hash(name []byte) int {
	s.lower = append(s.lower[:0], name...)
	for i, c := range s.lower {
		if 'A' <= c && c <= 'Z' {
			s.lower[i] = c + ('a' - 'A')
		}
	}
	return int(maphash.Bytes(s.seed, s.lower) & uint64(len(s.table)-1))
}

// SetReason remembers the reason phrase of a response. It is copied.
func (s *Spelling) SetReason(reason []byte) { s.reason = append(s.reason[:0], reason...) }

// Reason returns the reason phrase, nil if there is none.
func (s *Spelling) Reason() []byte {
	if len(s.reason) == 0 {
		return nil
	}
	return s.reason
}

// Append appends a name, which is in lower case, as it was written.
func (s *Spelling) Append(dst []byte, name string) []byte {
	if was := find(s, name); was != nil {
		return append(dst, was...)
	}
	at := len(dst)
	dst = append(dst, name...)
	if s.proper {
		ProperCase(dst[at:])
	}
	return dst
}

func find[T string | []byte](s *Spelling, name T) []byte {
	if len(s.names) > manyNames {
		s.lower = append(s.lower[:0], name...)
		for at := s.hash(s.lower); s.table[at] != 0; at = (at + 1) & (len(s.table) - 1) {
			if was := s.at(int(s.table[at]) - 1); len(was) == len(name) && equalFold(was, name) {
				return was
			}
		}
		return nil
	}
	for i := range s.names {
		if was := s.at(i); len(was) == len(name) && equalFold(was, name) {
			return was
		}
	}
	return nil
}

func (s *Spelling) at(i int) []byte {
	n := s.names[i]
	return s.text[n.from:n.to]
}

func equalFold[T string | []byte](a []byte, b T) bool {
	for i, c := range a {
		if c != b[i] && (c|0x20 != b[i]|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

func (s *Spelling) reset() {
	if cap(s.text) > maxArena {
		s.text = nil
	}
	if cap(s.table) > maxArena/4 {
		s.table, s.names = nil, nil
	}
	s.text, s.names, s.table, s.reason, s.proper = s.text[:0], s.names[:0], s.table[:0], s.reason[:0], false
}

func (s *Spelling) copyTo(dst *Map) {
	to := dst.Spell(s.proper)
	to.text = append(to.text[:0], s.text...)
	to.names, to.table = append(to.names[:0], s.names...), to.table[:0]
	to.enter()
	to.SetReason(s.reason)
}

// ProperCase makes the first letter of each word of a name upper case.
func ProperCase(name []byte) {
	up := true
	for i, c := range name {
		if up && 'a' <= c && c <= 'z' {
			name[i] = c - ('a' - 'A')
		}
		up = c == '-'
	}
}
