package apikeyauth

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// queryValue is the first parameter of that name in a path, decoded.
func queryValue(path, name string) string {
	_, query, _ := strings.Cut(path, "?")
	for query != "" {
		var item string
		item, query, _ = strings.Cut(query, "&")
		if key, value, _ := strings.Cut(item, "="); decode(key) == name {
			return decode(value)
		}
	}
	return ""
}

// decode resolves %XX. What is no such escape stays as it is.
func decode(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, low := digit(s[i+1]), digit(s[i+2])
			if high >= 0 && low >= 0 {
				out = append(out, byte(high<<4|low))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

func digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// hideQuery takes the parameters of that name out of the path. The others stay as they are.
func hideQuery(m *header.Map, name string) {
	path, query, ok := strings.Cut(m.Value(header.Path), "?")
	if !ok {
		return
	}
	m.SetID(header.Path, m.Format(func(dst []byte) []byte {
		dst = append(dst, path...)
		sep := byte('?')
		for more := true; more; {
			var item string
			item, query, more = strings.Cut(query, "&")
			if key, _, _ := strings.Cut(item, "="); decode(key) != name {
				dst = append(append(dst, sep), item...)
				sep = '&'
			}
		}
		return dst
	}))
}

// hideCookie takes the cookies of that name away; the others are in one field then.
func hideCookie(m *header.Map, name string) {
	rest := m.Format(func(dst []byte) []byte {
		start := len(dst)
		for list := range m.Values("cookie") {
			for list != "" {
				var item string
				item, list, _ = strings.Cut(list, ";")
				item = strings.Trim(item, " \t")
				if key, _, _ := strings.Cut(item, "="); key == name || item == "" {
					continue
				}
				if len(dst) > start {
					dst = append(dst, "; "...)
				}
				dst = append(dst, item...)
			}
		}
		return dst
	})
	if rest == "" {
		m.DelID(header.Cookie)
		return
	}
	m.SetID(header.Cookie, rest)
}
