package match

import "strings"

// String matches a string (envoy.type.matcher.v3.StringMatcher). The zero value
// matches the empty string.
type String struct {
	kind kind
	fold bool
	text string // lower case if fold
	re   *Regexp
}

type kind uint8

const (
	exact kind = iota
	prefix
	suffix
	contains
	regex
)

func newString(k kind, text string, ignoreCase bool) String {
	if ignoreCase {
		text = lower(text)
	}
	return String{kind: k, fold: ignoreCase, text: text}
}

// Exact matches text itself. Only ASCII letters are equal in both cases.
func Exact(text string, ignoreCase bool) String { return newString(exact, text, ignoreCase) }

// Prefix matches what begins with text.
func Prefix(text string, ignoreCase bool) String { return newString(prefix, text, ignoreCase) }

// Suffix matches what ends in text.
func Suffix(text string, ignoreCase bool) String { return newString(suffix, text, ignoreCase) }

// Contains matches what contains text.
func Contains(text string, ignoreCase bool) String { return newString(contains, text, ignoreCase) }

// Matching matches what a regular expression covers from beginning to end.
func Matching(re *Regexp) String { return String{kind: regex, re: re} }

// Match reports whether v matches.
func (m *String) Match(v string) bool {
	if m.fold {
		return m.matchFold(v)
	}
	switch m.kind {
	case prefix:
		return strings.HasPrefix(v, m.text)
	case suffix:
		return strings.HasSuffix(v, m.text)
	case contains:
		return strings.Contains(v, m.text)
	case regex:
		return m.re.Match(v)
	}
	return v == m.text
}

func (m *String) matchFold(v string) bool {
	n := len(m.text)
	switch m.kind {
	case prefix:
		return len(v) >= n && equalFold(v[:n], m.text)
	case suffix:
		return len(v) >= n && equalFold(v[len(v)-n:], m.text)
	case contains:
		for i := 0; i+n <= len(v); i++ {
			if equalFold(v[i:i+n], m.text) {
				return true
			}
		}
		return false
	}
	return equalFold(v, m.text)
}

// equalFold compares v with a text in lower case, ASCII letters in any case.
func equalFold(v, low string) bool {
	if len(v) != len(low) {
		return false
	}
	for i := range len(v) {
		if toLower(v[i]) != low[i] {
			return false
		}
	}
	return true
}

func toLower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// lower returns s itself where nothing in it changes.
func lower(s string) string {
	if !hasUpper(s) {
		return s
	}
	b := []byte(s)
	for i := range b {
		b[i] = toLower(b[i])
	}
	return string(b)
}

func hasUpper(s string) bool {
	for i := range len(s) {
		if toLower(s[i]) != s[i] {
			return true
		}
	}
	return false
}

// Strings matches what one of them matches (envoy.type.matcher.v3.ListStringMatcher).
type Strings []String

// Match reports whether one matches v.
func (l Strings) Match(v string) bool {
	for i := range l {
		if l[i].Match(v) {
			return true
		}
	}
	return false
}
