package match

import "strings"

// Path matches the path of a request, without query and fragment.
type Path struct {
	text String
	sep  bool // a whole number of segments (path_separated_prefix)
}

// PathExact matches that path only.
func PathExact(path string, ignoreCase bool) Path { return Path{text: Exact(path, ignoreCase)} }

// PathPrefix matches what begins with prefix.
func PathPrefix(prefix string, ignoreCase bool) Path { return Path{text: Prefix(prefix, ignoreCase)} }

// PathSeparated matches prefix itself, and what goes on after it with a slash.
func PathSeparated(prefix string, ignoreCase bool) Path {
	return Path{text: Prefix(prefix, ignoreCase), sep: true}
}

// PathRegexp matches what re covers from beginning to end.
func PathRegexp(re *Regexp) Path { return Path{text: Matching(re)} }

// Match reports whether path, without query and fragment, matches.
func (p *Path) Match(path string) bool {
	if !p.text.Match(path) {
		return false
	}
	n := len(p.text.text)
	return !p.sep || len(path) == n || path[n] == '/'
}

// Covers is how many bytes at the beginning of path, which has matched, the matcher
// stands for: a prefix its length, anything else the whole.
func (p *Path) Covers(path string) int {
	if p.text.kind == prefix {
		return len(p.text.text)
	}
	return len(path)
}

// WithoutQuery cuts query and fragment off a path.
func WithoutQuery(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		return path[:i]
	}
	return path
}
