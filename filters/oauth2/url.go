package oauth2

import (
	"net/netip"
	"strings"
)

// address is a URL with its parts. path begins with a slash, a question mark or nothing.
type address struct{ scheme, host, path string }

// parseURL reads an absolute URL of HTTP. One that could break out of a header field, or is
// of another kind, is none.
func parseURL(text string) (u address, ok bool) {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] >= 0x7f {
			return u, false
		}
	}
	u.scheme, text, ok = strings.Cut(text, "://")
	if !ok || !strings.EqualFold(u.scheme, "http") && !strings.EqualFold(u.scheme, "https") {
		return u, false
	}
	text, _, _ = strings.Cut(text, "#")
	n := strings.IndexAny(text, "/?\\")
	if n < 0 {
		n = len(text)
	}
	u.host, u.path = text[:n], text[n:]
	// Credentials and backslashes make browsers and people read another host.
	return u, u.host != "" && !strings.ContainsAny(u.host, "@") && !strings.HasPrefix(u.path, "\\")
}

// hostname is the host without its port, and without the brackets of an IPv6 address.
func (u address) hostname() string {
	if a, err := netip.ParseAddrPort(u.host); err == nil {
		return a.Addr().String()
	}
	h := u.host
	if i := strings.LastIndexByte(h, ':'); i >= 0 && !strings.HasSuffix(h, "]") {
		h = h[:i]
	}
	return strings.Trim(h, "[]")
}

// allowedHost tells whether a URL leads to one of the domains ("*.example.com": below it);
// without domains, everywhere is allowed.
func allowedHost(url string, domains []string) bool {
	if len(domains) == 0 {
		return true
	}
	u, ok := parseURL(url)
	if !ok {
		return false
	}
	host := strings.ToLower(u.hostname())
	for _, d := range domains {
		if below, wild := strings.CutPrefix(d, "*"); wild && strings.HasPrefix(below, ".") {
			if len(host) > len(below) && strings.HasSuffix(host, below) {
				return true
			}
		} else if host == d {
			return true
		}
	}
	return false
}

const hexDigits = "0123456789ABCDEF"

// escape percent-encodes all but what RFC 3986 calls unreserved, and what is in also.
func escape(text, also string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if isAlnum(c) || strings.IndexByte("-_.~", c) >= 0 || strings.IndexByte(also, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// inQuery are the bytes that may stand in a query as they are (RFC 3986 section 3.4).
const inQuery = "!$&'()*+,;=:@/?%"

// param is a parameter of a query, as it is written there.
type param struct{ name, value string }

// parseQuery reads the parameters of a path, undecoded.
func parseQuery(path string) (out []param) {
	_, query, _ := strings.Cut(path, "?")
	query, _, _ = strings.Cut(query, "#")
	for query != "" {
		var one string
		one, query, _ = strings.Cut(query, "&")
		if one == "" {
			continue
		}
		name, value, _ := strings.Cut(one, "=")
		out = append(out, param{name, value})
	}
	return out
}

// first returns the first parameter of a name.
func first(list []param, name string) (value string, ok bool) {
	for _, p := range list {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}
