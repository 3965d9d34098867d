package translate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	forwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
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
		Used: []string{"dns_cache_config", "sub_clusters_config", "allow_insecure_cluster_options"},
		// A connection is for one name.
		Ignored: []string{"allow_coalesced_connections"},
	})
	if err != nil {
		return err
	}
	if s := pb.GetSubClustersConfig(); s != nil {
		spec.Type = cluster.DynamicForward
		return filter.At("sub_clusters_config", subClusters(s, spec, p))
	}
	if pb.GetDnsCacheConfig() == nil {
		return fmt.Errorf("dns_cache_config must be set")
	}
	spec.Type = cluster.DynamicForward
	spec.Forward, err = fromproto.DNSCache(pb.GetDnsCacheConfig(), p)
	return filter.At("dns_cache_config", err)
}

// subClusters reads a dynamic forward proxy that makes a cluster for each name.
func subClusters(pb *forwardv3.SubClustersConfig, spec *cluster.Spec, p *filter.Parser) (err error) {
	err = fromproto.Check(pb, p, fromproto.Fields{
		Used: []string{"lb_policy", "max_sub_clusters", "sub_cluster_ttl", "preresolve_clusters", "dns_cluster_config"},
	})
	if err != nil {
		return err
	}
	sub := &cluster.SubClusters{Max: 1024, DNS: spec.DNS, Policy: cluster.Policy{Locality: plainLocality()}}
	switch pb.LbPolicy {
	case clusterv3.Cluster_ROUND_ROBIN:
	case clusterv3.Cluster_LEAST_REQUEST:
		sub.Policy.Kind, sub.Policy.LeastRequest = cluster.LeastRequestLB, leastRequest(nil, nil)
	case clusterv3.Cluster_RANDOM:
		sub.Policy.Kind = cluster.Random
	case clusterv3.Cluster_RING_HASH:
		sub.Policy.Kind = cluster.RingHashLB
		sub.Policy.Ring, err = ringSize(nil, nil)
	case clusterv3.Cluster_MAGLEV:
		sub.Policy.Kind = cluster.MaglevLB
		sub.Policy.TableSize, err = tableSize(nil)
	default:
		err = fmt.Errorf("%s cannot be had here", pb.LbPolicy)
	}
	if err != nil {
		return filter.At("lb_policy", err)
	}
	if v := pb.MaxSubClusters; v != nil {
		if v.Value == 0 {
			return filter.At("max_sub_clusters", errors.New("must be at least 1"))
		}
		sub.Max = int(v.Value)
	}
	if sub.TTL, err = fromproto.PositiveDuration(pb.SubClusterTtl, 5*time.Minute); err != nil {
		return filter.At("sub_cluster_ttl", err)
	}
	for i, a := range pb.PreresolveClusters {
		if a.GetPortValue() == 0 || a.GetPortValue() > 65535 || a.GetAddress() == "" {
			return filter.AtIndex("preresolve_clusters", i, errors.New("needs an address and a port_value of 1 to 65535"))
		}
		sub.Preresolve = append(sub.Preresolve, dnscache.Key{Host: strings.ToLower(a.Address), Port: uint16(a.GetPortValue())})
	}
	if d := pb.DnsClusterConfig; d != nil {
		own := &cluster.Spec{}
		if err := dnsClusterMessage(d, own, p); err != nil {
			return filter.At("dns_cluster_config", err)
		}
		sub.DNS, sub.Logical = own.DNS, own.Type == cluster.LogicalDNS
	}
	spec.Sub = sub
	return nil
}

// forwardNames makes TLS connections of a dynamic forward proxy be for the name that was
// asked for: whoever can make a client ask for a name must not choose who answers. said
// tells whether upstream_http_protocol_options are set.
func forwardNames(pb *clusterv3.Cluster, spec *cluster.Spec, said bool) error {
	if spec.Type != cluster.DynamicForward {
		return nil
	}
	auto := &spec.HTTP.Auto
	if !said {
		auto.SNI, auto.SAN = true, true
		return nil
	}
	a, err := fromproto.Any(pb.GetClusterType().GetTypedConfig())
	if err != nil {
		return err
	}
	var f forwardv3.ClusterConfig
	if err := fromproto.Unmarshal(a.Value, &f); err != nil {
		return err
	}
	if !f.AllowInsecureClusterOptions && !(auto.SNI && auto.SAN) {
		return filter.At("upstream_http_protocol_options", errors.New("auto_sni and auto_san_validation must be true unless allow_insecure_cluster_options is"))
	}
	return nil
}
