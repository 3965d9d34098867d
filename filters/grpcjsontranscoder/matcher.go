package grpcjsontranscoder

import (
	"fmt"
	"strings"
)

// matcher finds the method that a request calls. It is immutable once it is built.
type matcher struct {
	root  node
	verbs map[string]struct{} // custom verbs of the templates
	// anyVerb takes what follows a last colon for a verb even if no template has it
	// (match_unregistered_custom_verb).
	anyVerb bool
}

// node is a segment of templates.
type node struct {
	children map[string]*node
	any      *node // "*"
	rest     *node // "**"
	deep     bool  // it is one of "**": any number of segments
	methods  map[httpMethod]*target
}

type httpMethod struct{ method, verb string }

// target is a method with the template that leads to it. nil in a node's methods: several
// have the same template, so that none has it.
type target struct {
	*method
	template *template
}

// add registers a template. Where two are the same, neither matches, as in Envoy.
func (m *matcher) add(httpVerb, text string, to *method) error {
	t, err := parseTemplate(text)
	if err != nil {
		return err
	}
	n := &m.root
	for _, segment := range t.segments {
		n = n.child(segment)
	}
	if n.methods == nil {
		n.methods = map[httpMethod]*target{}
	}
	key := httpMethod{httpVerb, t.verb}
	if _, twice := n.methods[key]; twice {
		n.methods[key] = nil
	} else {
		n.methods[key] = &target{to, t}
	}
	if t.verb != "" {
		if m.verbs == nil {
			m.verbs = map[string]struct{}{}
		}
		m.verbs[t.verb] = struct{}{}
	}
	return nil
}

func (n *node) child(segment string) *node {
	at := &n.any
	switch segment {
	case "*":
	case "**":
		at = &n.rest
	default:
		c := n.children[segment]
		if c == nil {
			c = &node{}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[segment] = c
		}
		return c
	}
	if *at == nil {
		*at = &node{deep: segment == "**"}
	}
	return *at
}

// split cuts a path without query into its segments, which are appended to parts, and its
// custom verb. Empty segments at the end do not count.
func (m *matcher) split(parts []string, path string) (_ []string, verb string) {
	if colon := strings.LastIndexByte(path, ':'); colon > strings.LastIndexByte(path, '/') {
		if _, known := m.verbs[path[colon+1:]]; known || m.anyVerb {
			path, verb = path[:colon], path[colon+1:]
		}
	}
	for path != "" {
		path = path[1:] // a slash
		end := strings.IndexByte(path, '/')
		if end < 0 {
			end = len(path)
		}
		parts = append(parts, path[:end])
		path = path[end:]
	}
	for len(parts) > 0 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	return parts, verb
}

// find looks a path up. Literal segments go before *, and that before **.
func (n *node) find(parts []string, key httpMethod) (t *target, found bool) {
	for {
		if len(parts) == 0 {
			if t, found = n.of(key); !found && n.rest != nil {
				t, found = n.rest.of(key)
			}
			return t, found
		}
		if c := n.children[parts[0]]; c != nil {
			if t, found = c.find(parts[1:], key); found {
				return t, true
			}
		}
		if !n.deep {
			break
		}
		parts = parts[1:]
	}
	for _, c := range [...]*node{n.any, n.rest} {
		if c == nil {
			continue
		}
		if t, found = c.find(parts[1:], key); found {
			return t, true
		}
	}
	return nil, false
}

// of is the target for a method, or for all of them.
func (n *node) of(key httpMethod) (*target, bool) {
	t, ok := n.methods[key]
	if !ok {
		t, ok = n.methods[httpMethod{method: "*"}]
	}
	return t, ok
}

// unescaping is which characters of a path are decoded (UrlUnescapeSpec).
type unescaping uint8

const (
	exceptReserved unescaping = iota
	exceptSlash
	everything
)

const reserved = "!#$&'()*+,/:;=?@[]" // RFC 6570 2.2

// unescape decodes percent-encoding, and what is wrong with it stays as it is.
func unescape(s string, which unescaping, plus bool) string {
	if !strings.Contains(s, "%") && !(plus && strings.Contains(s, "+")) {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if plus && c == '+' {
			c = ' '
		}
		if c == '%' && i+2 < len(s) {
			high, ok := unhex(s[i+1])
			low, alsoOK := unhex(s[i+2])
			d := high<<4 | low
			keep := which == exceptReserved && strings.IndexByte(reserved, d) >= 0 || which == exceptSlash && d == '/'
			if ok && alsoOK && !keep {
				c = d
				i += 2
			}
		}
		out = append(out, c)
	}
	return string(out)
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// values calls each for what the template binds in the segments of a path that matches it.
func (t *template) values(parts []string, which unescaping, each func(path []string, value string) error) error {
	for _, v := range t.vars {
		end, decode := v.end, everything
		if end < 0 {
			end += len(parts) + 1
		}
		if v.end < 0 || end-v.start > 1 {
			decode = which
		}
		if end > len(parts) || v.start > end {
			return fmt.Errorf("the path is too short for %s", strings.Join(v.path, "."))
		}
		value := ""
		for i, p := range parts[v.start:end] {
			if i > 0 {
				value += "/"
			}
			value += unescape(p, decode, false)
		}
		if err := each(v.path, value); err != nil {
			return err
		}
	}
	return nil
}
