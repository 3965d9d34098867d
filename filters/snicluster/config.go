package snicluster

import (
	sniclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_cluster/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.network.sni_cluster.v3.SniCluster, which has no
// fields.
func parse(raw []byte, _ *filter.Parser) (struct{}, error) {
	return struct{}{}, fromproto.Unmarshal(raw, new(sniclusterv3.SniCluster))
}
