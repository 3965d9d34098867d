package l7

import "github.com/mecha-mesh/mecha/proxy/header"

// grpcReply makes of a local reply what a gRPC client understands: a head that is a
// trailer, too, with the status in it and the body for a message.
func (st *stream) grpcReply(status, code int, body string) {
	m := &st.Response
	m.SetID(header.Status, "200")
	m.SetID(header.ContentType, "application/grpc")
	if status == 0 {
		status = grpcStatus(code)
	}
	m.SetInt(header.GrpcStatus, int64(status))
	if body != "" && !st.head {
		m.SetID(header.GrpcMessage, m.Format(func(dst []byte) []byte { return appendPercent(dst, body) }))
	}
}

// grpcStatus is the status that goes with an HTTP code
// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
func grpcStatus(code int) int {
	switch code {
	case 400:
		return 13 // internal
	case 401:
		return 16 // unauthenticated
	case 403:
		return 7 // permission denied
	case 404:
		return 12 // unimplemented
	case 429, 502, 503, 504:
		return 14 // unavailable
	}
	return 2 // unknown
}

// appendPercent appends text as grpc-message carries it: what is not printable ASCII, and
// the percent sign, in hexadecimal.
func appendPercent(dst []byte, text string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= '~' || c == '%' {
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
