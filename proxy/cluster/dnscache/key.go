package dnscache

import (
	"net/netip"
	"strconv"
	"strings"
)

// ParseKey reads what a request says of where it goes: a name or an address, with a
// port or without one, in which case it is port. Names are taken as they are, in lower
// case. It allocates only for upper case letters.
func ParseKey(authority string, port uint16) (Key, bool) {
	host, text := authority, ""
	switch i := strings.LastIndexByte(authority, ':'); {
	case strings.HasPrefix(authority, "["):
		end := strings.IndexByte(authority, ']')
		if end < 0 || end+1 < len(authority) && authority[end+1] != ':' {
			return Key{}, false
		}
		host = authority[1:end]
		if end+1 < len(authority) {
			text = authority[end+2:]
		}
		if _, err := netip.ParseAddr(host); err != nil {
			return Key{}, false
		}
	case i >= 0 && strings.IndexByte(authority, ':') == i:
		host, text = authority[:i], authority[i+1:]
	}
	if text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return Key{}, false
		}
		port = uint16(n)
	}
	if host == "" || len(host) > 255 {
		return Key{}, false
	}
	return Key{strings.ToLower(host), port}, true
}
