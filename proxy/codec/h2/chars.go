package h2

import "github.com/mecha-mesh/mecha/proxy/codec"

// validName reports whether s is a token without upper case, which names of fields must not
// have (RFC 9113 8.2.1).
func validName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c == 0 || codec.LowerToken(c) != c {
			return false
		}
	}
	return s != ""
}

// validValue reports whether a value has only what RFC 9110 5.5 allows, and no white
// space around it (RFC 9113 8.2.1).
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return s == "" || !blank(s[0]) && !blank(s[len(s)-1])
}

func blank(c byte) bool { return c == ' ' || c == '\t' }
