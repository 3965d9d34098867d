package translate

import (
	"errors"
	"fmt"
	"slices"

	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

const (
	aggregateCluster = "envoy.extensions.clusters.aggregate.v3.ClusterConfig"
	forwardCluster   = "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"
)

func aggregateType(raw []byte, spec *cluster.Spec) error {
	var pb aggregatev3.ClusterConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	spec.Type, spec.Clusters = cluster.Aggregate, pb.Clusters
	if len(pb.Clusters) == 0 {
		return filter.At("clusters", errors.New("must not be empty"))
	}
	if i := slices.Index(pb.Clusters, spec.Name); i >= 0 {
		return filter.AtIndex("clusters", i, errors.New("is the cluster itself"))
	}
	return nil
}

func forwardType(raw []byte, spec *cluster.Spec, p *filter.Parser) (err error) {
	var pb forwardv3.ClusterConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	err = fromproto.Check(&pb, p, fromproto.Fields{
		Used: []string{"dns_cache_config"},
		// Both are about TLS.
		Ignored: []string{"allow_insecure_cluster_options", "allow_coalesced_connections"},
	})
	if err != nil {
		return err
	}
	if pb.GetDnsCacheConfig() == nil {
		return fmt.Errorf("dns_cache_config must be set")
	}
	spec.Type = cluster.DynamicForward
	spec.Forward, err = fromproto.DNSCache(pb.GetDnsCacheConfig(), p)
	return filter.At("dns_cache_config", err)
}
