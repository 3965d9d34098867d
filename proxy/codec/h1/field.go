package h1

import (
	"bytes"

	"github.com/mecha-mesh/mecha/proxy/codec"
)

// ParseField parses a field line without its line end (RFC 9112 5). The name is
// made lower case in place; name and value are lent from the line, the value
// without white space around it.
func ParseField(line []byte) (name, value []byte, err error) {
	for i, c := range line {
		if l := codec.LowerToken(c); l != 0 {
			line[i] = l
			continue
		}
		if c != ':' || i == 0 {
			return nil, nil, badName(line, i)
		}
		value = trimOWS(line[i+1:])
		if !cleanValue(value) {
			return nil, nil, refuse(400, detailsInvalidChars, "control characters in the value of "+string(line[:i]))
		}
		return line[:i], value, nil
	}
	return nil, nil, malformed("field line has no colon")
}

func badName(line []byte, i int) error {
	switch {
	case i == 0 && (line[0] == ' ' || line[0] == '\t'):
		return malformed("folded field line")
	case i == 0:
		return malformedBy(line[0], "field name is empty or no token")
	case line[i] == ' ' || line[i] == '\t':
		return malformed("white space in or after a field name")
	}
	return malformedBy(line[i], "field name is no token")
}

// cutLine takes the first line off p, which holds a whole head: the line without
// its end, and what comes after it. A carriage return that no line feed follows
// stays in the line, where no part of the grammar takes it.
func cutLine(p []byte) (line, rest []byte) {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		return p, nil
	}
	line, rest = p[:i], p[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

// maxLength is the largest Content-Length and the largest size of a chunk.
const maxLength = 1<<63 - 1

// ParseContentLength parses the value of a Content-Length field: digits only.
func ParseContentLength(v []byte) (int64, bool) {
	if len(v) == 0 {
		return 0, false
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := int64(c - '0')
		if n > (maxLength-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// nextToken takes the first element off a comma-separated list (RFC 9110 5.6.1);
// ok is false when there is none left. Empty elements are skipped.
func nextToken(list []byte) (token, rest []byte, ok bool) {
	for len(list) > 0 {
		if i := bytes.IndexByte(list, ','); i >= 0 {
			token, list = trimOWS(list[:i]), list[i+1:]
		} else {
			token, list = trimOWS(list), nil
		}
		if len(token) > 0 {
			return token, list, true
		}
	}
	return nil, nil, false
}
