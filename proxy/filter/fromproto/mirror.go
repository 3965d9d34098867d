package fromproto

import (
	"errors"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// mirrorsOf converts request_mirror_policies; nil if there are none.
func (b *tableBuilder) mirrorsOf(list []*routev3.RouteAction_RequestMirrorPolicy) ([]*route.Mirror, error) {
	var out []*route.Mirror
	for i, pb := range list {
		m, err := mirror(pb, b.p)
		if err != nil {
			return nil, filter.AtIndex("request_mirror_policies", i, err)
		}
		if err := b.mustExist(m.Cluster); err != nil {
			return nil, filter.AtIndex("request_mirror_policies", i, filter.At("cluster", err))
		}
		out = append(out, m)
	}
	return out, nil
}

func mirror(pb *routev3.RouteAction_RequestMirrorPolicy, p *filter.Parser) (*route.Mirror, error) {
	err := Check(pb, p, Fields{
		Used: []string{
			"cluster", "cluster_header", "runtime_fraction", "disable_shadow_host_suffix_append",
			"request_headers_mutations", "host_rewrite_literal",
		},
		Ignored: []string{"trace_sampled"}, // there is no tracing yet
	})
	if err != nil {
		return nil, err
	}
	if (pb.Cluster == "") == (pb.ClusterHeader == "") {
		return nil, filter.At("cluster", errors.New("exactly one of cluster and cluster_header must be set"))
	}
	m := &route.Mirror{
		Cluster: pb.Cluster, KeepHost: pb.DisableShadowHostSuffixAppend, Host: pb.HostRewriteLiteral,
		Share: RuntimeFractional(pb.RuntimeFraction, runtime.Fraction{Numerator: 100, Denominator: 100}),
	}
	if pb.ClusterHeader != "" {
		m.ClusterHeader = match.HeaderName(pb.ClusterHeader)
	}
	if len(pb.RequestHeadersMutations) > 0 {
		m.Mutations, err = HeaderMutations(mutate.Request, "request_headers_mutations", pb.RequestHeadersMutations)
	}
	return m, err
}
