package h1

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/codec/h1/verdicts"
)

// splitter cuts a byte stream into messages the way a plain reader would, by code
// that shares nothing with the codec.
type splitter struct {
	request bool
	methods []string // of the requests that the answers are for
}

func (s *splitter) split(b []byte) (out []verdicts.Message, rest []byte) {
	final := 0
	for len(b) > 0 {
		head, after, ok := bytes.Cut(b, []byte("\r\n\r\n"))
		if !ok {
			return out, b
		}
		lines := strings.Split(string(head), "\r\n")
		m := verdicts.Message{Start: lines[0]}
		length, chunked := 0, false
		for _, f := range lines[1:] {
			name, value, _ := strings.Cut(f, ":")
			if verdicts.Dropped(name) {
				continue
			}
			m.Fields = append(m.Fields, f)
			switch value = strings.TrimSpace(value); strings.ToLower(name) {
			case "content-length":
				length, _ = strconv.Atoi(value)
			case "transfer-encoding":
				chunked = strings.EqualFold(value, "chunked")
			}
		}
		tunnel, bodiless := s.kind(m.Start, final)
		if !s.request && !strings.HasPrefix(m.Start[len("HTTP/1.x"):], " 1") {
			final++
		}
		switch {
		case tunnel:
			return append(out, m), after
		case bodiless:
			b = after
		case chunked:
			b = splitChunks(&m, after)
		default:
			n := min(length, len(after))
			m.Body, b, m.Incomplete = after[:n], after[n:], n < length
		}
		if len(m.Body) == 0 {
			m.Body = nil
		}
		out = append(out, m)
	}
	return out, nil
}

func (s *splitter) kind(start string, final int) (tunnel, bodiless bool) {
	if s.request {
		return strings.HasPrefix(start, "CONNECT "), false
	}
	method := ""
	if final < len(s.methods) {
		method = s.methods[final]
	}
	code := start[len("HTTP/1.x "):]
	switch {
	case strings.HasPrefix(code, "101"), method == "CONNECT" && code[0] == '2':
		return true, false
	case method == "HEAD", code[0] == '1', strings.HasPrefix(code, "204"), strings.HasPrefix(code, "304"):
		return false, true
	}
	return false, false
}

func splitChunks(m *verdicts.Message, b []byte) []byte {
	m.Incomplete = true
	for {
		line, after, ok := bytes.Cut(b, []byte("\r\n"))
		size, err := strconv.ParseUint(string(line), 16, 31)
		if !ok || err != nil {
			return b
		}
		if size == 0 {
			return splitTrailers(m, after, b)
		}
		n := min(int(size), len(after))
		m.Body = append(m.Body, after[:n]...)
		if b = after[n:]; !bytes.HasPrefix(b, []byte("\r\n")) {
			return b
		}
		b = b[2:]
	}
}

func splitTrailers(m *verdicts.Message, b, from []byte) []byte {
	for {
		line, after, ok := bytes.Cut(b, []byte("\r\n"))
		if !ok {
			return from
		}
		b = after
		if len(line) == 0 {
			m.Incomplete = false
			return b
		}
		m.Trailers = append(m.Trailers, string(line))
	}
}
