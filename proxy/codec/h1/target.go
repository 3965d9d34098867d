package h1

import (
	"bytes"
	"strings"
)

// Target is what a request target says (RFC 9112 3.2). The parts are lent from it.
type Target struct {
	Path      []byte // ":path": path and query; "*"; empty for CONNECT
	Authority []byte // of absolute and authority form; nil: the Host field has it
	Scheme    string // of absolute form: "http" or "https"; "" otherwise
	NoSlash   bool   // Path is a query that lacks the "/" before it
}

// ParseTarget parses a request target in origin, absolute, authority or asterisk
// form. absolute says whether the absolute form is understood.
func ParseTarget(method, target []byte, absolute bool) (Target, error) {
	connect := string(method) == "CONNECT"
	switch {
	case connect:
		return parseAuthorityForm(target)
	case target[0] == '/':
		return Target{Path: target}, checkFragment(target)
	case target[0] == '*':
		if len(target) > 1 || string(method) != "OPTIONS" {
			return Target{}, refuse(400, detailsURL, "asterisk form is for OPTIONS only")
		}
		return Target{Path: target}, nil
	case !absolute:
		return Target{Path: target}, checkFragment(target)
	}
	return parseAbsoluteForm(target)
}

// checkFragment refuses what a server never gets to see from a well-behaved client.
func checkFragment(path []byte) error {
	if bytes.IndexByte(path, '#') >= 0 {
		return refuse(400, detailsFragment, "fragment in the target")
	}
	return nil
}

func parseAbsoluteForm(target []byte) (Target, error) {
	i := bytes.IndexByte(target, ':')
	if i <= 0 || !bytes.HasPrefix(target[i:], []byte("://")) {
		return Target{}, malformed("target is neither a path nor a URL")
	}
	var t Target
	switch scheme := target[:i]; {
	case equalFold(scheme, "http"):
		t.Scheme = "http"
	case equalFold(scheme, "https"):
		t.Scheme = "https"
	default:
		return Target{}, refuse(400, detailsScheme, "scheme of the target is neither http nor https")
	}
	rest := target[i+len("://"):]
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	t.Authority, t.Path = rest[:end], rest[end:]
	if !ValidAuthority(t.Authority) {
		return Target{}, malformed("character in the target that no authority has")
	}
	if !validHostPort(t.Authority, false) {
		return Target{}, refuse(400, detailsURL, "authority of the target is no host and port")
	}
	switch {
	case len(t.Path) == 0:
		t.Path = slash
	case t.Path[0] == '#':
		return Target{}, malformed("fragment in the target")
	}
	t.NoSlash = t.Path[0] == '?'
	return t, checkFragment(t.Path)
}

var slash = []byte("/")

func parseAuthorityForm(target []byte) (Target, error) {
	if !validHostPort(target, true) {
		return Target{}, refuse(400, detailsURL, "target of CONNECT is no host and port")
	}
	return Target{Authority: target}, nil
}

// validHostPort reports whether p is a host and, if it must have one, a port, without user info.
func validHostPort(p []byte, needPort bool) bool {
	if !ValidAuthority(p) || len(p) == 0 || bytes.IndexByte(p, '@') >= 0 {
		return false
	}
	host, port := p, []byte(nil)
	from := 0
	if p[0] == '[' {
		if from = bytes.IndexByte(p, ']'); from < 0 {
			return false
		}
	}
	if i := bytes.IndexByte(p[from:], ':'); i >= 0 {
		host, port = p[:from+i], p[from+i+1:]
	}
	if p[0] == '[' && len(host) != from+1 || len(host) == 0 {
		return false
	}
	n, ok := ParseContentLength(port)
	if !ok {
		return !needPort && len(port) == 0
	}
	return n <= 65535
}

// ValidAuthority reports whether p has only characters that an authority may have
// (RFC 3986 3.2). The empty authority is valid.
func ValidAuthority(p []byte) bool {
	for _, c := range p {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z':
		case c == '-' || c == '.' || c == ':':
		case strings.IndexByte("_~!$&'()*+,;=@[]%", c) >= 0:
		default:
			return false
		}
	}
	return true
}
