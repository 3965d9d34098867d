// Package wat assembles WebAssembly modules out of their text format, as far as small
// modules need it: what tests deploy is written in it, so that a reader sees every
// instruction, and nothing but Go is needed to build it.
//
// Instructions are written folded, (i32.add (local.get $a) (i32.const 1)), or plain,
// without folding; blocks are always folded. Integers, one memory, one table, imported and
// own functions, globals, data and element segments are known; floating point is not.
package wat

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// node is an atom, a string or a list.
type node struct {
	text   string
	quoted bool
	list   []*node
	isList bool
	line   int
}

// head is the first atom of a list, "" if there is none.
func (n *node) head() string {
	if n.isList && len(n.list) > 0 && !n.list[0].isList && !n.list[0].quoted {
		return n.list[0].text
	}
	return ""
}

func (n *node) isName() bool { return !n.isList && !n.quoted && strings.HasPrefix(n.text, "$") }

func (n *node) errorf(format string, args ...any) error {
	return fmt.Errorf("wat: line %d: "+format, append([]any{n.line}, args...)...)
}

// reader cuts the text into nodes.
type reader struct {
	src  string
	i    int
	line int
}

var errEnd = errors.New("wat: the text ends too early")

func (r *reader) skip() {
	for r.i < len(r.src) {
		switch c := r.src[r.i]; {
		case c == '\n':
			r.line++
			r.i++
		case c == ' ' || c == '\t' || c == '\r':
			r.i++
		case strings.HasPrefix(r.src[r.i:], ";;"):
			for r.i < len(r.src) && r.src[r.i] != '\n' {
				r.i++
			}
		default:
			return
		}
	}
}

// next returns nil at the end of a list or of the text.
func (r *reader) next() (*node, error) {
	r.skip()
	if r.i >= len(r.src) {
		return nil, nil
	}
	n := &node{line: r.line}
	switch r.src[r.i] {
	case ')':
		return nil, nil
	case '(':
		n.isList = true
		r.i++
		for {
			c, err := r.next()
			if err != nil {
				return nil, err
			}
			if c == nil {
				break
			}
			n.list = append(n.list, c)
		}
		if r.i >= len(r.src) {
			return nil, errEnd
		}
		r.i++
		return n, nil
	case '"':
		n.quoted = true
		return n, r.quote(n)
	}
	start := r.i
	for r.i < len(r.src) && !strings.ContainsRune(" \t\r\n();\"", rune(r.src[r.i])) {
		r.i++
	}
	if r.i == start {
		return nil, n.errorf("unexpected %q", r.src[r.i])
	}
	n.text = r.src[start:r.i]
	return n, nil
}

// quote reads a string with its escapes: \n, \t, \", \\ and two hexadecimal digits.
func (r *reader) quote(n *node) error {
	var out []byte
	for r.i++; r.i < len(r.src); r.i++ {
		switch c := r.src[r.i]; c {
		case '"':
			r.i++
			n.text = string(out)
			return nil
		case '\\':
			if r.i+2 >= len(r.src) {
				return errEnd
			}
			r.i++
			switch e := r.src[r.i]; e {
			case 'n':
				out = append(out, '\n')
			case 't':
				out = append(out, '\t')
			case '"', '\\':
				out = append(out, e)
			default:
				b, err := strconv.ParseUint(r.src[r.i:r.i+2], 16, 8)
				if err != nil {
					return n.errorf("no such escape: \\%s", r.src[r.i:r.i+2])
				}
				r.i++
				out = append(out, byte(b))
			}
		default:
			out = append(out, c)
		}
	}
	return errEnd
}

// Assemble returns the binary of the module in src.
func Assemble(src string) ([]byte, error) {
	r := &reader{src: src, line: 1}
	root, err := r.next()
	if err != nil {
		return nil, err
	}
	if root == nil || root.head() != "module" {
		return nil, errors.New("wat: it does not begin with (module")
	}
	m := &module{functions: map[string]int{}, globals: map[string]int{}, types: map[string]int{}}
	if err := m.declare(root.list[1:]); err != nil {
		return nil, err
	}
	if err := m.define(root.list[1:]); err != nil {
		return nil, err
	}
	return m.binary(), nil
}
