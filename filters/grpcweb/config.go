package grpcweb

import (
	webv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_web/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.grpc_web.v3.GrpcWeb, which says nothing.
func parse(raw []byte, p *filter.Parser) (struct{}, error) {
	var pb webv3.GrpcWeb
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, fromproto.Check(&pb, p, fromproto.Fields{})
}
