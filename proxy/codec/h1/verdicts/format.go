package verdicts

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Rewrite returns the corpus file text with the verdict of each case that got
// names replaced; every other line stays as it was written by hand.
func Rewrite(text []byte, got map[string]Verdict) []byte {
	var out bytes.Buffer
	name, pending := "", false
	flush := func() {
		if v, ok := got[name]; ok && pending {
			out.WriteString(v.String())
		}
		pending = false
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		key, rest, _ := strings.Cut(line, " ")
		switch {
		case key == "case":
			flush()
			name, pending = rest, true
		case line == "" || key == "differs":
			flush()
		case pending && recorded(key):
			if _, ok := got[name]; ok {
				continue
			}
		}
		out.WriteString(line + "\n")
	}
	flush()
	return out.Bytes()
}

// recorded tells whether a line with this key word belongs to the recorder.
func recorded(key string) bool {
	switch key {
	case "conn", "log", "answer", "upstream", "rest", "upstream-rest", "=", "+", "incomplete":
		return true
	}
	return strings.HasPrefix(key, "|")
}

// String writes the verdict as the corpus has it, one fact a line.
func (v Verdict) String() string {
	var out strings.Builder
	state := "open"
	if v.Closed {
		state = "closed"
	}
	fmt.Fprintf(&out, "conn %s\n", state)
	for _, e := range v.Log {
		fmt.Fprintf(&out, "log %s %s %s\n", e.Status, e.Flags, e.Details)
	}
	for i := range v.Answers {
		formatMessage(&out, "answer", &v.Answers[i])
	}
	if len(v.Rest) > 0 {
		fmt.Fprintf(&out, "rest %s\n", quote(v.Rest))
	}
	for i := range v.Upstream {
		formatMessage(&out, "upstream", &v.Upstream[i])
	}
	if len(v.UpRest) > 0 {
		fmt.Fprintf(&out, "upstream-rest %s\n", quote(v.UpRest))
	}
	return out.String()
}

// formatMessage writes the start line, then "|" lines for fields, "=" for the
// body, "+" for trailers. Equal neighbours among the fields share a line.
func formatMessage(out *strings.Builder, key string, m *Message) {
	fmt.Fprintf(out, "%s %s\n", key, quote([]byte(m.Start)))
	for i := 0; i < len(m.Fields); {
		n := 1
		for i+n < len(m.Fields) && m.Fields[i+n] == m.Fields[i] {
			n++
		}
		bar := "|"
		if n > 1 {
			bar += strconv.Itoa(n)
		}
		fmt.Fprintf(out, "%s %s\n", bar, quote([]byte(m.Fields[i])))
		i += n
	}
	if len(m.Body) > 0 {
		fmt.Fprintf(out, "= %s\n", quote(m.Body))
	}
	for _, t := range m.Trailers {
		fmt.Fprintf(out, "+ %s\n", quote([]byte(t)))
	}
	if m.Incomplete {
		out.WriteString("incomplete\n")
	}
}
