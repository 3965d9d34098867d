package grpchttp1bridge

import (
	bridgev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_http1_bridge/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.grpc_http1_bridge.v3.Config.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb bridgev3.Config
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"upgrade_protobuf_to_grpc", "ignore_query_parameters"}})
	return &Config{Upgrade: pb.UpgradeProtobufToGrpc, IgnoreQuery: pb.IgnoreQueryParameters}, err
}
