package jsonpb

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deeply objects and arrays may be nested.
const maxDepth = 64

// Error is what is wrong with JSON or with a message, in words for the client.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

func invalid(text string) error { return &Error{text} }

// scanner reads JSON (RFC 8259) that is there as a whole.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek returns the next byte that is no space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

// take consumes c if it comes next.
func (s *scanner) take(c byte) bool {
	if s.peek() != c || c == 0 {
		return false
	}
	s.i++
	return true
}

func (s *scanner) fail() error {
	if s.peek(); s.i == len(s.b) {
		return invalid("Unexpected end of string. Expected a value.")
	}
	return invalid("Unexpected token at offset " + strconv.Itoa(s.i) + ".")
}

// kind is what a value is.
type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	composite // an object or array, which is not read yet
)

// token is a value: its text, decoded if it is a string.
type token struct {
	kind kind
	text string
}

// value reads a scalar, or stops before an object or array.
func (s *scanner) value() (token, error) {
	switch c := s.peek(); {
	case c == '{' || c == '[':
		return token{kind: composite}, nil
	case c == '"':
		t, err := s.str()
		return token{text, t}, err
	case c == '-' || '0' <= c && c <= '9':
		return s.num()
	}
	for _, w := range []struct {
		word string
		kind kind
	}{{"null", null}, {"true", boolean}, {"false", boolean}} {
		if end := s.i + len(w.word); end <= len(s.b) && string(s.b[s.i:end]) == w.word {
			s.i = end
			return token{w.kind, w.word}, nil
		}
	}
	return token{}, s.fail()
}

func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

// at consumes one of the bytes if it is the next one, space or not.
func (s *scanner) at(set string) bool {
	if s.i == len(s.b) {
		return false
	}
	for j := range len(set) {
		if s.b[s.i] == set[j] {
			s.i++
			return true
		}
	}
	return false
}

func (s *scanner) num() (token, error) {
	start := s.i
	s.at("-")
	ok := s.at("0") || s.digits()
	if ok && s.at(".") {
		ok = s.digits()
	}
	if ok && s.at("eE") {
		s.at("+-")
		ok = s.digits()
	}
	if !ok {
		return token{}, s.fail()
	}
	return token{number, string(s.b[start:s.i])}, nil
}

// str reads a string.
func (s *scanner) str() (string, error) {
	if !s.take('"') {
		return "", s.fail()
	}
	start := s.i
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			if plain := s.b[start:s.i]; utf8.Valid(plain) {
				s.i++
				return string(plain), nil
			}
			return "", invalid("Encountered non UTF-8 code points.")
		case c == '\\':
			return s.escaped(start)
		case c < ' ':
			return "", s.fail()
		}
	}
	return "", s.fail()
}

// escaped goes on with a string in which there is an escape.
func (s *scanner) escaped(start int) (string, error) {
	out := append([]byte(nil), s.b[start:s.i]...)
	for s.i < len(s.b) {
		c := s.b[s.i]
		s.i++
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return "", invalid("Encountered non UTF-8 code points.")
			}
			return string(out), nil
		case c < ' ':
			s.i--
			return "", s.fail()
		case c != '\\':
			out = append(out, c)
		default:
			r, ok := s.escape()
			if !ok {
				return "", s.fail()
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return "", s.fail()
}

// escape reads what follows a backslash.
func (s *scanner) escape() (rune, bool) {
	if s.i == len(s.b) {
		return 0, false
	}
	c := s.b[s.i]
	s.i++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		r, ok := s.hex()
		if !ok || !utf16.IsSurrogate(r) {
			return r, ok
		}
		if !s.at("\\") || !s.at("u") {
			return 0, false
		}
		low, ok := s.hex()
		r = utf16.DecodeRune(r, low)
		return r, ok && r != utf8.RuneError
	}
	return 0, false
}

func (s *scanner) hex() (rune, bool) {
	if s.i+4 > len(s.b) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s.b[s.i:s.i+4]), 16, 16)
	s.i += 4
	return rune(n), err == nil
}

// raw reads a value of any kind and returns it as it was written.
func (s *scanner) raw(depth int) ([]byte, error) {
	s.space()
	start := s.i
	err := s.skip(depth)
	return s.b[start:s.i], err
}

// skip reads a value of any kind, within depth others.
func (s *scanner) skip(depth int) error {
	t, err := s.value()
	if err != nil || t.kind != composite {
		return err
	}
	if s.peek() == '[' {
		return s.array(depth, func() error { return s.skip(depth + 1) })
	}
	return s.object(depth, func(string) error { return s.skip(depth + 1) })
}

// array calls each before each element.
func (s *scanner) array(depth int, each func() error) error {
	if !s.take('[') {
		return s.fail()
	}
	if depth >= maxDepth {
		return invalid("Message too deep. Max recursion depth reached.")
	}
	if s.take(']') {
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return s.fail()
		}
	}
}

// object calls each before the value of each name.
func (s *scanner) object(depth int, each func(name string) error) error {
	if !s.take('{') {
		return s.fail()
	}
	if depth >= maxDepth {
		return invalid("Message too deep. Max recursion depth reached.")
	}
	if s.take('}') {
		return nil
	}
	for {
		name, err := s.str()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return s.fail()
		}
		if err := each(name); err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return s.fail()
		}
	}
}

// end fails if something follows.
func (s *scanner) end() error {
	if s.peek(); s.i < len(s.b) {
		return s.fail()
	}
	return nil
}
