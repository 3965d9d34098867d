package applog

import (
	"fmt"
	"log/slog"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// DefaultPattern is Envoy's default line without the source location.
const DefaultPattern = "[%Y-%m-%d %T.%e][%t][%l][%n] %v"

// A Format turns records into lines. It is immutable; make one with
// ParsePattern or ParseJSONFormat.
type Format struct {
	parts []part
	// locate is set when some part needs the caller's file and line.
	locate bool
	// escape applies C escapes to the whole message (--log-format-escaped).
	escape bool
}

// part is literal text, or a directive when verb is not 0.
type part struct {
	verb byte
	text string
	pad  padding
}

// padding is the width of a directive: %8l, %-8l, %=8l, %3!l.
type padding struct {
	width int  // 0 for none
	align byte // '-' fills at the right, '=' at both sides, else at the left
	cut   bool // what is longer is cut
}

// maxWidth is spdlog's.
const maxWidth = 64

// parsePadding reads the padding with which s begins and returns what follows.
func parsePadding(s string) (p padding, rest string) {
	i := 0
	if i < len(s) && (s[i] == '-' || s[i] == '=') {
		p.align = s[i]
		i++
	}
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		p.width = min(p.width*10+int(s[i]-'0'), maxWidth)
		i++
	}
	if p.width == 0 {
		return padding{}, s[i:]
	}
	if i+1 < len(s) && s[i] == '!' {
		p.cut = true
		i++
	}
	return p, s[i:]
}

// apply pads b[start:].
func (p padding) apply(b []byte, start int) []byte {
	missing := p.width - utf8.RuneCount(b[start:])
	if missing < 0 && p.cut {
		return b[:start+p.width]
	}
	if missing <= 0 {
		return b
	}
	left := missing
	switch p.align {
	case '-':
		left = 0
	case '=':
		left = missing / 2
	}
	for range missing {
		b = append(b, ' ')
	}
	copy(b[start+left:], b[start:len(b)-missing])
	for i := range left {
		b[start+i] = ' '
	}
	for i := len(b) - (missing - left); i < len(b); i++ {
		b[i] = ' '
	}
	return b
}

// verbs are the spdlog directives Envoy documents, and its own %j and %_.
const verbs = "vj_nlLtPYCmdHMSefFTRgs#@!zEbBhaApIrDxXc"

// ParsePattern compiles a line in spdlog's pattern syntax, as --log-format and
// application_log_config.text_format use it. Directives that spdlog doesn't
// know are an error that names them.
//
//	%v message and its attributes      %j the same, escaped for JSON
//	%_ the same, newlines as \n        %n component      %l %L level, its letter
//	%t %P process id                   %g %s %# %@ source file, base name, line, both
//	%Y %C %m %d %H %I %M %S %p %T %R %D %r date and time    %e %f %F milli-, micro-, nanoseconds
//	%z offset from UTC   %E seconds since 1970   %a %A %b %B %c names of day and month, all   %% a percent sign
//	%! function            %8l %-8l %=8l filled to a width   %8!l cut to it, too
func ParsePattern(s string) (Format, error) {
	var f Format
	for len(s) > 0 {
		i := strings.IndexByte(s, '%')
		if i < 0 || i == len(s)-1 {
			f.literal(s)
			break
		}
		f.literal(s[:i])
		s = s[i+1:]
		var pad padding
		if pad, s = parsePadding(s); s == "" {
			return Format{}, fmt.Errorf("log format ends inside a %% directive")
		}
		verb := s[0]
		switch {
		case verb == '%':
			f.literal("%")
		case verb == '^' || verb == '$':
			// The borders of spdlog's coloured range: nothing to write.
		case strings.IndexByte(verbs, verb) < 0:
			r, _ := utf8.DecodeRuneInString(s)
			return Format{}, fmt.Errorf("log format has an unknown directive %%%c", r)
		default:
			f.parts = append(f.parts, part{verb: verb, pad: pad})
			f.locate = f.locate || strings.IndexByte("gs#@!", verb) >= 0
		}
		s = s[1:]
	}
	return f, nil
}

// Escaped is f with C escapes applied to every message.
func (f Format) Escaped() Format {
	f.escape = true
	return f
}

// literal appends text, joining neighbours.
func (f *Format) literal(text string) {
	if text == "" {
		return
	}
	if n := len(f.parts); n > 0 && f.parts[n-1].verb == 0 {
		f.parts[n-1].text += text
		return
	}
	f.parts = append(f.parts, part{text: text})
}

// entry is one record on its way to a line.
type entry struct {
	time      time.Time
	level     slog.Level
	component string
	// message holds text and attributes, unescaped. Lent.
	message []byte
	pc      uintptr
}

// appendLine writes e and a newline to b.
func (f *Format) appendLine(b []byte, e *entry) []byte {
	var file, function string
	var line int
	if f.locate && e.pc != 0 {
		fr, _ := runtime.CallersFrames([]uintptr{e.pc}).Next()
		file, line, function = fr.File, fr.Line, fr.Function
	}
	for i := range f.parts {
		p := &f.parts[i]
		start := len(b)
		switch p.verb {
		case 0:
			b = append(b, p.text...)
		case 'v':
			if f.escape {
				b = appendEscaped(b, e.message)
			} else {
				b = append(b, e.message...)
			}
		case 'j':
			b = appendJSON(b, e.message)
		case '_':
			b = appendOneLine(b, e.message)
		case 'n':
			b = append(b, e.component...)
		case 'l':
			b = append(b, LevelName(e.level)...)
		case 'L':
			b = append(b, LevelName(e.level)[0]-'a'+'A')
		case 't', 'P':
			b = strconv.AppendInt(b, int64(os.Getpid()), 10)
		case 'g':
			b = append(b, file...)
		case 's':
			b = append(b, path.Base(file)...)
		case '#':
			b = strconv.AppendInt(b, int64(line), 10)
		case '@':
			b = append(b, file...)
			b = append(b, ':')
			b = strconv.AppendInt(b, int64(line), 10)
		case '!':
			b = append(b, function...)
		default:
			b = appendTime(b, p.verb, e.time)
		}
		if p.pad.width > 0 {
			b = p.pad.apply(b, start)
		}
	}
	return append(b, '\n')
}

func appendTime(b []byte, verb byte, t time.Time) []byte {
	switch verb {
	case 'e':
		return appendPadded(b, t.Nanosecond()/1e6, 3)
	case 'f':
		return appendPadded(b, t.Nanosecond()/1e3, 6)
	case 'F':
		return appendPadded(b, t.Nanosecond(), 9)
	case 'E':
		return strconv.AppendInt(b, t.Unix(), 10)
	}
	return t.AppendFormat(b, timeLayout(verb))
}

// timeLayout is the Go layout of a strftime-like directive.
func timeLayout(verb byte) string {
	switch verb {
	case 'Y':
		return "2006"
	case 'C':
		return "06"
	case 'm':
		return "01"
	case 'd':
		return "02"
	case 'H':
		return "15"
	case 'I':
		return "03"
	case 'M':
		return "04"
	case 'S':
		return "05"
	case 'p':
		return "PM"
	case 'T', 'X':
		return "15:04:05"
	case 'R':
		return "15:04"
	case 'r':
		return "03:04:05 PM"
	case 'D', 'x':
		return "01/02/06"
	case 'z':
		return "-07:00"
	case 'c':
		return "Mon Jan _2 15:04:05 2006"
	case 'b', 'h':
		return "Jan"
	case 'B':
		return "January"
	case 'a':
		return "Mon"
	default:
		return "Monday"
	}
}

// appendPadded writes n with leading zeros to width digits.
func appendPadded(b []byte, n, width int) []byte {
	start := len(b)
	for range width {
		b = append(b, '0')
	}
	for i := start + width - 1; i >= start; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}
