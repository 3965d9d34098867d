package echo

import (
	echov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/echo/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.network.echo.v3.Echo, which has no fields.
func parse(raw []byte, _ *filter.Parser) (struct{}, error) {
	return struct{}{}, fromproto.Unmarshal(raw, new(echov3.Echo))
}
