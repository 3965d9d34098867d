package h1

import (
	"bytes"

	"github.com/mecha-mesh/mecha/proxy/codec"
)

// Version is the version of HTTP in a start line.
type Version uint8

// The versions that are told apart.
const (
	Unsupported Version = iota // none at all, or another one
	HTTP10
	HTTP11
)

// RequestLine is a request line. The parts are lent from the line.
type RequestLine struct {
	Method, Target []byte
	Version        Version
}

// ParseRequestLine parses a request line without its line end (RFC 9112 3). It
// checks the form of all three parts; what the target means is up to ParseTarget.
func ParseRequestLine(line []byte) (RequestLine, error) {
	var r RequestLine
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		i = len(line)
	}
	r.Method = line[:i]
	if err := checkMethod(r.Method); err != nil {
		return r, err
	}
	if i == len(line) {
		return r, malformed("request line has no target")
	}
	rest := line[i+1:]
	i = bytes.IndexByte(rest, ' ')
	if i < 0 {
		i = len(rest)
	}
	r.Target = rest[:i]
	if len(r.Target) == 0 {
		return r, malformed("request line has no target")
	}
	for _, c := range r.Target {
		if c <= ' ' || c >= 0x7f {
			return r, malformedBy(c, "character in the target that no URL has")
		}
	}
	if i == len(rest) {
		return r, nil // HTTP/0.9
	}
	v := rest[i+1:]
	var ok bool
	if r.Version, ok = parseVersion(v); !ok {
		last := byte(' ')
		if len(v) > 0 {
			last = v[len(v)-1]
		}
		return r, malformedBy(last, "request line does not end in a version of HTTP")
	}
	return r, nil
}

// checkMethod checks the form of a method, or of its beginning.
func checkMethod(p []byte) error {
	for i, c := range p {
		if codec.LowerToken(c) == 0 {
			if i == 0 {
				break
			}
			return malformedBy(c, "method is no token")
		}
		if i == len(p)-1 {
			return nil
		}
	}
	return malformed("request does not begin with a method")
}

// parseVersion parses "HTTP/1.1" and its like.
func parseVersion(p []byte) (Version, bool) {
	const digit = len("HTTP/")
	if len(p) != digit+3 || string(p[:digit]) != "HTTP/" || p[digit+1] != '.' {
		return Unsupported, false
	}
	major, minor := p[digit]-'0', p[digit+2]-'0'
	switch {
	case major > 9 || minor > 9:
		return Unsupported, false
	case major == 1 && minor == 1:
		return HTTP11, true
	case major == 1 && minor == 0:
		return HTTP10, true
	}
	return Unsupported, true
}

// knownMethod reports whether m is one of the methods that Envoy lets through
// unless allow_custom_methods is set.
func knownMethod(m []byte) bool {
	switch string(m) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
		"ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL",
		"MOVE", "MSEARCH", "NOTIFY", "PROPFIND", "PROPPATCH", "PURGE", "REBIND", "REPORT", "SEARCH",
		"SOURCE", "SUBSCRIBE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE":
		return true
	}
	return false
}

// StatusLine is a status line. The parts are lent from the line.
type StatusLine struct {
	Version Version
	Code    int    // 100 to 999
	Status  []byte // the digits of Code
	Reason  []byte
}

// ParseStatusLine parses a status line without its line end (RFC 9112 4). The
// reason and the space before it may be missing.
func ParseStatusLine(line []byte) (StatusLine, error) {
	const code = len("HTTP/1.x ")
	if len(line) < code+3 || line[code-1] != ' ' {
		return StatusLine{}, malformed("status line is too short")
	}
	v, ok := parseVersion(line[:code-1])
	if ok && v == Unsupported && line[len("HTTP/")] == '1' {
		v = HTTP11 // RFC 9110 2.5: a higher minor version is read as the one we know
	}
	if !ok || v == Unsupported {
		return StatusLine{}, malformed("status line has no version of HTTP/1")
	}
	s := StatusLine{Version: v, Status: line[code : code+3]}
	for _, c := range s.Status {
		if c < '0' || c > '9' {
			return StatusLine{}, malformed("status code is no number")
		}
		s.Code = s.Code*10 + int(c-'0')
	}
	if s.Code < 100 {
		return StatusLine{}, malformed("status code below 100")
	}
	if rest := line[code+3:]; len(rest) > 0 {
		if rest[0] != ' ' {
			return StatusLine{}, malformed("status code is not of three digits")
		}
		s.Reason = rest[1:]
		if !cleanValue(s.Reason) {
			return StatusLine{}, malformed("control characters in the reason phrase")
		}
	}
	return s, nil
}
