package match

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

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

// Match reports whether the cookies of a request match. A cookie that is not there
// matches only an inverted matcher.
func (c *Cookie) Match(m *header.Map) bool {
	for list := range m.Values("cookie") {
		if v, ok := findCookie(list, c.Name); ok {
			return c.Text.Match(v) != c.Invert
		}
	}
	return c.Invert
}

// CookieValue returns the value of a request's cookie, "" if it has none.
func CookieValue(m *header.Map, name string) string {
	for list := range m.Values("cookie") {
		if v, ok := findCookie(list, name); ok {
			return v
		}
	}
	return ""
}

// findCookie returns the value of a cookie in one field.
func findCookie(list, name string) (value string, ok bool) {
	for list != "" {
		var item string
		item, list, _ = strings.Cut(list, ";")
		key, v, ok := strings.Cut(strings.TrimLeft(item, " \t"), "=")
		if ok && key == name {
			return unquote(strings.TrimRight(v, " \t")), true
		}
	}
	return "", false
}

func unquote(v string) string {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}
