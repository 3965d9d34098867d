package grpchttp1reversebridge

import (
	"errors"
	"strings"

	bridgev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_http1_reverse_bridge/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb bridgev3.FilterConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"content_type", "withhold_grpc_frames", "response_size_header"}})
	if err != nil {
		return nil, err
	}
	if pb.ContentType == "" {
		return nil, filter.At("content_type", errors.New("is required"))
	}
	return &Config{ContentType: pb.ContentType, Withhold: pb.WithholdGrpcFrames, SizeHeader: strings.ToLower(pb.ResponseSizeHeader)}, nil
}

// parseRoute decodes FilterConfigPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb bridgev3.FilterConfigPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"disabled"}})
	return &Config{Disabled: pb.Disabled}, err
}
