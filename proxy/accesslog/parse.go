package accesslog

import (
	"fmt"
	"strconv"
	"strings"
)

// command is one "%NAME(args):max%" of a format.
type command struct {
	name    string
	args    string
	hasArgs bool
	max     int // bytes; -1 for no limit
}

// piece is either literal text or an operator.
type piece struct {
	text string
	op   *operator
}

// parse cuts a format into pieces; neighbouring text is one piece.
func parse(format string) ([]piece, error) {
	var pieces []piece
	var text strings.Builder
	for i := 0; i < len(format); {
		if format[i] != '%' {
			next := strings.IndexByte(format[i:], '%')
			if next < 0 {
				next = len(format) - i
			}
			text.WriteString(format[i : i+next])
			i += next
			continue
		}
		if strings.HasPrefix(format[i:], "%%") {
			text.WriteByte('%')
			i += 2
			continue
		}
		cmd, n := scanCommand(format[i:])
		if n == 0 {
			return nil, fmt.Errorf("accesslog: format: no valid command at position %d: %q", i, shorten(format[i:]))
		}
		op, err := newOperator(cmd)
		if err != nil {
			return nil, fmt.Errorf("accesslog: format: position %d: %w", i, err)
		}
		if text.Len() > 0 {
			pieces = append(pieces, piece{text: text.String()})
			text.Reset()
		}
		pieces = append(pieces, piece{op: op})
		i += n
	}
	if text.Len() > 0 {
		pieces = append(pieces, piece{text: text.String()})
	}
	return pieces, nil
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// scanCommand reads the command with which s begins and returns its length, 0 if
// there is none. Arguments end at the first ")" after which the command can end, so
// that they may contain parentheses and percent signs.
func scanCommand(s string) (command, int) {
	cmd := command{max: -1}
	i := 1
	for i < len(s) && (s[i] == '_' || 'A' <= s[i] && s[i] <= 'Z' || '0' <= s[i] && s[i] <= '9') {
		i++
	}
	if cmd.name = s[1:i]; cmd.name == "" {
		return cmd, 0
	}
	if i < len(s) && s[i] == '(' {
		for end := i + 1; end < len(s); end++ {
			if s[end] != ')' {
				continue
			}
			if max, n := scanEnd(s[end+1:]); n > 0 {
				cmd.args, cmd.hasArgs, cmd.max = s[i+1:end], true, max
				return cmd, end + 1 + n
			}
		}
		return cmd, 0
	}
	max, n := scanEnd(s[i:])
	if n == 0 {
		return cmd, 0
	}
	cmd.max = max
	return cmd, i + n
}

// scanEnd reads ":max%" or "%" and returns the length of that, 0 if it is not there.
func scanEnd(s string) (max, n int) {
	max = -1
	i := 0
	if strings.HasPrefix(s, ":") {
		for i = 1; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
		}
		v, err := strconv.Atoi(s[1:i])
		if err != nil {
			return 0, 0
		}
		max = v
	}
	if i < len(s) && s[i] == '%' {
		return max, i + 1
	}
	return 0, 0
}
