package router

import (
	"fmt"

	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.router.v3.Router.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb routerv3.Router
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used: []string{"suppress_envoy_headers"},
		// Tracing is not there yet; the others choose statistics that are always there.
		Ignored: []string{"dynamic_stats", "start_child_span", "suppress_grpc_request_failure_code_stats"},
	})
	if err != nil {
		return nil, err
	}
	return &Config{SuppressEnvoyHeaders: pb.GetSuppressEnvoyHeaders()}, nil
}
