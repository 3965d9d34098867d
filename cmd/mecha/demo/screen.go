package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// screen is where the demo says what happens: plain text that reads well
// without colours, in at most 100 columns.
type screen struct {
	w       io.Writer
	colour  bool
	passed  int
	failed  []string // titles of the steps with an expectation that was not met
	current string
}

// newScreen writes to w, in colour where w is a terminal and NO_COLOR
// (https://no-color.org) is not set.
func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	if f, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		s.colour = err == nil
	}
	return s
}

// style is an SGR parameter.
type style string

const (
	bold  style = "1"
	dim   style = "2"
	red   style = "31"
	green style = "32"
	cyan  style = "36"
)

func (s *screen) paint(st style, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + string(st) + "m" + text + "\x1b[0m"
}

func (s *screen) blank() { fmt.Fprintln(s.w) }

// say prints a line of prose.
func (s *screen) say(format string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		fmt.Fprintln(s.w, strings.TrimRight("  "+line, " "))
	}
}

func (s *screen) title(format string, args ...any) {
	fmt.Fprintln(s.w, s.paint(bold, fmt.Sprintf(format, args...)))
}

// step begins a numbered part.
func (s *screen) step(number int, title string) {
	s.current = title
	s.blank()
	fmt.Fprintf(s.w, "%s %s\n", s.paint(cyan, fmt.Sprint(number)), s.paint(bold, title))
}

// row prints text beside a label; further lines of it stand below the first.
func (s *screen) row(label, format string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		switch {
		case strings.HasPrefix(line, "- "):
			line = s.paint(red, line)
		case strings.HasPrefix(line, "+ "):
			line = s.paint(green, line)
		}
		fmt.Fprintf(s.w, "  %s %s\n", s.paint(dim, fmt.Sprintf("%-9s", label)), line)
		label = ""
	}
}

func (s *screen) did(format string, args ...any)    { s.row("done", format, args...) }
func (s *screen) expect(format string, args ...any) { s.row("expected", format, args...) }
func (s *screen) saw(format string, args ...any)    { s.row("measured", format, args...) }

// check says whether an expectation was met.
func (s *screen) check(met bool, format string, args ...any) {
	mark := s.paint(green, "✓")
	if met {
		s.passed++
	} else {
		mark = s.paint(red, "✗")
		s.failed = append(s.failed, s.current)
	}
	fmt.Fprintf(s.w, "  %s %s\n", mark, fmt.Sprintf(format, args...))
}

// skip says that something cannot be shown, and why.
func (s *screen) skip(format string, args ...any) {
	fmt.Fprintf(s.w, "  %s %s\n", s.paint(dim, "–"), fmt.Sprintf(format, args...))
}

// number writes n with commas.
func number[N int | int64](n N) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// textWidth is what fits beside a label in 100 columns.
const textWidth = 86

// wrap breaks lines between words where they get longer than width.
func wrap(text string, width int) string {
	var out strings.Builder
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			out.WriteByte('\n')
		}
		column := 0
		for j, word := range strings.Fields(line) {
			n := utf8.RuneCountInString(word)
			switch {
			case j == 0:
			case column+1+n > width:
				out.WriteByte('\n')
				column = 0
			default:
				out.WriteByte(' ')
				column++
			}
			out.WriteString(word)
			column += n
		}
	}
	return out.String()
}
