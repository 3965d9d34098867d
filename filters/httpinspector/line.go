package httpinspector

import (
	"bytes"
)

// verdict is what the first bytes of a connection are.
type verdict uint8

const (
	more verdict = iota // cannot tell yet
	notHTTP
	http10
	http11
	http2
)

// preface begins every HTTP/2 connection with prior knowledge (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// parse tells by the first bytes of a connection whether it is HTTP: it decides at
// the first byte that no request line can contain, or at the end of that line.
func parse(b []byte) verdict {
	if len(b) < len(preface) && string(b) == preface[:len(b)] {
		return more
	}
	if bytes.HasPrefix(b, []byte(preface)) {
		return http2
	}
	line, complete := cutLine(b)
	method, rest, found := cutWord(line)
	if !isToken(method) {
		return notHTTP
	}
	if !found {
		return orNot(!complete, more)
	}
	target, version, found := cutWord(rest)
	if !isTarget(target, string(method) == "CONNECT", found || complete) {
		return notHTTP
	}
	if !complete {
		// Without the version nothing more can be said, but that it has become impossible.
		return orNot(len(version) <= len("HTTP/1.1")+maxTrailing, more)
	}
	return versionOf(bytes.TrimRight(version, " \t"))
}

// maxTrailing is how much white space after the version is put up with.
const maxTrailing = 256

func orNot(ok bool, v verdict) verdict {
	if ok {
		return v
	}
	return notHTTP
}

// cutLine returns the first line without its end.
func cutLine(b []byte) (line []byte, complete bool) {
	line, _, complete = bytes.Cut(b, []byte("\n"))
	if complete {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	return line, complete
}

// cutWord splits at the first run of white space.
func cutWord(b []byte) (word, rest []byte, found bool) {
	i := bytes.IndexAny(b, " \t")
	if i < 0 {
		return b, nil, false
	}
	return b[:i], bytes.TrimLeft(b[i:], " \t"), true
}

// isToken reports whether b is made of tchar (RFC 9110, section 5.6.2) only.
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}

// isTarget reports whether b is a request target (RFC 9112, section 3.2), or, where
// it is not whole, may become one.
func isTarget(b []byte, connect, whole bool) bool {
	for _, c := range b {
		if c >= 0x7f {
			return false
		}
	}
	switch {
	case len(b) == 0:
		return !whole
	case b[0] == '/', b[0] == '*', connect:
		return true
	}
	scheme, _, found := bytes.Cut(b, []byte("://"))
	return (found || !whole) && isToken(bytes.TrimRight(scheme, ":/"))
}

func versionOf(v []byte) verdict {
	switch {
	case len(v) == 0:
		return http10 // HTTP/0.9
	case string(v) == "HTTP/1.1":
		return http11
	case len(v) == 8 && bytes.HasPrefix(v, []byte("HTTP/")) && isDigit(v[5]) && v[6] == '.' && isDigit(v[7]):
		return http10
	}
	return notHTTP
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
