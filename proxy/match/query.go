package match

import "strings"

// Query matches a parameter in the query of a path (QueryParameterMatcher). Only the
// first parameter of a name counts; values are compared as they were sent.
type Query struct {
	Name string
	Kind QueryKind
	Text String // of QueryText
}

// QueryKind is what a Query asks of a parameter.
type QueryKind uint8

// The kinds.
const (
	QueryText    QueryKind = iota // its value matches
	QueryPresent                  // it is there
	QueryAbsent                   // it is not there
)

// Match reports whether path, with its query, matches.
func (q *Query) Match(path string) bool {
	v, ok := QueryValue(path, q.Name)
	switch q.Kind {
	case QueryPresent:
		return ok
	case QueryAbsent:
		return !ok
	}
	return ok && q.Text.Match(v)
}

// QueryValue returns the first parameter of that name in the query of path.
func QueryValue(path, name string) (v string, ok bool) {
	_, rest, _ := strings.Cut(path, "?")
	rest, _, _ = strings.Cut(rest, "#")
	for rest != "" {
		var item string
		item, rest, _ = strings.Cut(rest, "&")
		key, value, _ := strings.Cut(item, "=")
		if key == name && item != "" {
			return value, true
		}
	}
	return "", false
}

// Cookie matches a cookie of a request (CookieMatcher).
type Cookie struct {
	Name   string
	Text   String
	Invert bool
}

// MatchValue reports whether the values of the cookie fields match. A cookie that is
// not there matches only an inverted matcher.
func (c *Cookie) MatchValue(fields func(yield func(string) bool)) bool {
	for list := range fields {
		for item := range strings.SplitSeq(list, ";") {
			key, v, ok := strings.Cut(strings.TrimLeft(item, " \t"), "=")
			if ok && key == c.Name {
				return c.Text.Match(unquote(strings.TrimRight(v, " \t"))) != c.Invert
			}
		}
	}
	return c.Invert
}

func unquote(v string) string {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}
