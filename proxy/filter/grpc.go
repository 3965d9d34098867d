package filter

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// IsGRPC reports whether a request is gRPC by its content type.
func IsGRPC(m *header.Map) bool {
	if !m.Has(header.ContentType) {
		return false
	}
	rest, ok := strings.CutPrefix(m.Value(header.ContentType), "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}
