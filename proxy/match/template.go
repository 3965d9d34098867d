package match

import (
	"errors"
	"fmt"
	"strings"
)

// Template matches a path by segments (envoy.path.match.uri_template): "*" is one
// segment, "**" any number of them at the end, "{name}" and "{name=a/*}" keep what they
// stand for. What follows the last operator may be the end of a segment: "/*.png".
type Template struct {
	text string
	ops  []templateOp
	vars []string // names, in the order of their numbers
	tail int      // bytes of the literals after "**"
}

// The most variables of a template, and the longest name of one.
const (
	maxVariables    = 5
	maxVariableName = 16
)

type templateOp struct {
	kind templateKind
	text string // of a literal
	// opens and closes are the variable, plus one, that begins before and ends after.
	opens, closes uint8
}

type templateKind uint8

const (
	templateText    templateKind = iota
	templateSegment              // "*"
	templateRest                 // "**"
)

// Captures are the positions of the variables in a path.
type Captures [maxVariables][2]int

// ParseTemplate compiles a template.
func ParseTemplate(text string) (*Template, error) {
	if !strings.HasPrefix(text, "/") {
		return nil, fmt.Errorf("the template %q does not begin with a slash", text)
	}
	t := &Template{text: text}
	rest := text[1:]
	t.literal("/")
	for rest != "" {
		after, err := t.segment(rest)
		if err != nil {
			return nil, fmt.Errorf("the template %q: %w", text, err)
		}
		switch {
		case after == "":
		case after[0] == '/':
			t.literal("/")
			after = after[1:]
		default:
			if after, err = t.suffix(after, rest[0] == '{'); err != nil {
				return nil, fmt.Errorf("the template %q: %w", text, err)
			}
		}
		rest = after
	}
	return t, t.check()
}

// String returns the template as it was written.
func (t *Template) String() string { return t.text }

func (t *Template) literal(text string) {
	t.ops = append(t.ops, templateOp{kind: templateText, text: text})
}

// segment reads one segment and returns what follows it.
func (t *Template) segment(s string) (after string, err error) {
	switch s[0] {
	case '*':
		return t.operator(s), nil
	case '{':
		body, after, ok := strings.Cut(s[1:], "}")
		if !ok {
			return "", errors.New("a variable lacks its closing bracket")
		}
		return after, t.variable(body)
	}
	end := strings.IndexByte(s, '/')
	if end < 0 {
		end = len(s)
	}
	if !validLiteral(s[:end]) {
		return "", fmt.Errorf("%q is not a literal", s[:end])
	}
	t.literal(s[:end])
	return s[end:], nil
}

// suffix reads the end of a segment that begins with an operator or a variable.
func (t *Template) suffix(s string, variable bool) (after string, err error) {
	s, after, more := strings.Cut(s, "/")
	switch {
	case more && !variable:
		return "", errors.New("only the last segment may go on after an operator")
	case !validLiteral(s):
		return "", fmt.Errorf("%q is not a literal", s)
	}
	t.literal(s)
	if more {
		t.literal("/")
	}
	return after, nil
}

func (t *Template) operator(s string) (after string) {
	if strings.HasPrefix(s, "**") {
		t.ops = append(t.ops, templateOp{kind: templateRest})
		return s[2:]
	}
	t.ops = append(t.ops, templateOp{kind: templateSegment})
	return s[1:]
}

// variable reads "name" or "name=pattern".
func (t *Template) variable(body string) error {
	name, pattern, given := strings.Cut(body, "=")
	switch {
	case !validVariable(name):
		return fmt.Errorf("%q is not the name of a variable", name)
	case len(name) > maxVariableName:
		return fmt.Errorf("the name %q is longer than %d bytes", name, maxVariableName)
	case len(t.vars) == maxVariables:
		return fmt.Errorf("more than %d variables", maxVariables)
	case t.variableNamed(name) >= 0:
		return fmt.Errorf("the variable %q is there twice", name)
	case !given:
		pattern = "*"
	case pattern == "":
		return fmt.Errorf("the variable %q has an empty pattern", name)
	}
	t.vars = append(t.vars, name)
	first := len(t.ops)
	for pattern != "" {
		var err error
		if pattern[0] == '{' {
			return fmt.Errorf("the variable %q contains another one", name)
		}
		if pattern, err = t.segment(pattern); err != nil {
			return err
		}
		if pattern == "" {
			break
		}
		if pattern[0] != '/' || len(pattern) == 1 {
			return fmt.Errorf("the pattern of the variable %q: %q is not expected", name, pattern)
		}
		t.literal("/")
		pattern = pattern[1:]
	}
	t.ops[first].opens = uint8(len(t.vars))
	t.ops[len(t.ops)-1].closes = uint8(len(t.vars))
	return nil
}

func (t *Template) variableNamed(name string) int {
	for i, v := range t.vars {
		if v == name {
			return i
		}
	}
	return -1
}

// check refuses operators after "**", and finds out how long what follows it is.
func (t *Template) check() error {
	rest := false
	for _, op := range t.ops {
		switch {
		case op.kind != templateText && rest:
			return fmt.Errorf("the template %q: nothing but text may follow **", t.text)
		case op.kind == templateRest:
			rest = true
		case rest:
			t.tail += len(op.text)
		}
	}
	return nil
}

// Match reports whether path, without query and fragment, matches.
func (t *Template) Match(path string) bool {
	var c Captures
	return t.Find(path, &c)
}

// Find is Match that tells where the variables are.
func (t *Template) Find(path string, c *Captures) bool {
	i := 0
	for k := range t.ops {
		op := &t.ops[k]
		if op.opens > 0 {
			c[op.opens-1][0] = i
		}
		n := t.width(k, path[i:])
		if n < 0 {
			return false
		}
		i += n
		if op.closes > 0 {
			c[op.closes-1][1] = i
		}
	}
	return i == len(path)
}

// width is how many bytes of rest the k-th operation takes, -1 if it does not match.
func (t *Template) width(k int, rest string) int {
	op := &t.ops[k]
	switch op.kind {
	case templateRest:
		n := len(rest) - t.tail
		for i := range max(n, 0) {
			if c := rest[i]; c != '/' && !isPathChar(c) {
				return -1
			}
		}
		return n
	case templateSegment:
		n := 0
		for n < len(rest) && isPathChar(rest[n]) {
			n++
		}
		if k+1 < len(t.ops) && t.ops[k+1].text[0] != '/' {
			n -= len(t.ops[k+1].text) // the end of this segment
		}
		if n < 1 {
			return -1
		}
		return n
	}
	if !strings.HasPrefix(rest, op.text) {
		return -1
	}
	return len(op.text)
}

// isPathChar is what an operator stands for: pchar of RFC 3986.
func isPathChar(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~%!$&'()*+,;=:@", c) >= 0
}

// validLiteral leaves out "*", which Envoy takes and then means something else by it.
func validLiteral(s string) bool {
	for i := range len(s) {
		if !isPathChar(s[i]) || s[i] == '*' {
			return false
		}
	}
	return s != ""
}

func validVariable(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return s != ""
}

// TemplateRewrite makes a new path out of the variables of a template
// (envoy.path.rewrite.uri_template).
type TemplateRewrite struct {
	from   *Template
	pieces []piece
}

// NewTemplateRewrite compiles a path like "/{lang}/x", whose variables are those of from.
func NewTemplateRewrite(from *Template, path string) (*TemplateRewrite, error) {
	r := &TemplateRewrite{from: from}
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") {
		return nil, fmt.Errorf("the path template %q must begin with a slash and not have two in a row", path)
	}
	for rest := path; rest != ""; {
		text, more, found := strings.Cut(rest, "{")
		if text != "" {
			if !validLiteral(strings.ReplaceAll(text, "/", "-")) {
				return nil, fmt.Errorf("the path template %q: %q is not a literal", path, text)
			}
			r.pieces = append(r.pieces, piece{text: text, group: -1})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(more, "}")
		i := from.variableNamed(name)
		switch {
		case !closed:
			return nil, fmt.Errorf("the path template %q: a variable lacks its closing bracket", path)
		case i < 0:
			return nil, fmt.Errorf("the path template %q: %q is no variable of %q", path, name, from.text)
		}
		r.pieces, rest = append(r.pieces, piece{group: i}), after
	}
	return r, nil
}

// Append appends the new path of one that the template matches; false if it does not.
func (r *TemplateRewrite) Append(dst []byte, path string) ([]byte, bool) {
	var c Captures
	if !r.from.Find(path, &c) {
		return dst, false
	}
	for _, p := range r.pieces {
		if p.group < 0 {
			dst = append(dst, p.text...)
		} else {
			dst = append(dst, path[c[p.group][0]:c[p.group][1]]...)
		}
	}
	return dst, true
}
