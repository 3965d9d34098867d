package admin

import "strings"

// Param is one parameter of a query.
type Param struct{ Key, Value string }

// Params are the parameters of a query as Envoy reads them, which is not as
// net/url does: "&" alone separates, "+" is itself, a key without "=" is present
// with an empty value, a broken escape stays as it is written, and the first of
// several values counts. Regular expressions come in unescaped.
type Params []Param

// maxParams bounds how many parameters are read; the rest is ignored.
const maxParams = 64

// ParseParams reads the raw query of a URL.
func ParseParams(raw string) Params {
	var ps Params
	for raw != "" && len(ps) < maxParams {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(part, "=")
		if key != "" {
			ps = append(ps, Param{unescape(key), unescape(value)})
		}
	}
	return ps
}

// Find returns the value of the first parameter of that name and whether there is one.
func (ps Params) Find(key string) (string, bool) {
	for _, p := range ps {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// Get returns the value of the first parameter of that name, "" for none.
func (ps Params) Get(key string) string {
	v, _ := ps.Find(key)
	return v
}

// Has reports whether there is a parameter of that name.
func (ps Params) Has(key string) bool {
	_, ok := ps.Find(key)
	return ok
}

// unescape decodes %XX where XX are two hexadecimal digits.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
