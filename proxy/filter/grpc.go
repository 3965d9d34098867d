package filter

import (
	"encoding/binary"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// IsGRPC reports whether a message is gRPC by its content type.
func IsGRPC(m *header.Map) bool {
	if !m.Has(header.ContentType) {
		return false
	}
	rest, ok := strings.CutPrefix(m.Value(header.ContentType), "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}

// IsGRPCResponse reports whether a response is gRPC: one that ends with its head has a status.
func IsGRPCResponse(m *header.Map, end bool) bool {
	if end {
		return m.Has(header.GrpcStatus)
	}
	return m.StatusCode() == 200 && IsGRPC(m)
}

// GRPCPrefix is how many bytes there are before each gRPC message: flags and length
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
const GRPCPrefix = 5

// PrependGRPC makes b, to which more bytes will be added, a gRPC message that is not
// compressed.
func PrependGRPC(b *buffer.Buf, more int) {
	var prefix [GRPCPrefix]byte
	binary.BigEndian.PutUint32(prefix[1:], uint32(b.Len()+more))
	var all buffer.Buf
	all.Append(prefix[:])
	all.MoveAll(b)
	b.MoveAll(&all)
}

// GRPCStatus is the status that goes with an HTTP code
// (https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
func GRPCStatus(code int) int {
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

// GRPCCode is the HTTP code that goes with a status of gRPC
// (https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto).
func GRPCCode(status uint64) int {
	switch status {
	case 0: // OK
		return 200
	case 1: // cancelled
		return 499
	case 3, 9, 11: // invalid argument, failed precondition, out of range
		return 400
	case 4: // deadline exceeded
		return 504
	case 5: // not found
		return 404
	case 6, 10: // already exists, aborted
		return 409
	case 7: // permission denied
		return 403
	case 8: // resource exhausted
		return 429
	case 12: // unimplemented
		return 501
	case 14: // unavailable
		return 503
	case 16: // unauthenticated
		return 401
	}
	return 500
}

// AppendGRPCMessage appends text as grpc-message carries it: what is not printable ASCII,
// and the percent sign, in hexadecimal.
func AppendGRPCMessage[T string | []byte](dst []byte, text T) []byte {
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
