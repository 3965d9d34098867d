package h1

import (
	"errors"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

var errBadTarget = errors.New("h1: :method, :path or :authority is missing or has characters that would break the request line")

// writeRequest appends the head of a request to what is held back.
func (w *writer) writeRequest(m *header.Map, end, proper bool) (asked, error) {
	if w.headed {
		return 0, errTwoHeads
	}
	method, target, host := m.Value(header.Method), m.Value(header.Path), m.Value(header.Authority)
	q := askedBy(method)
	if q == askedConnect {
		target = host
	}
	if !codec.IsToken(method) || target == "" || strings.IndexByte(target, ' ') >= 0 {
		return q, errBadTarget
	}
	length, known, err := w.declared(m, end)
	if err != nil {
		return q, err
	}
	upgrade := codec.IsUpgrade(m)
	h := headWriter{proper: proper}
	h.open(&w.out, m, 96+len(target))
	h.str(method)
	h.str(" ")
	h.str(target)
	h.str(" HTTP/1.1")
	h.crlf()
	if m.Has(header.Authority) {
		h.line("host", host)
	}
	for f := range m.Fields() {
		if f.Name[0] == ':' || connectionField(f.ID) && !(upgrade && keptOnUpgrade(f.ID)) || f.ID == header.Host || f.ID == header.ContentLength && q == askedConnect {
			continue
		}
		h.field(f)
	}
	w.left = length
	switch {
	case q == askedConnect:
		w.framing = noBody // raw once the answer is 2xx
	case known:
		w.framing = byLength
	case end || upgrade:
		if w.framing = noBody; expectsBody(method) {
			h.line("content-length", "0")
		}
	default:
		w.framing = byChunks
		h.line("transfer-encoding", "chunked")
	}
	if wantsClose(m) && !upgrade {
		h.line("connection", "close")
	}
	h.crlf()
	n, err := h.close()
	if err != nil {
		return q, err
	}
	w.headed = true
	w.wire.Header += int64(n)
	w.done = end || w.framing == noBody
	return q, nil
}

// expectsBody reports whether, as in Envoy, a request of that method without a body says so
// with a Content-Length of 0 (RFC 9110 8.6).
func expectsBody(method string) bool {
	switch method {
	case "GET", "HEAD", "DELETE", "TRACE", "CONNECT":
		return false
	}
	return true
}
