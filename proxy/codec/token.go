package codec

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// lowerToken maps the characters of a token (RFC 9110 5.6.2) to their lower case
// and all others to 0.
var lowerToken = [256]byte{
	'!': '!', '#': '#', '$': '$', '%': '%', '&': '&', '\'': '\'', '*': '*', '+': '+', '-': '-', '.': '.', '^': '^', '_': '_', '`': '`', '|': '|', '~': '~',
	'0': '0', '1': '1', '2': '2', '3': '3', '4': '4', '5': '5', '6': '6', '7': '7', '8': '8', '9': '9',
	'a': 'a', 'b': 'b', 'c': 'c', 'd': 'd', 'e': 'e', 'f': 'f', 'g': 'g', 'h': 'h', 'i': 'i', 'j': 'j', 'k': 'k', 'l': 'l', 'm': 'm',
	'n': 'n', 'o': 'o', 'p': 'p', 'q': 'q', 'r': 'r', 's': 's', 't': 't', 'u': 'u', 'v': 'v', 'w': 'w', 'x': 'x', 'y': 'y', 'z': 'z',
	'A': 'a', 'B': 'b', 'C': 'c', 'D': 'd', 'E': 'e', 'F': 'f', 'G': 'g', 'H': 'h', 'I': 'i', 'J': 'j', 'K': 'k', 'L': 'l', 'M': 'm',
	'N': 'n', 'O': 'o', 'P': 'p', 'Q': 'q', 'R': 'r', 'S': 's', 'T': 't', 'U': 'u', 'V': 'v', 'W': 'w', 'X': 'x', 'Y': 'y', 'Z': 'z',
}

// LowerToken returns the lower case of a character that a token may have, otherwise 0.
func LowerToken(c byte) byte { return lowerToken[c] }

// IsToken reports whether s is a token.
func IsToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if lowerToken[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// CutToken takes the first element off a comma-separated list. It may be empty.
func CutToken(list string) (token, rest string) {
	token = list
	if i := strings.IndexByte(list, ','); i >= 0 {
		token, rest = list[:i], list[i+1:]
	}
	return strings.Trim(token, " \t"), rest
}

// IsFieldValue reports whether s can be written as the value of a field: it has no control
// characters but tabs (RFC 9110 section 5.5).
func IsFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// IsUpgrade reports whether m asks for, or grants, an upgrade.
func IsUpgrade(m *header.Map) bool {
	if !m.Has(header.Upgrade) {
		return false
	}
	for v := m.Value(header.Connection); v != ""; {
		var token string
		if token, v = CutToken(v); strings.EqualFold(token, "upgrade") {
			return true
		}
	}
	return false
}
