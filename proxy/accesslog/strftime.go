package accesslog

import (
	"strconv"
	"strings"
	"time"
)

// timeFormat is a compiled time format: strftime's conversions, the ones Envoy adds
// (%s, %3f, %E3S, %Ez and so on). It is a list of steps.
type timeFormat []func(dst []byte, t time.Time) []byte

func (f timeFormat) append(dst []byte, t time.Time) []byte {
	for _, step := range f {
		dst = step(dst, t)
	}
	return dst
}

// compileTime compiles a format; "" is ISO 8601 with milliseconds. Conversions that
// nobody knows print as they are written.
func compileTime(format string, local bool) timeFormat {
	if format == "" {
		if local {
			return timeFormat{layout("2006-01-02T15:04:05.000-0700")}
		}
		return timeFormat{layout("2006-01-02T15:04:05.000Z")}
	}
	var f timeFormat
	for format != "" {
		i := strings.IndexByte(format, '%')
		if i != 0 {
			if i < 0 {
				i = len(format)
			}
			f = append(f, verbatim(format[:i]))
			format = format[i:]
			continue
		}
		step, n := conversion(format)
		f = append(f, step)
		format = format[n:]
	}
	return f
}

func verbatim(s string) func([]byte, time.Time) []byte {
	return func(dst []byte, _ time.Time) []byte { return append(dst, s...) }
}

func layout(l string) func([]byte, time.Time) []byte {
	return func(dst []byte, t time.Time) []byte { return t.AppendFormat(dst, l) }
}

// conversion compiles the conversion with which s begins, and returns its length.
func conversion(s string) (func([]byte, time.Time) []byte, int) {
	if len(s) < 2 {
		return verbatim(s), len(s)
	}
	switch c := s[1]; {
	case '1' <= c && c <= '9' && len(s) > 2 && s[2] == 'f':
		return fraction(int(c - '0')), 3
	case '1' <= c && c <= '9' && len(s) > 2 && s[2] == 's':
		return unix, 3
	case c == '*' && len(s) > 2 && s[2] == 'f':
		return fraction(0), 3
	case c == 'f':
		return fraction(9), 2
	case c == 'E' || c == 'O':
		return modified(s)
	}
	if step := simple(s[1]); step != nil {
		return step, 2
	}
	return verbatim(s[:2]), 2
}

// modified compiles %E and %O conversions.
func modified(s string) (func([]byte, time.Time) []byte, int) {
	rest := s[2:]
	for _, m := range [...]struct {
		text string
		step func([]byte, time.Time) []byte
	}{
		{"*S", seconds(0)}, {"*f", fraction(0)}, {"*z", layout("-07:00:00")}, {"z", layout("-07:00")},
		{"4Y", layout("2006")}, {"T", verbatim("T")},
	} {
		if s[1] == 'E' && strings.HasPrefix(rest, m.text) {
			return m.step, 2 + len(m.text)
		}
	}
	if s[1] == 'E' && len(rest) > 1 && '0' <= rest[0] && rest[0] <= '9' {
		switch n := int(rest[0] - '0'); {
		case rest[1] == 'S' && n == 0:
			return layout("05"), 4
		case rest[1] == 'S':
			return seconds(n), 4
		case rest[1] == 'f' && n > 0:
			return fraction(n), 4
		}
	}
	// The other modifiers ask for a locale's variant, which in the C locale is the plain one.
	if rest != "" && strings.IndexByte("cCxXyYdeHImMSuUVwW", rest[0]) >= 0 && !(s[1] == 'E' && strings.IndexByte("cCxXyY", rest[0]) < 0) {
		return simple(rest[0]), 3
	}
	return verbatim(s[:2]), 2
}

func simple(c byte) func([]byte, time.Time) []byte {
	if l, ok := goLayout(c); ok {
		return layout(l)
	}
	switch c {
	case '%':
		return verbatim("%")
	case 't':
		return verbatim("\t")
	case 's':
		return unix
	case 'C':
		return padded('0', 2, func(t time.Time) int { return t.Year() / 100 })
	case 'g':
		return padded('0', 2, func(t time.Time) int { y, _ := t.ISOWeek(); return y % 100 })
	case 'G':
		return padded('0', 4, func(t time.Time) int { y, _ := t.ISOWeek(); return y })
	case 'V':
		return padded('0', 2, func(t time.Time) int { _, w := t.ISOWeek(); return w })
	case 'u':
		return padded('0', 1, func(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 })
	case 'w':
		return padded('0', 1, func(t time.Time) int { return int(t.Weekday()) })
	case 'U':
		return padded('0', 2, func(t time.Time) int { return (t.YearDay() + 6 - int(t.Weekday())) / 7 })
	case 'W':
		return padded('0', 2, func(t time.Time) int { return (t.YearDay() + 6 - (int(t.Weekday())+6)%7) / 7 })
	case 'k':
		return padded(' ', 2, func(t time.Time) int { return t.Hour() })
	case 'l':
		return padded(' ', 2, func(t time.Time) int { return (t.Hour()+11)%12 + 1 })
	}
	return nil
}

// goLayout returns the layout of package time for a conversion.
func goLayout(c byte) (string, bool) {
	switch c {
	case 'a':
		return "Mon", true
	case 'A':
		return "Monday", true
	case 'b', 'h':
		return "Jan", true
	case 'B':
		return "January", true
	case 'c':
		return "Mon Jan _2 15:04:05 2006", true
	case 'd':
		return "02", true
	case 'D', 'x':
		return "01/02/06", true
	case 'e':
		return "_2", true
	case 'F':
		return "2006-01-02", true
	case 'H':
		return "15", true
	case 'I':
		return "03", true
	case 'j':
		return "002", true
	case 'm':
		return "01", true
	case 'M':
		return "04", true
	case 'p':
		return "PM", true
	case 'P':
		return "pm", true
	case 'r':
		return "03:04:05 PM", true
	case 'R':
		return "15:04", true
	case 'S':
		return "05", true
	case 'T', 'X':
		return "15:04:05", true
	case 'y':
		return "06", true
	case 'Y':
		return "2006", true
	case 'z':
		return "-0700", true
	case 'Z':
		return "MST", true
	}
	return "", false
}

func unix(dst []byte, t time.Time) []byte { return strconv.AppendInt(dst, t.Unix(), 10) }

func padded(with byte, width int, get func(time.Time) int) func([]byte, time.Time) []byte {
	return func(dst []byte, t time.Time) []byte {
		n := get(t)
		for limit := 10; width > 1 && limit < pow10(width); limit *= 10 {
			if n < limit {
				dst = append(dst, with)
			}
		}
		return strconv.AppendInt(dst, int64(n), 10)
	}
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}

// fraction prints n digits of the fraction of the second, all that matter for 0.
func fraction(n int) func([]byte, time.Time) []byte {
	return func(dst []byte, t time.Time) []byte {
		start := len(dst)
		ns := t.Nanosecond()
		for div := 100_000_000; div > 0; div /= 10 {
			dst = append(dst, byte('0'+ns/div%10))
		}
		if n > 0 {
			return dst[:start+n]
		}
		for len(dst) > start+1 && dst[len(dst)-1] == '0' {
			dst = dst[:len(dst)-1]
		}
		return dst
	}
}

// seconds prints the second with n digits of its fraction, all that matter for 0.
func seconds(n int) func([]byte, time.Time) []byte {
	tail := fraction(n)
	return func(dst []byte, t time.Time) []byte {
		dst = t.AppendFormat(dst, "05")
		if n == 0 && t.Nanosecond() == 0 {
			return dst
		}
		return tail(append(dst, '.'), t)
	}
}
