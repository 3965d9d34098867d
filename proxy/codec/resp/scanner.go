package resp

import (
	"bytes"
	"cmp"
)

// Scanner finds the end of a value that arrives in pieces. It keeps no bytes but the
// beginning of the value's first line. The zero Scanner is at the beginning of a value.
type Scanner struct {
	// MostElements is how many elements an aggregate may have; 0 is as many as a reply.
	MostElements int64

	skip  int64 // bytes of a bulk string, with its line end, that are still to come
	stack [maxDepth]level
	depth int
	line  [64]byte // of the header line that is being read
	n     int      // its length, which may be more than fits

	first    [256]byte
	firstLen int
	started  bool // the first line is complete
}

type level struct {
	left      int64 // values
	attribute bool  // they belong to a value that is still to come
}

// Kind returns the first byte of the value, 0 before there is one.
func (s *Scanner) Kind() byte {
	if s.firstLen == 0 {
		return 0
	}
	return s.first[0]
}

// Line returns the first line of the value without its end, its first 256 bytes at most,
// valid until the next Reset. For an aggregate that is its header; after an attribute, it
// is the attribute's.
func (s *Scanner) Line() []byte { return s.first[:s.firstLen] }

// Null reports whether the value is one of the three nulls: $-1, *-1, _.
func (s *Scanner) Null() bool {
	l := s.Line()
	return len(l) == 1 && l[0] == Null || len(l) == 3 && (l[0] == BulkString || l[0] == Array) && l[1] == '-'
}

// Reset makes the Scanner ready for the next value.
func (s *Scanner) Reset() {
	s.skip, s.depth, s.n, s.firstLen, s.started = 0, 0, 0, 0, false
}

// Midway reports whether a value has begun.
func (s *Scanner) Midway() bool { return s.firstLen > 0 }

// Scan looks at the next bytes of the stream, which stay the caller's, and returns how many
// of them belong to the value; done tells that it is complete. After an error nothing of
// the stream can be told any more.
func (s *Scanner) Scan(p []byte) (n int, done bool, err error) {
	for n < len(p) {
		if s.skip > 0 {
			k := min(s.skip, int64(len(p)-n))
			s.skip -= k
			n += int(k)
			if s.skip > 0 {
				break
			}
			// Redis' own clients do not look at the line end after a bulk string either; but
			// bytes that are not what they should be are better noticed than relayed.
			if p[n-1] != '\n' {
				return n, false, ErrSyntax
			}
			if s.complete() {
				return n, true, nil
			}
			continue
		}
		rest := p[n:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			s.keep(rest)
			if s.n > maxLine {
				return n, false, ErrSyntax
			}
			return len(p), false, nil
		}
		s.keep(rest[:end+1])
		n += end + 1
		done, err = s.header()
		if done || err != nil {
			return n, done, err
		}
	}
	return n, false, nil
}

// keep adds bytes to the header line.
func (s *Scanner) keep(p []byte) {
	if s.n < len(s.line) {
		copy(s.line[s.n:], p)
	}
	if !s.started {
		s.firstLen += copy(s.first[s.firstLen:], p)
	}
	s.n += len(p)
}

// header deals with a header line that is complete.
func (s *Scanner) header() (done bool, err error) {
	size := s.n
	s.n = 0
	if !s.started {
		s.started = true
		s.firstLen = min(s.firstLen, max(size-2, 0))
	}
	if size < 3 || size <= len(s.line) && s.line[size-2] != '\r' {
		return false, ErrSyntax
	}
	kind := s.line[0]
	if size > len(s.line) { // text; no number is that long
		switch kind {
		case SimpleString, Error, Double, BigNumber:
			return s.complete(), nil
		}
		return false, ErrSyntax
	}
	text := s.line[1 : size-2]
	switch kind {
	case SimpleString, Error, Integer, Null, Boolean, Double, BigNumber:
		return s.complete(), nil
	case BulkString, BulkError, VerbatimString:
		n, ok := integer(text, MaxBulk)
		if !ok {
			return false, ErrSyntax
		}
		if n < 0 {
			return s.complete(), nil
		}
		s.skip = n + 2
		return false, nil
	case Array, Set, Push, Map, Attribute:
		return s.enter(kind, text)
	}
	return false, ErrSyntax
}

// enter begins an aggregate.
func (s *Scanner) enter(kind byte, text []byte) (done bool, err error) {
	n, ok := integer(text, cmp.Or(s.MostElements, maxReply))
	if !ok || n < 0 && kind != Array {
		return false, ErrSyntax
	}
	if kind == Map || kind == Attribute {
		n *= 2
	}
	if n <= 0 {
		return kind != Attribute && s.complete(), nil
	}
	if s.depth == len(s.stack) {
		return false, ErrSyntax
	}
	s.stack[s.depth] = level{n, kind == Attribute}
	s.depth++
	return false, nil
}

// complete counts a value that has ended, and what ends with it.
func (s *Scanner) complete() bool {
	for s.depth > 0 {
		l := &s.stack[s.depth-1]
		if l.left--; l.left > 0 {
			return false
		}
		s.depth--
		if l.attribute {
			return false
		}
	}
	return true
}
