package h1

import "github.com/mecha-mesh/mecha/proxy/header"

// responseHead is what the head of a response depends on besides its fields.
type responseHead struct {
	asked     asked
	http10    bool // the client speaks 1.0: no chunks, no 1xx
	close     bool // the connection ends after this response
	keepAlive bool // a 1.0 client asked to keep the connection
	upgrade   bool // the request asked for an upgrade
	proper    bool
}

// writeResponse writes the head of a response; it reports whether the
// connection must be closed after it.
func (w *writer) writeResponse(m *header.Map, end bool, r responseHead) (closes bool, err error) {
	if w.headed {
		return true, errTwoHeads
	}
	status, ok := parseStatus(m.Value(header.Status))
	if !ok {
		return true, errBadStatus
	}
	if status < 200 && status != 101 {
		return r.close, w.writeInformational(m, status, r)
	}
	if status == 101 && !r.upgrade {
		return true, errNoUpgrade
	}
	bodiless := status == 204 || status == 304 || r.asked == askedHead
	length, known, err := w.declared(m, end && !bodiless)
	if err != nil {
		return true, err
	}
	switching := status == 101 || r.asked == askedConnect && status < 300
	// Who asked for a tunnel and is refused may have sent its first bytes already.
	r.close = r.close || wantsClose(m) || !switching && (r.upgrade || r.asked == askedConnect)
	h := headWriter{proper: r.proper}
	h.open(&w.out, m, 96)
	h.statusLine(status, r.http10)
	for f := range m.Fields() {
		if f.Name[0] == ':' || connectionField(f.ID) && !(switching && keptOnUpgrade(f.ID)) || f.ID == header.ContentLength && (switching || status == 204) {
			continue
		}
		h.field(f)
	}
	w.left = length
	fr, add := w.frameResponse(status, end, known, switching, r)
	if fr == untilClose && !end {
		r.close = true
	}
	switch {
	case switching:
	case r.close:
		h.line("connection", "close")
	case r.keepAlive && r.http10:
		h.line("connection", "keep-alive")
	}
	switch add {
	case byChunks:
		h.line("transfer-encoding", "chunked")
	case byLength:
		h.line("content-length", "0")
	}
	h.crlf()
	n, err := h.close()
	if err != nil {
		return true, err
	}
	w.headed, w.framing = true, fr
	w.wire.Header += int64(n)
	w.done = end && fr != raw
	return r.close, w.push()
}

// frameResponse tells how the body is framed and which framing field to add:
// byChunks, byLength for a length of 0, or none.
func (w *writer) frameResponse(status int, end, known, switching bool, r responseHead) (fr, add framing) {
	switch {
	case switching:
		return raw, noBody
	case status == 204 || status == 304:
		return noBody, noBody
	case r.asked == askedHead:
		if known || r.http10 {
			return noBody, noBody
		}
		return noBody, byChunks
	case known:
		return byLength, noBody
	case end:
		return byLength, byLength
	case r.http10:
		return untilClose, noBody
	}
	return byChunks, byChunks
}

// writeInformational writes a 1xx head, which a 1.0 client would not understand.
func (w *writer) writeInformational(m *header.Map, status int, r responseHead) error {
	if r.http10 {
		return nil
	}
	h := headWriter{proper: r.proper}
	h.open(&w.out, m, 96)
	h.statusLine(status, false)
	for f := range m.Fields() {
		if f.Name[0] != ':' && !connectionField(f.ID) && f.ID != header.ContentLength {
			h.field(f)
		}
	}
	h.crlf()
	n, err := h.close()
	if err != nil {
		return err
	}
	w.wire.Header += int64(n)
	return w.flush()
}

func (h *headWriter) statusLine(status int, http10 bool) {
	if http10 {
		h.str("HTTP/1.0 ")
	} else {
		h.str("HTTP/1.1 ")
	}
	h.p = append(h.p, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10), ' ')
	if h.spelled != nil && h.spelled.Reason() != nil {
		h.p = append(h.p, h.spelled.Reason()...)
	} else {
		h.str(reason(status))
	}
	h.crlf()
}

// connectionField reports whether a field is the connection's and so written by the codec only.
func connectionField(id header.ID) bool {
	switch id {
	case header.Connection, header.KeepAlive, header.ProxyConnection, header.TransferEncoding, header.Upgrade:
		return true
	}
	return false
}

func keptOnUpgrade(id header.ID) bool { return id == header.Connection || id == header.Upgrade }

// parseStatus parses a ":status" of three digits, at least 100.
func parseStatus(s string) (int, bool) {
	if len(s) != 3 {
		return 0, false
	}
	n, ok := ParseContentLength([]byte(s))
	return int(n), ok && n >= 100
}
