package bootstrap

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader parses the JSON dialect Envoy accepts: RFC 8259 plus trailing
// commas, single-quoted strings and unquoted keys.
type jsonReader struct {
	data []byte
	pos  int
	line int32
}

// jsonError stops the parse; the line is where the reader stood.
type jsonError struct {
	line int32
	text string
}

func (e *jsonError) Error() string { return e.text }

func parseJSON(file string, data []byte) (*node, error) {
	r := &jsonReader{data: data, line: 1}
	n, err := r.document()
	if err != nil {
		return nil, refuse(file, int(err.line), "", "not valid JSON: %s", err.text)
	}
	return n, nil
}

func (r *jsonReader) document() (*node, *jsonError) {
	r.space()
	if r.pos == len(r.data) {
		return nil, r.fail("the file is empty")
	}
	n, err := r.value(0)
	if err != nil {
		return nil, err
	}
	r.space()
	if r.pos < len(r.data) {
		return nil, r.fail("expected the end of the file after the closing bracket, got %s", r.here())
	}
	return n, nil
}

func (r *jsonReader) fail(format string, args ...any) *jsonError {
	return &jsonError{line: r.line, text: fmt.Sprintf(format, args...)}
}

// here names the next byte for a message.
func (r *jsonReader) here() string {
	if r.pos >= len(r.data) {
		return "the end of the file"
	}
	c, _ := utf8.DecodeRune(r.data[r.pos:])
	return strconv.QuoteRune(c)
}

func (r *jsonReader) space() {
	for r.pos < len(r.data) {
		switch r.data[r.pos] {
		case '\n':
			r.line++
		case ' ', '\t', '\r':
		default:
			return
		}
		r.pos++
	}
}

func (r *jsonReader) peek() byte {
	if r.pos < len(r.data) {
		return r.data[r.pos]
	}
	return 0
}

func (r *jsonReader) value(depth int) (*node, *jsonError) {
	if depth > maxDepth {
		return nil, r.fail("nested more than %d levels deep", maxDepth)
	}
	line := r.line
	switch c := r.peek(); {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.list(depth)
	case c == '"' || c == '\'':
		s, err := r.str()
		if err != nil {
			return nil, err
		}
		return &node{kind: kindString, line: line, text: s}, nil
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	default:
		return r.word()
	}
}

func (r *jsonReader) object(depth int) (*node, *jsonError) {
	n := &node{kind: kindMap, line: r.line}
	var seen keySet
	r.pos++
	for {
		r.space()
		if r.peek() == '}' {
			r.pos++
			return n, nil
		}
		if r.pos >= len(r.data) {
			return nil, r.fail("the object that starts on line %d is not closed", n.line)
		}
		line := r.line
		key, err := r.key()
		if err != nil {
			return nil, err
		}
		r.space()
		if r.peek() != ':' {
			return nil, r.fail("expected ':' after key %q, got %s", clip(key), r.here())
		}
		r.pos++
		r.space()
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.fields = append(n.fields, member{key: key, line: line, val: v, again: seen.add(n.fields, key)})
		r.space()
		switch r.peek() {
		case ',':
			r.pos++
		case '}':
		default:
			return nil, r.fail("expected ',' or '}' after the value of %q, got %s", clip(key), r.here())
		}
	}
}

func (r *jsonReader) list(depth int) (*node, *jsonError) {
	n := &node{kind: kindList, line: r.line}
	r.pos++
	for {
		r.space()
		if r.peek() == ']' {
			r.pos++
			return n, nil
		}
		if r.pos >= len(r.data) {
			return nil, r.fail("the list that starts on line %d is not closed", n.line)
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.items = append(n.items, v)
		r.space()
		switch r.peek() {
		case ',':
			r.pos++
		case ']':
		default:
			return nil, r.fail("expected ',' or ']' after item %d of the list, got %s", len(n.items), r.here())
		}
	}
}

// key reads a quoted key, or a bare one such as protobuf's own printer allows.
func (r *jsonReader) key() (string, *jsonError) {
	if c := r.peek(); c == '"' || c == '\'' {
		return r.str()
	}
	start := r.pos
	for r.pos < len(r.data) && isWordByte(r.data[r.pos]) {
		r.pos++
	}
	if start == r.pos {
		return "", r.fail("expected a key in quotes, got %s", r.here())
	}
	return string(r.data[start:r.pos]), nil
}

func isWordByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func (r *jsonReader) word() (*node, *jsonError) {
	start := r.pos
	for r.pos < len(r.data) && isWordByte(r.data[r.pos]) {
		r.pos++
	}
	switch w := string(r.data[start:r.pos]); w {
	case "true", "false":
		return &node{kind: kindBool, line: r.line, text: w}, nil
	case "null":
		return &node{kind: kindNull, line: r.line}, nil
	case "":
		return nil, r.fail("expected a value, got %s", r.here())
	default:
		return nil, r.fail("expected a value, got %s (put text in quotes)", clip(w))
	}
}

func (r *jsonReader) number() (*node, *jsonError) {
	start := r.pos
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		if !isWordByte(c) && c != '-' && c != '+' && c != '.' {
			break
		}
		r.pos++
	}
	text := string(r.data[start:r.pos])
	if !isDecimal(text) {
		return nil, r.fail("%s is not a number", clip(text))
	}
	if digits := strings.TrimPrefix(text, "-"); len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return nil, r.fail("number %s starts with a zero", clip(text))
	}
	return &node{kind: kindNumber, line: r.line, text: text}, nil
}

// str reads a quoted string and its escapes. Bytes that are not UTF-8 become
// U+FFFD, because no proto3 string may hold them.
func (r *jsonReader) str() (string, *jsonError) {
	quote := r.data[r.pos]
	opened := r.line
	r.pos++
	start := r.pos
	var b strings.Builder
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; {
		case c == quote:
			b.Write(r.data[start:r.pos])
			r.pos++
			return strings.ToValidUTF8(b.String(), "\uFFFD"), nil
		case c == '\\':
			b.Write(r.data[start:r.pos])
			if err := r.escape(&b); err != nil {
				return "", err
			}
			start = r.pos
		case c == '\n':
			return "", r.fail("the text that starts on line %d is not closed (write a line break as \\n)", opened)
		default:
			r.pos++
		}
	}
	return "", r.fail("the text that starts on line %d is not closed", opened)
}

func (r *jsonReader) escape(b *strings.Builder) *jsonError {
	if r.pos+1 >= len(r.data) {
		return r.fail("the file ends inside an escape")
	}
	c := r.data[r.pos+1]
	r.pos += 2
	switch c {
	case '"', '\\', '/', '\'':
		b.WriteByte(c)
	case 'b':
		b.WriteByte('\b')
	case 'f':
		b.WriteByte('\f')
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case 'u':
		u, ok := r.hex4()
		if !ok {
			return r.fail("\\u needs four hexadecimal digits")
		}
		if utf16.IsSurrogate(u) {
			u = r.lowSurrogate(u)
		}
		b.WriteRune(u)
	default:
		return r.fail("unknown escape \\%s (write a backslash as \\\\)", string(rune(c)))
	}
	return nil
}

// lowSurrogate completes a surrogate pair; a lone half becomes U+FFFD.
func (r *jsonReader) lowSurrogate(high rune) rune {
	if r.pos+1 >= len(r.data) || r.data[r.pos] != '\\' || r.data[r.pos+1] != 'u' {
		return utf8.RuneError
	}
	mark := r.pos
	r.pos += 2
	low, ok := r.hex4()
	if u := utf16.DecodeRune(high, low); ok && u != utf8.RuneError {
		return u
	}
	r.pos = mark
	return utf8.RuneError
}

func (r *jsonReader) hex4() (rune, bool) {
	if r.pos+4 > len(r.data) {
		return 0, false
	}
	v, err := strconv.ParseUint(string(r.data[r.pos:r.pos+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	r.pos += 4
	return rune(v), true
}

// keySet finds repeated keys without quadratic work: small objects are
// scanned, large ones get a map.
type keySet struct{ m map[string]struct{} }

// add reports whether key is already among fields, and remembers it.
func (k *keySet) add(fields []member, key string) bool {
	const scan = 16
	if len(fields) < scan {
		for i := range fields {
			if fields[i].key == key {
				return true
			}
		}
		return false
	}
	if k.m == nil {
		k.m = make(map[string]struct{}, 2*scan)
		for i := range fields {
			k.m[fields[i].key] = struct{}{}
		}
	}
	if _, dup := k.m[key]; dup {
		return true
	}
	k.m[key] = struct{}{}
	return false
}
