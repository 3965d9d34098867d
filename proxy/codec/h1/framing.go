package h1

import "github.com/mecha-mesh/mecha/proxy/header"

// framing is how the end of a body is found.
type framing uint8

const (
	noBody     framing = iota
	byLength           // a known number of bytes
	byChunks           // chunked
	untilClose         // the end of the connection
	raw                // not messages any more: after an upgrade or CONNECT
)

// requestFraming tells how long the body of a request is (RFC 9112 6.3).
func (f *fields) requestFraming(m *header.Map, v Version, o *ServerOptions) (framing, int64, error) {
	connect := m.Value(header.Method) == "CONNECT"
	if f.coding != codingNone {
		switch {
		case f.length >= 0 && !(o.AllowChunkedLength && f.coding == codingChunked):
			return noBody, 0, refuse(400, detailsCLAndTE, "both content-length and transfer-encoding")
		case f.coding != codingChunked || connect:
			return noBody, 0, refuse(501, detailsTE, "transfer-encoding other than chunked")
		case v != HTTP11:
			return noBody, 0, refuse(400, detailsTE, "transfer-encoding in HTTP/1.0")
		}
		m.DelID(header.ContentLength)
		return byChunks, 0, nil
	}
	switch {
	case f.length > 0 && connect:
		return noBody, 0, refuse(400, detailsBody, "CONNECT with a body")
	case f.length > 0:
		return byLength, f.length, nil
	case connect:
		m.DelID(header.ContentLength)
	}
	return noBody, 0, nil
}

// responseFraming tells how long the body of a response is, given what was asked
// for (RFC 9112 6.3).
func (f *fields) responseFraming(m *header.Map, status int, v Version, q asked, o *ClientOptions) (framing, int64, error) {
	switch {
	case status < 200 || status == 204:
		if f.coding != codingNone {
			return noBody, 0, refuse(502, detailsTENotAllowed, "transfer-encoding in a 1xx or 204 response")
		}
		if f.length > 0 {
			return noBody, 0, refuse(502, detailsCLNotAllowed, "content-length in a 1xx or 204 response")
		}
		m.DelID(header.ContentLength)
		return noBody, 0, nil
	case q == askedConnect && status < 300:
		if f.coding != codingNone {
			return noBody, 0, refuse(502, detailsTE, "transfer-encoding in the answer to CONNECT")
		}
		m.DelID(header.ContentLength)
		return raw, 0, nil
	}
	if f.coding != codingNone {
		switch {
		case f.length >= 0 && !(o.AllowChunkedLength && f.coding == codingChunked):
			return noBody, 0, refuse(502, detailsCLAndTE, "both content-length and transfer-encoding")
		case f.coding != codingChunked:
			return noBody, 0, refuse(502, detailsTE, "transfer-encoding other than chunked")
		case v != HTTP11:
			return noBody, 0, refuse(502, detailsTE, "transfer-encoding in HTTP/1.0")
		}
		m.DelID(header.ContentLength)
	}
	switch {
	case q == askedHead || status == 304 || f.length == 0:
		return noBody, 0, nil
	case f.coding == codingChunked:
		return byChunks, 0, nil
	case f.length > 0:
		return byLength, f.length, nil
	}
	return untilClose, 0, nil
}

// asked is what the response to a request depends on.
type asked uint8

const (
	askedOther asked = iota
	askedHead
	askedConnect
)

func askedBy(method string) asked {
	switch method {
	case "HEAD":
		return askedHead
	case "CONNECT":
		return askedConnect
	}
	return askedOther
}
