package verdicts

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// Load reads every *.txt file of fsys, in name order. An error names file and
// line; two cases of one name are an error.
func Load(fsys fs.FS) ([]Case, error) {
	names, err := fs.Glob(fsys, "*.txt")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("no *.txt file in the corpus folder")
	}
	var all []Case
	seen := map[string]string{}
	for _, name := range names {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		cases, err := Parse(name, text)
		if err != nil {
			return nil, err
		}
		for i := range cases {
			at := fmt.Sprintf("%s:%d", cases[i].File, cases[i].Line)
			if first, ok := seen[cases[i].Name]; ok {
				return nil, fmt.Errorf("%s: case %s is already at %s", at, cases[i].Name, first)
			}
			seen[cases[i].Name] = at
		}
		all = append(all, cases...)
	}
	return all, nil
}

// Parse reads one corpus file. file is only used in errors and in Case.File.
func Parse(file string, text []byte) ([]Case, error) {
	p := parser{file: file}
	for line := range strings.Lines(string(text)) {
		p.line++
		line = strings.TrimRight(line, "\r\n")
		if err := p.take(line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, p.line, err)
		}
	}
	for i := range p.cases {
		if len(p.cases[i].Send) == 0 {
			return nil, fmt.Errorf("%s:%d: case %s sends nothing", file, p.cases[i].Line, p.cases[i].Name)
		}
	}
	return p.cases, nil
}

// parser is the state between two lines.
type parser struct {
	file  string
	line  int
	cases []Case
	msg   *Message // the message that "|" and "+" lines extend
	split bool     // the next ">" or "<" starts a new write
}

// take reads one line: a key word, then its text.
func (p *parser) take(line string) error {
	if line == "" || line[0] == '#' {
		return nil
	}
	key, text, _ := strings.Cut(line, " ")
	if key == "case" {
		p.cases = append(p.cases, Case{Name: text, File: p.file, Line: p.line})
		p.msg, p.split = nil, false
		return nil
	}
	if len(p.cases) == 0 {
		return fmt.Errorf("want a case, got %q", line)
	}
	c := &p.cases[len(p.cases)-1]
	switch key {
	case "note":
		c.Notes = append(c.Notes, text)
	case "differs":
		c.Differs = text
	case "with":
		return variant(c, text)
	case ">":
		return p.write(&c.Send, text)
	case "<":
		return p.write(&c.Reply, text)
	case "pause":
		p.split = true
	case "client-eof":
		c.ClientEOF = true
	case "reply-eof":
		c.ReplyEOF = true
	case "early":
		c.Early = true
	default:
		return p.verdict(&c.Verdict, key, text)
	}
	return nil
}

func variant(c *Case, text string) error {
	for _, v := range Variants() {
		if v == text && v != Plain {
			c.With = text
			return nil
		}
	}
	return fmt.Errorf("unknown variant %q: want one of %q", text, Variants()[1:])
}

// write appends text to the current write of dst, or begins the next.
func (p *parser) write(dst *[][]byte, text string) error {
	b, err := unescape(text)
	if err != nil {
		return err
	}
	if p.split || len(*dst) == 0 {
		*dst = append(*dst, nil)
	}
	p.split = false
	last := len(*dst) - 1
	(*dst)[last] = append((*dst)[last], b...)
	return nil
}

// verdict reads the lines the recorder writes.
func (p *parser) verdict(v *Verdict, key, text string) error {
	switch {
	case key == "conn" && (text == "open" || text == "closed"):
		v.Closed = text == "closed"
	case key == "log":
		f := strings.SplitN(text, " ", 3)
		if len(f) != 3 {
			return fmt.Errorf("want log STATUS FLAGS DETAILS, got %q", text)
		}
		v.Log = append(v.Log, Entry{Status: f[0], Flags: f[1], Details: f[2]})
	case key == "answer" || key == "upstream":
		list := &v.Answers
		if key == "upstream" {
			list = &v.Upstream
		}
		start, err := unescape(text)
		*list = append(*list, Message{Start: string(start)})
		p.msg = &(*list)[len(*list)-1]
		return err
	case key == "rest" || key == "upstream-rest":
		b, err := unescape(text)
		if key == "rest" {
			v.Rest = b
		} else {
			v.UpRest = b
		}
		return err
	case p.msg != nil:
		return p.message(key, text)
	default:
		return fmt.Errorf("unknown line %q", key)
	}
	return nil
}

// message reads one line of a recorded message: "|" a field, "|N" a field N
// times, "=" the body, "+" a trailer, "incomplete".
func (p *parser) message(key, text string) error {
	b, err := unescape(text)
	if err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(key, "|"):
		n := 1
		if key != "|" {
			if n, err = strconv.Atoi(key[1:]); err != nil || n < 1 || n > 10000 {
				return fmt.Errorf("not a count: %q", key[1:])
			}
		}
		for range n {
			p.msg.Fields = append(p.msg.Fields, string(b))
		}
	case key == "=":
		p.msg.Body = b
	case key == "+":
		p.msg.Trailers = append(p.msg.Trailers, string(b))
	case key == "incomplete":
		p.msg.Incomplete = true
	default:
		return fmt.Errorf("unknown line %q", key)
	}
	return nil
}
