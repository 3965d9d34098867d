package grpcstats

import (
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.grpc_stats.v3.FilterConfig.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb grpcstatsv3.FilterConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"emit_filter_state", "individual_method_stats_allowlist", "stats_for_all_methods", "enable_upstream_stats",
		"replace_dots_in_grpc_service_name",
	}})
	if err != nil {
		return nil, err
	}
	c := &Config{
		AllMethods: pb.GetStatsForAllMethods().GetValue(), ReplaceDots: pb.ReplaceDotsInGrpcServiceName,
		EmitState: pb.EmitFilterState, UpstreamTime: pb.EnableUpstreamStats,
	}
	for _, s := range pb.GetIndividualMethodStatsAllowlist().GetServices() {
		if c.Methods == nil {
			c.Methods = map[string]map[string]struct{}{}
		}
		if c.Methods[s.Name] == nil {
			c.Methods[s.Name] = map[string]struct{}{}
		}
		for _, m := range s.MethodNames {
			c.Methods[s.Name][m] = struct{}{}
		}
	}
	return c, nil
}
