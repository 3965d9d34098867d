package trace

import (
	"encoding/hex"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// The fields of W3C Trace Context (https://www.w3.org/TR/trace-context/). Baggage passes by.
const tracestate = "tracestate"

const traceparentLen = 55 // 00-<32 digits>-<16 digits>-<2 digits>

// parseTraceparent reads a traceparent field. As in Envoy, any version is read as 00 if it
// is as long, and digits may be capital letters.
func parseTraceparent(text string) (c Context, ok bool) {
	if len(text) != traceparentLen || text[2] != '-' || text[35] != '-' || text[52] != '-' {
		return c, false
	}
	var version, flags [1]byte
	for _, part := range []struct {
		into []byte
		text string
	}{{version[:], text[:2]}, {c.TraceID[:], text[3:35]}, {c.ID[:], text[36:52]}, {flags[:], text[53:]}} {
		if !decode(part.into, part.text) {
			return Context{}, false
		}
	}
	c.Sampled = flags[0]&1 != 0
	return c, c.TraceID != [16]byte{} && c.ID != [8]byte{}
}

// decode decodes hexadecimal digits, twice as many as there is room for.
func decode(into []byte, text string) bool {
	if len(text) != 2*len(into) {
		return false
	}
	for i := range into {
		hi, lo := digit(text[2*i]), digit(text[2*i+1])
		if hi|lo > 15 {
			return false
		}
		into[i] = hi<<4 | lo
	}
	return true
}

func digit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 0xff
}

// injectW3C writes traceparent.
func injectW3C(c *Context, m *header.Map) {
	text := [traceparentLen]byte{0: '0', 1: '0', 2: '-', 35: '-', 52: '-', 53: '0', 54: '0'}
	hex.Encode(text[3:], c.TraceID[:])
	hex.Encode(text[36:], c.ID[:])
	if c.Sampled {
		text[54] = '1'
	}
	m.SetID(header.Traceparent, m.Copy(text[:]))
}
