package match

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Regexp is a regular expression in RE2's syntax.
type Regexp struct {
	text string
	all  *regexp.Regexp // anchored at both ends
	some *regexp.Regexp // as it was written

	// What many configurations ask of an expression is less than a machine for it:
	// plain is one that a String can answer.
	plain *String
	begin string // what everything that it covers begins with
}

// CompileRegexp compiles an expression.
func CompileRegexp(expr string) (*Regexp, error) {
	some, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("the regular expression %q: %w", expr, err)
	}
	all, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, fmt.Errorf("the regular expression %q: %w", expr, err)
	}
	return &Regexp{text: expr, all: all, some: some, plain: simplify(expr), begin: leadingText(expr)}, nil
}

// leading returns what everything that r covers begins with, or is.
func (r *Regexp) leading() (text string, kind LiteralKind) {
	switch {
	case r.plain != nil && r.plain.kind == exact:
		return r.plain.text, LiteralExact
	case r.begin != "":
		return r.begin, LiteralPrefix
	}
	return "", LiteralNone
}

// leadingText returns the literal at the beginning of an expression.
func leadingText(expr string) string {
	tree, err := syntax.Parse(expr, syntax.Perl)
	for err == nil {
		switch {
		case tree.Op == syntax.OpLiteral && tree.Flags&syntax.FoldCase == 0:
			text, _, _ := strings.Cut(string(tree.Rune), "\uFFFD") // which matches every byte that is no UTF-8
			return text
		case tree.Op == syntax.OpConcat && tree.Sub[0].Op == syntax.OpBeginText && len(tree.Sub) > 1:
			tree = tree.Sub[1]
		case tree.Op == syntax.OpConcat, tree.Op == syntax.OpCapture:
			tree = tree.Sub[0]
		default:
			return ""
		}
	}
	return ""
}

// String returns the expression as it was written.
func (r *Regexp) String() string { return r.text }

// Groups is the number of capturing groups.
func (r *Regexp) Groups() int { return r.some.NumSubexp() }

// Match reports whether r covers v from beginning to end.
func (r *Regexp) Match(v string) bool {
	if r.plain != nil {
		return r.plain.Match(v) && (r.plain.kind == exact || !hasNewline(v))
	}
	return r.all.MatchString(v)
}

// hasNewline: "." does not match a newline.
func hasNewline(v string) bool {
	for i := range len(v) {
		if v[i] == '\n' {
			return true
		}
	}
	return false
}

// simplify returns the String that is equal to an expression of the forms "text",
// "text.*", ".*text", ".*text.*" and ".*"; nil for any other.
func simplify(expr string) *String {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil
	}
	parts := []*syntax.Regexp{tree.Simplify()}
	if parts[0].Op == syntax.OpConcat {
		parts = parts[0].Sub
	}
	open, closed := false, false
	if len(parts) > 0 && isAnything(parts[0]) {
		open, parts = true, parts[1:]
	}
	if n := len(parts); n > 0 && isAnything(parts[n-1]) {
		closed, parts = true, parts[:n-1]
	}
	text := ""
	switch {
	case len(parts) == 0:
	case len(parts) == 1 && parts[0].Op == syntax.OpLiteral && parts[0].Flags&syntax.FoldCase == 0:
		text = string(parts[0].Rune)
	default:
		return nil
	}
	if hasNewline(text) {
		return nil
	}
	s := Exact(text, false)
	switch {
	case open && closed:
		s = Contains(text, false)
	case open && len(parts) == 0, closed:
		s = Prefix(text, false)
	case open:
		s = Suffix(text, false)
	}
	return &s
}

func isAnything(re *syntax.Regexp) bool {
	return re.Op == syntax.OpStar && re.Sub[0].Op == syntax.OpAnyCharNotNL
}

// Substitution replaces what an expression matches (RegexMatchAndSubstitute).
type Substitution struct {
	re     *Regexp
	pieces []piece
}

// piece is literal text, or the text of a group.
type piece struct {
	text  string
	group int // -1: text
}

// NewSubstitution compiles a replacement text, in which \0 is what the expression
// has matched, \1 to \9 are its groups and \\ is a backslash.
func NewSubstitution(re *Regexp, replacement string) (*Substitution, error) {
	s := &Substitution{re: re}
	text := []byte{}
	for i := 0; i < len(replacement); i++ {
		c := replacement[i]
		if c != '\\' {
			text = append(text, c)
			continue
		}
		i++
		switch {
		case i < len(replacement) && replacement[i] == '\\':
			text = append(text, '\\')
		case i < len(replacement) && '0' <= replacement[i] && replacement[i] <= '9':
			group := int(replacement[i] - '0')
			if group > re.Groups() {
				return nil, fmt.Errorf(`the substitution %q refers to \%d, but the expression has %d groups`, replacement, group, re.Groups())
			}
			s.pieces = append(s.pieces, piece{text: string(text), group: -1}, piece{group: group})
			text = text[:0]
		default:
			return nil, fmt.Errorf(`the substitution %q: a backslash must be followed by a digit or a backslash`, replacement)
		}
	}
	s.pieces = append(s.pieces, piece{text: string(text), group: -1})
	return s, nil
}

// Append appends v with every match replaced.
func (s *Substitution) Append(dst []byte, v string) []byte {
	last := 0
	for _, m := range s.re.some.FindAllStringSubmatchIndex(v, -1) {
		dst = append(dst, v[last:m[0]]...)
		for _, p := range s.pieces {
			switch {
			case p.group < 0:
				dst = append(dst, p.text...)
			case m[2*p.group] >= 0:
				dst = append(dst, v[m[2*p.group]:m[2*p.group+1]]...)
			}
		}
		last = m[1]
	}
	return append(dst, v[last:]...)
}
