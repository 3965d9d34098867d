package grpcjsontranscoder

import (
	"fmt"
	"slices"
	"strings"
)

// template is a path template (google.api.http): segments, "*" for any one and "**" for any
// number of them, and what of a path they bind to fields.
type template struct {
	segments []string
	verb     string
	vars     []variable
}

// variable is bound to the segments from start to before end. A negative end counts from the
// end of the path, -1 is the end itself: the variable has a "**".
type variable struct {
	path       []string
	start, end int
}

// parser reads a template (https://github.com/googleapis/googleapis/blob/master/google/api/http.proto).
type parser struct {
	text string
	i    int
	template
}

func parseTemplate(text string) (*template, error) {
	p := parser{text: text}
	if text == "/" {
		return &p.template, nil
	}
	ok := p.take('/') && p.list(nil)
	if ok && p.take(':') {
		p.verb = p.until("/:}")
		ok = p.verb != ""
	}
	if !ok || p.i < len(text) {
		return nil, fmt.Errorf("%q is not a path template", text)
	}
	if i := slices.Index(p.segments, "**"); i >= 0 && slices.ContainsFunc(p.segments[i+1:], wild) {
		return nil, fmt.Errorf("%q: only literal segments may follow **", text)
	}
	for i := range p.vars {
		if v := &p.vars[i]; slices.Contains(p.segments[v.start:v.end], "**") {
			v.end -= len(p.segments) + 1
		}
	}
	return &p.template, nil
}

func wild(segment string) bool { return segment == "*" || segment == "**" }

func (p *parser) take(c byte) bool {
	if p.i == len(p.text) || p.text[p.i] != c {
		return false
	}
	p.i++
	return true
}

// until consumes what comes before one of the characters.
func (p *parser) until(stop string) string {
	n := strings.IndexAny(p.text[p.i:], stop)
	if n < 0 {
		n = len(p.text) - p.i
	}
	p.i += n
	return p.text[p.i-n : p.i]
}

// list reads segments, within a variable if there is one.
func (p *parser) list(v *variable) bool {
	for {
		switch {
		case p.take('*'):
			if p.take('*') {
				p.segments = append(p.segments, "**")
			} else {
				p.segments = append(p.segments, "*")
			}
		case p.i < len(p.text) && p.text[p.i] == '{':
			if v != nil || !p.variable() {
				return false
			}
		default:
			literal := p.until("/:}")
			if literal == "" {
				return false
			}
			p.segments = append(p.segments, literal)
		}
		if !p.take('/') {
			return true
		}
	}
}

func (p *parser) variable() bool {
	p.take('{')
	v := variable{start: len(p.segments)}
	for {
		name := p.until(".}=")
		if name == "" {
			return false
		}
		v.path = append(v.path, name)
		if !p.take('.') {
			break
		}
	}
	if !p.take('=') {
		p.segments = append(p.segments, "*")
	} else if !p.list(&v) {
		return false
	}
	v.end = len(p.segments)
	p.vars = append(p.vars, v)
	return p.take('}')
}
