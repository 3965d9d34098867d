package router

import (
	"fmt"

	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// parse decodes envoy.extensions.filters.http.router.v3.Router.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb routerv3.Router
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	return &Config{SuppressEnvoyHeaders: pb.GetSuppressEnvoyHeaders()}, nil
}
