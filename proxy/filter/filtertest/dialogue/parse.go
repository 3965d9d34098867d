package dialogue

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Load reads the cases of all files that match the patterns.
func Load(patterns ...string) ([]*Case, error) {
	var all []*Case
	for _, p := range patterns {
		files, err := filepath.Glob(p)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				return nil, err
			}
			cases, err := Parse(f, string(text))
			if err != nil {
				return nil, err
			}
			all = append(all, cases...)
		}
	}
	seen := map[string]*Case{}
	for _, c := range all {
		if old := seen[c.Name]; old != nil {
			return nil, fmt.Errorf("%s:%d: the name %s is taken by %s:%d", c.File, c.Line, c.Name, old.File, old.Line)
		}
		seen[c.Name] = c
	}
	return all, nil
}

var (
	heading  = regexp.MustCompile(`^=== ([a-z0-9][a-z0-9-]*)$`)
	stepLine = regexp.MustCompile(`^([cuv][0-9]*)(?::([0-9]+))?(>>|>head|>data|>end|>trailers|>|<head|<end|<tls|<[0-9]+|<|!)(?: (.*))?$`)
)

// parser is the state of reading one file.
type parser struct {
	file  string
	cases []*Case
	c     *Case
	notes []string
	blank bool // an empty line came since the last step
}

// Parse reads the cases of one file.
func Parse(file, text string) ([]*Case, error) {
	p := &parser{file: file}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if m := heading.FindStringSubmatch(line); m != nil {
			p.c = &Case{File: file, Name: m[1], Line: i + 1}
			p.cases = append(p.cases, p.c)
			p.notes, p.blank = nil, false
			continue
		}
		if p.c == nil {
			if line == "" || line[0] == '#' {
				continue
			}
			return nil, fmt.Errorf("%s:%d: a case begins with === and a name, not %q", file, i+1, line)
		}
		if line == "config" {
			from := i + 1
			for i+1 < len(lines) && (strings.HasPrefix(lines[i+1], " ") || lines[i+1] == "" && i+2 < len(lines) && strings.HasPrefix(lines[i+2], " ")) {
				i++
			}
			p.c.Config = strings.Join(lines[from:i+1], "\n")
			continue
		}
		if err := p.line(line, i+1); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
	}
	return p.cases, nil
}

const onePiece = "in one piece: "

// line reads one line of a case other than its configuration.
func (p *parser) line(line string, n int) error {
	rest, isDiffers := strings.CutPrefix(line, "differs from Envoy: ")
	switch {
	case line == "":
		p.blank = true
		return nil
	case line[0] == '#':
		if len(p.c.Steps) == 0 && p.c.Config == "" && p.c.Differs == "" {
			p.c.About = append(p.c.About, line)
		} else {
			p.notes = append(p.notes, line)
			p.blank = true
		}
		return nil
	case isDiffers:
		p.c.Differs = rest
		return nil
	case strings.HasPrefix(line, onePiece):
		p.c.Whole = line[len(onePiece):]
		return nil
	}
	for prefix, op := range map[string]Op{"log:": Log, "stat:": Stat, "admin ": Admin, "wait ": Wait} {
		if arg, ok := strings.CutPrefix(line, prefix); ok {
			p.add(Step{Op: op, Arg: strings.TrimSpace(arg), Line: n})
			return nil
		}
	}
	m := stepLine.FindStringSubmatch(line)
	if m == nil {
		return fmt.Errorf("not a line of a dialogue: %q", line)
	}
	who := wireName{m[1], m[2] != "", 0}
	who.stream, _ = strconv.Atoi(m[2]) // digits only
	return p.step(who, m[3], m[4], line, n)
}

// wireName is what a line of traffic begins with: a connection or, in HTTP/2, one of its
// streams.
type wireName struct {
	conn   string
	http2  bool
	stream int
}

func (p *parser) add(s Step) *Step {
	s.Blank, s.Notes = p.blank, p.notes
	p.blank, p.notes = false, nil
	p.c.Steps = append(p.c.Steps, s)
	return &p.c.Steps[len(p.c.Steps)-1]
}

// step adds a line of traffic to the last step, if it continues that, or to a new one.
func (p *parser) step(who wireName, mark, text, line string, n int) error {
	op, size, part := Send, 0, Whole
	switch mark {
	case "<":
		op = Read
	case "<head":
		op = ReadHead
	case "<end":
		op = ReadEnd
	case "<tls":
		op = ReadTLS
	case "!":
		op = Act
	case ">", ">>", ">head", ">data", ">end", ">trailers":
		if part = parts[mark]; part != Whole && !who.http2 {
			return fmt.Errorf("parts of messages are sent on streams of HTTP/2, not on %s", who.conn)
		}
	default:
		op = ReadN
		size, _ = strconv.Atoi(mark[1:]) // the expression lets digits through only
	}
	var s *Step
	if k := len(p.c.Steps); k > 0 && !p.blank && op != Act {
		if last := &p.c.Steps[k-1]; last.Op == op && last.on(who) && last.N == size && last.Part == part {
			s = last
		}
	}
	if s == nil {
		s = p.add(Step{Op: op, Who: who.conn, HTTP2: who.http2, Stream: who.stream, N: size, Part: part, Line: n})
	}
	switch op {
	case Act:
		s.Arg = text
		if text != "close" && text != "shut" && text != "reset" && !(who.stream > 0 && strings.HasPrefix(text, "reset ")) {
			return fmt.Errorf("close, shut or reset, not %q", text)
		}
	case Send:
		data, err := expand(text)
		if err != nil {
			return err
		}
		s.Data = append(s.Data, data...)
		if mark != ">>" {
			s.Data = append(s.Data, "\r\n"...)
		}
		s.Lines = append(s.Lines, line)
	default:
		s.Lines = append(s.Lines, text)
	}
	return nil
}

var repeat = regexp.MustCompile(`\{\{([^{}]+)\*([0-9]+)\}\}`)

// expand resolves escapes, repetitions and content codings.
func expand(text string) ([]byte, error) {
	text = repeat.ReplaceAllStringFunc(text, func(s string) string {
		m := repeat.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2]) // digits only
		return strings.Repeat(m[1], min(n, 1<<20))
	})
	text, err := encodeAll(text)
	if err != nil {
		return nil, err
	}
	return unescape(text)
}

func unescape(text string) ([]byte, error) {
	var out bytes.Buffer
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			out.WriteByte(text[i])
			continue
		}
		c, _, tail, err := strconv.UnquoteChar(text[i:], 0)
		if err != nil || c > 255 {
			return nil, fmt.Errorf("a wrong escape in %q", text[i:])
		}
		out.WriteByte(byte(c))
		i = len(text) - len(tail) - 1
	}
	return out.Bytes(), nil
}

// Format writes the cases of one file, after its first comment lines.
func Format(intro string, cases []*Case) string {
	var b strings.Builder
	b.WriteString(intro)
	for i, c := range cases {
		if i > 0 {
			b.WriteByte('\n')
		}
		c.format(&b)
	}
	return b.String()
}

// Intro returns the lines of a file before its first case.
func Intro(text string) string {
	if i := strings.Index(text, "=== "); i >= 0 {
		return text[:i]
	}
	return text
}

// on reports whether the step is one of that connection or stream.
func (s *Step) on(who wireName) bool {
	return s.Who == who.conn && s.HTTP2 == who.http2 && s.Stream == who.stream
}

func (c *Case) format(b *strings.Builder) {
	fmt.Fprintf(b, "=== %s\n", c.Name)
	for _, l := range c.About {
		b.WriteString(l + "\n")
	}
	if c.Differs != "" {
		b.WriteString("differs from Envoy: " + c.Differs + "\n")
	}
	if c.Whole != "" {
		b.WriteString(onePiece + c.Whole + "\n")
	}
	if c.Config != "" {
		b.WriteString("config\n" + c.Config + "\n")
	}
	for i := range c.Steps {
		c.Steps[i].format(b, i == 0 && c.Config == "")
	}
}

func (s *Step) format(b *strings.Builder, noBlank bool) {
	if s.Blank && !noBlank {
		b.WriteByte('\n')
	}
	for _, n := range s.Notes {
		b.WriteString(n + "\n")
	}
	switch s.Op {
	case Send:
		b.WriteString(strings.Join(s.Lines, "\n") + "\n")
	case Act:
		fmt.Fprintf(b, "%s! %s\n", s.name(), s.Arg)
	case Wait:
		fmt.Fprintf(b, "wait %s\n", s.Arg)
	case Admin:
		fmt.Fprintf(b, "admin %s\n", s.Arg)
	case Log:
		fmt.Fprintf(b, "log: %s\n", s.Arg)
	case Stat:
		fmt.Fprintf(b, "stat: %s\n", s.Arg)
	default:
		for _, l := range s.Lines {
			b.WriteString(strings.TrimRight(s.prefix()+" "+l, " ") + "\n")
		}
	}
}
