//go:build oracle

package verdicts

import (
	"bytes"
	"strconv"
	"strings"
)

// framing says how the body of message i with this start line ends.
type rules func(i int, start string) framing

type framing int

const (
	byFields framing = iota // Content-Length or chunked
	noBody
	tunnel // everything after the head is opaque
)

// requestRules frames what a proxy sends upstream.
func requestRules(_ int, start string) framing {
	if strings.HasPrefix(start, "CONNECT ") {
		return tunnel
	}
	return byFields
}

// answerRules frames what a client receives for the case's requests.
func answerRules(c *Case) rules {
	head := bytes.HasPrefix(bytes.TrimLeft(c.Payload(), "\r\n"), []byte("HEAD "))
	connect := bytes.HasPrefix(c.Payload(), []byte("CONNECT "))
	return func(_ int, start string) framing {
		code := statusOf(start)
		switch {
		case code == 101, connect && code/100 == 2:
			return tunnel
		case head, code/100 == 1, code == 204, code == 304:
			return noBody
		}
		return byFields
	}
}

// messages splits a byte stream as a plain reader would. What is no message, and
// what follows a message without framing, is rest.
func messages(b []byte, how rules) (out []Message, rest []byte) {
	for len(b) > 0 {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			return out, b
		}
		lines := strings.Split(string(b[:end]), "\r\n")
		m := Message{Start: lines[0]}
		b = b[end+4:]
		length, chunked := 0, false
		for _, f := range lines[1:] {
			name, value, _ := strings.Cut(f, ":")
			name, value = strings.ToLower(name), strings.TrimSpace(value)
			if Dropped(name) {
				continue
			}
			m.Fields = append(m.Fields, f)
			switch name {
			case "content-length":
				length, _ = strconv.Atoi(value)
			case "transfer-encoding":
				chunked = strings.EqualFold(value, "chunked")
			}
		}
		switch f := how(len(out), m.Start); {
		case f == tunnel:
			return append(out, m), b
		case f == noBody:
		case chunked:
			b = m.chunks(b)
		default:
			n := min(length, len(b))
			m.Body, b, m.Incomplete = b[:n], b[n:], n < length
		}
		if len(m.Body) == 0 {
			m.Body = nil
		}
		out = append(out, m)
	}
	return out, nil
}

// chunks reads a chunked body and returns what follows it.
func (m *Message) chunks(b []byte) []byte {
	m.Incomplete = true
	m.Body = nil
	for {
		line, after, ok := bytes.Cut(b, []byte("\r\n"))
		size, err := strconv.ParseUint(string(line), 16, 31)
		if !ok || err != nil {
			return b
		}
		if size == 0 {
			return m.trailers(after, b)
		}
		n := min(int(size), len(after))
		m.Body = append(m.Body, after[:n]...)
		if b = after[n:]; !bytes.HasPrefix(b, []byte("\r\n")) {
			return b
		}
		b = b[2:]
	}
}

// trailers reads the trailer section at after; without its end, from stays unread.
func (m *Message) trailers(after, from []byte) []byte {
	for {
		line, next, ok := bytes.Cut(after, []byte("\r\n"))
		if !ok {
			return from
		}
		after = next
		if len(line) == 0 {
			m.Incomplete = false
			return after
		}
		m.Trailers = append(m.Trailers, string(line))
	}
}
