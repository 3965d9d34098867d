package match

import "strings"

// Path matches the path of a request, without query and fragment. The zero value
// matches the empty path only.
type Path struct {
	text     String
	template *Template
	sep      bool // a whole number of segments (path_separated_prefix)
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

// PathTemplate matches what t does.
func PathTemplate(t *Template) Path { return Path{text: Matching(nil), template: t} }

// Template returns the template that p matches, nil if it is of another kind.
func (p *Path) Template() *Template { return p.template }

// Match reports whether path, without query and fragment, matches.
func (p *Path) Match(path string) bool {
	if p.template != nil {
		return p.template.Match(path)
	}
	if !p.text.Match(path) {
		return false
	}
	n := len(p.text.text)
	return !p.sep || len(path) == n || path[n] == '/'
}

// Covers is how many bytes at the beginning of path the matcher stands for: a prefix or a
// whole path its length, anything else all of it. It is not ok if path does not begin like
// that, which can be if it was another form of it that has matched.
func (p *Path) Covers(path string) (n int, ok bool) {
	if p.text.kind != prefix && p.text.kind != exact {
		return len(path), true
	}
	begin := String{kind: prefix, fold: p.text.fold, text: p.text.text}
	return len(p.text.text), begin.Match(path)
}

// LiteralKind is what all paths that a matcher matches have in common.
type LiteralKind uint8

// The kinds. The text of the folding ones is lower case and stands for any case.
const (
	LiteralNone   LiteralKind = iota
	LiteralPrefix             // they begin with a text
	LiteralExact              // they are a text
	LiteralPrefixFold
	LiteralExactFold
)

// Literal returns a text that says much of what a path that matches looks like; all
// tells that it says everything.
func (p *Path) Literal() (text string, kind LiteralKind, all bool) {
	switch {
	case p.template != nil:
		return p.template.leading(), LiteralPrefix, false
	case p.text.kind == regex:
		text, kind = p.text.re.leading()
		return text, kind, kind == LiteralExact
	case p.text.kind == prefix && p.text.fold:
		return p.text.text, LiteralPrefixFold, !p.sep
	case p.text.kind == prefix:
		return p.text.text, LiteralPrefix, !p.sep
	case p.text.kind == exact && p.text.fold:
		return p.text.text, LiteralExactFold, true
	case p.text.kind == exact:
		return p.text.text, LiteralExact, true
	}
	return "", LiteralNone, false
}

// leading is the text before the first operator, and before a semicolon: where parameters
// are not compared, those that look the text up have none.
func (t *Template) leading() string {
	text := ""
	for _, op := range t.ops {
		if op.kind != templateText {
			break
		}
		text += op.text
	}
	text, _, _ = strings.Cut(text, ";")
	return text
}

// AppendWithoutParameters appends path without what follows a semicolon in each segment.
func AppendWithoutParameters(dst []byte, path string) []byte {
	for path != "" {
		i := strings.IndexByte(path, ';')
		if i < 0 {
			break
		}
		dst, path = append(dst, path[:i]...), path[i:]
		next := strings.IndexByte(path, '/')
		if next < 0 {
			return dst
		}
		path = path[next:]
	}
	return append(dst, path...)
}

// WithoutQuery cuts query and fragment off a path.
func WithoutQuery(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		return path[:i]
	}
	return path
}
