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
		Used: []string{
			"suppress_envoy_headers", "dynamic_stats", "respect_expected_rq_timeout", "strict_check_headers",
			"suppress_grpc_request_failure_code_stats", "upstream_http_filters", "upstream_log", "upstream_log_options",
			"reject_connect_request_early_data", "start_child_span",
		},
	})
	if err != nil {
		return nil, err
	}
	c := &Config{
		SuppressEnvoyHeaders: pb.SuppressEnvoyHeaders, RespectExpected: pb.RespectExpectedRqTimeout,
		NoDynamicStats:     pb.DynamicStats != nil && !pb.DynamicStats.Value,
		NoGRPCFailureCodes: pb.SuppressGrpcRequestFailureCodeStats,
		ChildSpan:          pb.StartChildSpan, //nolint:staticcheck // deprecated, still sent
		NoEarlyData:        pb.GetRejectConnectRequestEarlyData().GetValue(),
	}
	if c.Logs, err = fromproto.AccessLogsAt("upstream_log", pb.UpstreamLog); err != nil {
		return nil, err
	}
	if o := pb.UpstreamLogOptions; o != nil {
		if err := fromproto.Check(o, p, fromproto.Fields{Used: []string{"flush_upstream_log_on_upstream_stream"}}); err != nil {
			return nil, filter.At("upstream_log_options", err)
		}
		c.LogPoolReady = o.FlushUpstreamLogOnUpstreamStream
	}
	for i, name := range pb.StrictCheckHeaders {
		if strictHeaders[name] == nil {
			return nil, filter.AtIndex("strict_check_headers", i, fmt.Errorf("%q is none of the headers that can be checked", name))
		}
		c.Strict = append(c.Strict, name)
	}
	c.Upstream, err = fromproto.UpstreamFilters("upstream_http_filters", pb.UpstreamHttpFilters, p)
	return c, err
}
