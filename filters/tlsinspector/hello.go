package tlsinspector

import (
	"encoding/binary"
	"strings"
)

// hello is what a filter chain can be chosen by.
type hello struct {
	serverName string   // lower case, "" if the client names none
	alpn       []string // in the client's order
}

// verdict is what the first bytes of a connection are.
type verdict uint8

const (
	more     verdict = iota // cannot tell yet
	notTLS                  // no ClientHello
	tooLarge                // a ClientHello beyond the limit
	found
)

const (
	recordHeader    = 5
	handshakeHeader = 4
	recordHandshake = 22
	maxRecord       = 1 << 14
	clientHello     = 1

	extServerName = 0
	extALPN       = 16
)

// parse looks for a ClientHello (RFC 8446, sections 4.1.2 and 5.1) in the first
// bytes of a connection, which may be cut anywhere and into any records. With the
// verdict more, need tells how many bytes are needed to get further. limit bounds
// the bytes up to the end of the hello.
func parse(b []byte, limit int) (h hello, v verdict, need int) {
	msg, v, need := message(b, limit)
	if v != found {
		return h, v, need
	}
	if !h.read(msg) {
		return hello{}, notTLS, 0
	}
	return h, found, 0
}

// message returns the body of the handshake message in b, copied together if it
// spans records.
func message(b []byte, limit int) (body []byte, v verdict, need int) {
	var joined []byte
	at := 0
	for first := true; ; first = false { // one record each
		if v, need = record(b[at:]); v != found {
			return nil, v, at + need
		}
		size := int(binary.BigEndian.Uint16(b[at+3:]))
		end := at + recordHeader + size
		piece := b[at+recordHeader : min(end, len(b))]
		if first {
			joined = piece[:len(piece):len(piece)] // b is lent: the first append copies
		} else {
			joined = append(joined, piece...)
		}
		total, known := messageSize(joined)
		switch {
		case len(joined) > 0 && joined[0] != clientHello:
			return nil, notTLS, 0
		case known && total-len(joined) > limit-min(end, len(b)):
			return nil, tooLarge, 0
		case known && len(joined) >= total:
			return joined[handshakeHeader:total], found, 0
		case end > len(b): // the record goes on
			if !known {
				total = handshakeHeader
			}
			return nil, more, min(end, len(b)+total-len(joined))
		}
		if at = end; at+recordHeader > limit {
			return nil, tooLarge, 0
		}
	}
}

// record tells whether b begins with the header of a handshake record.
func record(b []byte) (v verdict, need int) {
	switch {
	case len(b) > 0 && b[0] != recordHandshake, len(b) > 1 && b[1] != 3:
		return notTLS, 0
	case len(b) < recordHeader:
		return more, recordHeader
	}
	if n := binary.BigEndian.Uint16(b[3:]); n == 0 || n > maxRecord {
		return notTLS, 0
	}
	return found, 0
}

// messageSize returns the length of the handshake message with its header.
func messageSize(b []byte) (n int, known bool) {
	if len(b) < handshakeHeader {
		return 0, false
	}
	return handshakeHeader + int(b[1])<<16 + int(b[2])<<8 + int(b[3]), true
}

// reader takes a message apart; after the first field that is cut short ok is false
// and everything is empty.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) take(n int) []byte {
	if !r.ok || n > len(r.b) {
		r.b, r.ok = nil, false
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u8() int {
	if p := r.take(1); p != nil {
		return int(p[0])
	}
	return 0
}

func (r *reader) u16() int {
	if p := r.take(2); p != nil {
		return int(binary.BigEndian.Uint16(p))
	}
	return 0
}

// read takes the body of a ClientHello apart and reports whether it is well formed.
func (h *hello) read(body []byte) bool {
	r := reader{body, true}
	r.take(2 + 32)     // legacy_version, random
	r.take(r.u8())     // legacy_session_id
	ciphers := r.u16() // cipher_suites
	r.take(ciphers)
	r.take(r.u8()) // legacy_compression_methods
	if !r.ok || ciphers%2 != 0 {
		return false
	}
	if len(r.b) == 0 {
		return true // SSL 3.0 and TLS 1.0 knew no extensions
	}
	ext := reader{r.take(r.u16()), r.ok}
	if !r.ok || len(r.b) > 0 {
		return false
	}
	seen := [2]bool{}
	for len(ext.b) > 0 {
		kind := ext.u16()
		data := ext.take(ext.u16())
		if !ext.ok {
			return false
		}
		ok := true
		switch kind {
		case extServerName:
			ok = !seen[0] && h.readServerName(data)
			seen[0] = true
		case extALPN:
			ok = !seen[1] && h.readALPN(data)
			seen[1] = true
		}
		if !ok {
			return false
		}
	}
	return true
}

// readServerName reads a ServerNameList (RFC 6066, section 3).
func (h *hello) readServerName(data []byte) bool {
	r := reader{data, true}
	list := reader{r.take(r.u16()), true}
	if !r.ok || len(r.b) > 0 || len(list.b) == 0 {
		return false
	}
	for len(list.b) > 0 {
		kind := list.u8()
		name := list.take(list.u16())
		if !list.ok {
			return false
		}
		if kind != 0 {
			continue
		}
		if h.serverName != "" || len(name) == 0 || len(name) > 255 || strings.IndexByte(string(name), 0) >= 0 {
			return false
		}
		h.serverName = strings.ToLower(string(name))
	}
	return true
}

// readALPN reads a ProtocolNameList (RFC 7301, section 3.1).
func (h *hello) readALPN(data []byte) bool {
	r := reader{data, true}
	list := reader{r.take(r.u16()), true}
	if !r.ok || len(r.b) > 0 || len(list.b) == 0 {
		return false
	}
	for len(list.b) > 0 {
		name := list.take(list.u8())
		if len(name) == 0 {
			return false
		}
		h.alpn = append(h.alpn, string(name))
	}
	return true
}
