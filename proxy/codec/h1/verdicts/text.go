package verdicts

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// The escapes of the corpus: \r \n \t \\ \xHH, and \(TEXT*N) for TEXT repeated N
// times (TEXT may hold escapes, not repetitions). All other printable ASCII
// stands for itself.

// maxRepeat bounds what one \(TEXT*N) may write.
const maxRepeat = 1 << 22

// unescape returns the bytes s stands for.
func unescape(s string) ([]byte, error) {
	var out []byte
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			out = append(out, s[i])
			i++
			continue
		}
		if i+1 == len(s) {
			return nil, fmt.Errorf("a lone \\ at the end of %q", s)
		}
		if s[i+1] == '(' {
			text, n, err := repetition(s[i:])
			if err != nil {
				return nil, err
			}
			out = append(out, text...)
			i += n
			continue
		}
		c, n, err := escape(s[i:])
		if err != nil {
			return nil, err
		}
		out = append(out, c)
		i += n
	}
	return out, nil
}

// escape reads one single-byte escape at the start of s and says how long it is.
func escape(s string) (c byte, n int, err error) {
	switch s[1] {
	case 'r':
		return '\r', 2, nil
	case 'n':
		return '\n', 2, nil
	case 't':
		return '\t', 2, nil
	case '\\':
		return '\\', 2, nil
	case 'x':
		if len(s) >= 4 {
			if v, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
				return byte(v), 4, nil
			}
		}
	}
	return 0, 0, fmt.Errorf("unknown escape in %q", s[:min(len(s), 8)])
}

// repetition reads \(TEXT*N) at the start of s and says how long it is.
func repetition(s string) (text []byte, n int, err error) {
	end := strings.IndexByte(s, ')')
	star := -1
	if end > 0 {
		star = strings.LastIndexByte(s[:end], '*')
	}
	if star < 2 {
		return nil, 0, fmt.Errorf("want \\(TEXT*N) at %q", s[:min(len(s), 16)])
	}
	count, err := strconv.Atoi(s[star+1 : end])
	if err != nil || count < 0 {
		return nil, 0, fmt.Errorf("not a count: %q", s[star+1:end])
	}
	one, err := unescape(s[2:star])
	if err != nil {
		return nil, 0, err
	}
	if len(one)*count > maxRepeat {
		return nil, 0, fmt.Errorf("%q is longer than %d bytes", s[:end+1], maxRepeat)
	}
	return bytes.Repeat(one, count), end + 1, nil
}

// minRun is how often a byte must repeat before quote writes it as \(c*N).
const minRun = 32

// quote writes b with the escapes unescape reads, on one line.
func quote(b []byte) string {
	var out strings.Builder
	for i := 0; i < len(b); {
		run := 1
		for i+run < len(b) && b[i+run] == b[i] {
			run++
		}
		one := quoteByte(b[i])
		if run >= minRun && b[i] != ')' && b[i] != '*' {
			fmt.Fprintf(&out, `\(%s*%d)`, one, run)
			i += run
			continue
		}
		out.WriteString(one)
		i++
	}
	s := out.String()
	if strings.HasSuffix(s, " ") { // editors strip trailing blanks
		s = s[:len(s)-1] + `\x20`
	}
	return s
}

func quoteByte(c byte) string {
	switch {
	case c == '\r':
		return `\r`
	case c == '\n':
		return `\n`
	case c == '\t':
		return `\t`
	case c == '\\':
		return `\\`
	case c < ' ' || c > '~':
		return fmt.Sprintf(`\x%02x`, c)
	}
	return string(rune(c))
}
