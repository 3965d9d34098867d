package jsonpb

// Splitter cuts a JSON array that arrives in pieces into its elements. The zero value is
// ready for one.
type Splitter struct {
	state   state
	depth   int // of what is open within the element
	quoted  bool
	escaped bool
	any     bool   // there was an element
	element []byte // as far as it has come
}

type state uint8

const (
	before  state = iota // the array
	between              // elements, with a comma or the end to come
	ahead                // of an element
	within               // an element
	after                // the array
)

// Held is how many bytes of an element are kept until the rest of it comes.
func (s *Splitter) Held() int { return len(s.element) }

// Feed reads a piece, which is lent, and calls each for each element that it completes, which
// is lent, too.
func (s *Splitter) Feed(p []byte, each func(element []byte) error) error {
	for _, c := range p {
		if err := s.feed(c, each); err != nil {
			return err
		}
	}
	return nil
}

// End fails unless the array is complete.
func (s *Splitter) End() error {
	switch s.state {
	case after:
		return nil
	case before:
		return invalid("Expected an array instead of an object")
	}
	return invalid("Unexpected end of string. Expected , or ] after array value.")
}

func (s *Splitter) feed(c byte, each func(element []byte) error) error {
	if s.state == within {
		return s.inside(c, each)
	}
	switch c {
	case ' ', '\t', '\n', '\r':
		return nil
	}
	switch {
	case s.state == before && c == '[':
		s.state = ahead
	case s.state == before && c == '{':
		return invalid("Expected an array instead of an object")
	case s.state == before && c != ']' && c != '}' && c != ',' && c != ':':
		return invalid("Expected an array instead of a scalar value.")
	case s.state == between && c == ',':
		s.state = ahead
	case s.state == between && c == ']', s.state == ahead && c == ']' && !s.any:
		s.state = after
	case s.state == ahead && c != ',' && c != ']' && c != '}' && c != ':':
		s.state, s.any = within, true
		return s.inside(c, each)
	default:
		return invalid("Unexpected token.")
	}
	return nil
}

// inside reads a byte of an element, or the one after it.
func (s *Splitter) inside(c byte, each func(element []byte) error) error {
	switch {
	case s.escaped:
		s.escaped = false
	case s.quoted:
		s.escaped = c == '\\'
		s.quoted = c != '"'
	case c == '"':
		s.quoted = true
	case c == '{' || c == '[':
		if s.depth++; s.depth > maxDepth {
			return invalid("Message too deep. Max recursion depth reached.")
		}
	case s.depth == 0 && (c == ',' || c == ']'): // a scalar ends with what follows
		if err := s.flush(each); err != nil {
			return err
		}
		return s.feed(c, each)
	case c == '}' || c == ']':
		if s.depth--; s.depth == 0 {
			s.element = append(s.element, c)
			return s.flush(each)
		}
		if s.depth < 0 {
			return invalid("Unexpected token.")
		}
	}
	s.element = append(s.element, c)
	return nil
}

func (s *Splitter) flush(each func(element []byte) error) error {
	err := each(s.element)
	s.state, s.element = between, s.element[:0]
	return err
}
