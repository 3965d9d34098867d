package fromproto

import "unicode/utf8"

// Text makes a string one that a message may have: what is not UTF-8 becomes "!".
func Text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				b = append(b, '!')
				continue
			}
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}
