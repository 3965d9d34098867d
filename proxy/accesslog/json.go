package accesslog

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// CompileJSON compiles a JSON format (json_format). Its values are what a
// google.protobuf.Struct holds: map[string]any, []any, string, float64, bool and
// nil; strings are formats. A string that is one operator keeps the operator's type
// (numbers are numbers, missing is null). Keys are printed in order, and a line ends
// with a newline.
func CompileJSON(v map[string]any, o Options) (*Format, error) {
	root, err := compileNode(v, "json_format", 0)
	if err != nil {
		return nil, err
	}
	return &Format{root: root, json: true, omit: o.OmitEmpty}, nil
}

// maxDepth bounds how deep a JSON format may nest.
const maxDepth = 32

// node is one value of a JSON format.
type node interface {
	// append appends the value, or nothing if it is to be left out.
	append(dst []byte, e *Entry, omit bool) ([]byte, bool)
}

type (
	object []member
	member struct {
		key   string // with quotes and colon
		value node
	}
	list    []node
	literal string // finished JSON
	single  struct{ op *operator }
	mixed   []piece
)

func compileNode(v any, path string, depth int) (node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("accesslog: %s: nested deeper than %d", path, maxDepth)
	}
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		obj := make(object, 0, len(v))
		for _, k := range keys {
			n, err := compileNode(v[k], path+"."+k, depth+1)
			if err != nil {
				return nil, err
			}
			key := append([]byte{'"'}, k...)
			obj = append(obj, member{string(append(quoteTail(key, 1), ':')), n})
		}
		return obj, nil
	case []any:
		l := make(list, 0, len(v))
		for i, item := range v {
			n, err := compileNode(item, path+"["+strconv.Itoa(i)+"]", depth+1)
			if err != nil {
				return nil, err
			}
			l = append(l, n)
		}
		return l, nil
	case string:
		return compileString(v, path)
	case nil:
		return literal("null"), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("accesslog: %s: not a number that JSON knows", path)
		}
	case bool:
	default:
		return nil, fmt.Errorf("accesslog: %s: a value of type %T", path, v)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("accesslog: %s: %w", path, err)
	}
	return literal(b), nil
}

func compileString(s, path string) (node, error) {
	pieces, err := parse(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case len(pieces) == 0:
		return literal(`""`), nil
	case len(pieces) == 1 && pieces[0].op != nil:
		return single{pieces[0].op}, nil
	case len(pieces) == 1:
		text := append([]byte{'"'}, pieces[0].text...)
		return literal(quoteTail(text, 1)), nil
	}
	return mixed(pieces), nil
}

func (o object) append(dst []byte, e *Entry, omit bool) ([]byte, bool) {
	start := len(dst)
	dst = append(dst, '{')
	for i := range o {
		mark := len(dst)
		if mark > start+1 {
			dst = append(dst, ',')
		}
		dst = append(dst, o[i].key...)
		var ok bool
		if dst, ok = o[i].value.append(dst, e, omit); !ok {
			dst = dst[:mark]
		}
	}
	if omit && len(dst) == start+1 {
		return dst[:start], false
	}
	return append(dst, '}'), true
}

func (l list) append(dst []byte, e *Entry, omit bool) ([]byte, bool) {
	start := len(dst)
	dst = append(dst, '[')
	for i := range l {
		mark := len(dst)
		if mark > start+1 {
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = l[i].append(dst, e, omit); !ok {
			dst = dst[:mark]
		}
	}
	if omit && len(dst) == start+1 {
		return dst[:start], false
	}
	return append(dst, ']'), true
}

func (l literal) append(dst []byte, _ *Entry, omit bool) ([]byte, bool) {
	if omit && l == "null" {
		return dst, false
	}
	return append(dst, l...), true
}

func (s single) append(dst []byte, e *Entry, omit bool) ([]byte, bool) {
	start := len(dst)
	var ok bool
	if s.op.kind != text {
		dst, ok = s.op.appendText(dst, e, true)
		if ok && s.op.kind == raw && s.op.max >= 0 && dst[start] == '"' && s.op.name != "FILTER_STATE" { // a text is cut before it is quoted
			dst, ok = s.op.appendText(append(dst[:start], '"'), e, false)
			return quoteTail(dst, start+1), ok
		}
	} else {
		dst = append(dst, '"')
		if dst, ok = s.op.appendText(dst, e, true); ok {
			return quoteTail(dst, start+1), true
		}
		dst = dst[:start]
	}
	switch {
	case ok:
		return dst, true
	case omit:
		return dst, false
	}
	return append(dst, "null"...), true
}

func (m mixed) append(dst []byte, e *Entry, omit bool) ([]byte, bool) {
	dst = append(dst, '"')
	start := len(dst)
	return quoteTail(appendPieces(dst, m, e, omit), start), true
}

// AppendQuoted appends a text as a string of JSON, bytes that are not UTF-8 as U+FFFD.
func AppendQuoted(dst []byte, text string) []byte {
	start := len(dst) + 1
	return quoteTail(append(append(dst, '"'), text...), start)
}

// quoteTail escapes dst[start:] for a JSON string in place, bytes that are not UTF-8
// as U+FFFD, and appends the closing quote.
func quoteTail(dst []byte, start int) []byte {
	for i := start; i < len(dst); {
		c := dst[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRune(dst[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		} else if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		return escapeTail(dst, i)
	}
	return append(dst, '"')
}

// escapeTail is quoteTail for text whose byte i is the first to be escaped.
func escapeTail(dst []byte, i int) []byte {
	const hex = "0123456789abcdef"
	// The text to come moves behind what is written, which is at most six times as long.
	rest := len(dst) - i
	dst = slices.Grow(dst, 6*rest+1)
	src := dst[i+5*rest : i+6*rest]
	copy(src, dst[i:i+rest])
	dst = dst[:i]
	for len(src) > 0 {
		c := src[0]
		n := 1
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			var r rune
			if r, n = utf8.DecodeRune(src); r == utf8.RuneError && n == 1 {
				dst = append(dst, `\ufffd`...)
			} else {
				dst = append(dst, src[:n]...)
			}
		}
		src = src[n:]
	}
	return append(dst, '"')
}
