package h1

import (
	"bytes"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// headScan finds the empty line that ends a head or a trailer section. It looks
// at each byte once, however the bytes arrive.
type headScan struct {
	n     int  // bytes looked at
	line  int  // where the current line begins
	first byte // its first byte, if n > line
}

// find returns the length of the head at the start of b, empty line included, and
// whether it is complete. It is called again, with the same bytes and more, after
// it answered false. A first line that is empty is the end, too.
func (s *headScan) find(b *buffer.Buf) (int, bool) {
	base := 0
	for i := range b.Segments() {
		seg := b.Segment(i)
		if s.n < base+len(seg) {
			if s.scan(seg[s.n-base:]) {
				return s.n, true
			}
		}
		base += len(seg)
	}
	return 0, false
}

// scan looks at p, which begins at s.n, and stops after the line feed of an empty line.
func (s *headScan) scan(p []byte) bool {
	for len(p) > 0 {
		if s.n == s.line {
			s.first = p[0]
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			s.n += len(p)
			return false
		}
		size := s.n + i - s.line
		s.n += i + 1
		s.line = s.n
		if size == 0 || size == 1 && s.first == '\r' {
			return true
		}
		p = p[i+1:]
	}
	return false
}
