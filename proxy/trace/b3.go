package trace

import (
	"encoding/hex"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// The fields of B3 (https://github.com/openzipkin/b3-propagation).
const (
	b3Single  = "b3"
	b3TraceID = "x-b3-traceid"
	b3SpanID  = "x-b3-spanid"
	b3Parent  = "x-b3-parentspanid"
	b3Sampled = "x-b3-sampled"
)

// decision is what a request says of being sampled.
type decision uint8

const (
	undecided decision = iota
	unsampled
	sampled
)

func decided(yes bool) decision {
	if yes {
		return sampled
	}
	return unsampled
}

// b3Context is what B3 fields say.
type b3Context struct {
	Context
	found  bool // there is a context, not only a decision
	single bool
	wide   bool
	d      decision
}

// parseB3 reads the B3 fields of a request. It returns false where they say nothing that
// makes sense.
func parseB3(m *header.Map) (c b3Context, ok bool) {
	if text, there := m.Find(b3Single); there {
		c.single = true
		return c, c.parseSingle(text)
	}
	if text, there := m.Find(b3Sampled); there {
		c.d = decided(text == "1" || text == "true")
	}
	trace, hasTrace := m.Find(b3TraceID)
	span, hasSpan := m.Find(b3SpanID)
	if !hasTrace || !hasSpan {
		return c, true
	}
	c.found = true
	if !c.parseTrace(trace) || !decodeShort(c.ID[:], span) {
		return c, false
	}
	if parent := m.Get(b3Parent); parent != "" && !decodeShort(c.Parent[:], parent) {
		return c, false
	}
	return c, true
}

// parseTrace reads a trace ID of 128 or 64 bits.
func (c *b3Context) parseTrace(text string) bool {
	if c.wide = len(text) == 32; c.wide {
		return decode(c.TraceID[:], text)
	}
	return decodeShort(c.TraceID[8:], text)
}

// decodeShort decodes up to twice as many digits as there is room for.
func decodeShort(into []byte, text string) bool {
	var full [16]byte
	if len(text) == 0 || len(text) > 2*len(into) {
		return false
	}
	for i := range full {
		full[i] = '0'
	}
	copy(full[16-len(text):], text)
	return decode(into, string(full[16-2*len(into):]))
}

// parseSingle reads {trace}-{span}[-{sampled}[-{parent}]], or {sampled} alone.
func (c *b3Context) parseSingle(text string) bool {
	if len(text) == 1 {
		return c.flag(text)
	}
	c.found = true
	trace, rest, _ := strings.Cut(text, "-")
	span, rest, _ := strings.Cut(rest, "-")
	if len(trace) != 16 && len(trace) != 32 || !c.parseTrace(trace) || !decode(c.ID[:], span) {
		return false
	}
	flag, parent, more := strings.Cut(rest, "-")
	if rest == "" {
		return !strings.HasSuffix(text, "-")
	}
	return c.flag(flag) && (!more || decode(c.Parent[:], parent))
}

func (c *b3Context) flag(text string) bool {
	switch text {
	case "0":
		c.d = unsampled
	case "1", "d":
		c.d = sampled
	default:
		return false
	}
	return true
}

// injectB3 writes the span into a request, in the form in which the request has come.
func (s *Span) injectB3(m *header.Map) {
	flag := "0"
	if s.Sampled {
		flag = "1"
	}
	if s.b3 {
		m.Set(b3Single, m.Format(func(dst []byte) []byte {
			dst = s.AppendID(append(s.AppendTraceID(dst), '-'))
			dst = append(append(dst, '-'), flag...)
			if s.Parent != [8]byte{} {
				dst = hex.AppendEncode(append(dst, '-'), s.Parent[:])
			}
			return dst
		}))
		return
	}
	m.Set(b3TraceID, m.Format(s.AppendTraceID))
	m.Set(b3SpanID, m.Format(s.AppendID))
	if s.Parent != [8]byte{} {
		m.Set(b3Parent, m.Format(func(dst []byte) []byte { return hex.AppendEncode(dst, s.Parent[:]) }))
	}
	m.Set(b3Sampled, flag)
}
