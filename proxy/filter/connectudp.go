package filter

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/codec/capsule"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// AsksUDP reports whether a request is CONNECT-UDP (RFC 9298), which has the form of an
// upgrade in any version of HTTP.
func AsksUDP(m *header.Map) bool {
	return m.Has(header.Upgrade) && strings.EqualFold(m.Value(header.Upgrade), capsule.Protocol)
}
