package h2

// tokenChar is which characters a token has (RFC 9110 5.6.2): 1 for lower case and the
// rest, 2 for upper case, which names of fields must not have (RFC 9113 8.2.1).
var tokenChar = func() (t [256]uint8) {
	for c := 'a'; c <= 'z'; c++ {
		t[c] = 1
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = 2
	}
	for _, c := range "0123456789!#$%&'*+-.^_`|~" {
		t[c] = 1
	}
	return t
}()

func validName(s string) bool {
	for i := range len(s) {
		if tokenChar[s[i]] != 1 {
			return false
		}
	}
	return s != ""
}

func validToken(s string) bool {
	for i := range len(s) {
		if tokenChar[s[i]] == 0 {
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
