package translate

import (
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	originalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/original_dst/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

const originalDstCluster = "envoy.extensions.clusters.original_dst.v3.OriginalDstCluster"

func clusterType(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	if t := pb.GetClusterType(); t != nil {
		return filter.At("cluster_type", extendedType(t, spec, p))
	}
	if pb.EdsClusterConfig != nil && pb.GetType() != clusterv3.Cluster_EDS {
		return filter.At("eds_cluster_config", errors.New("is for clusters of type EDS"))
	}
	switch pb.GetType() {
	case clusterv3.Cluster_STATIC:
		spec.Type = cluster.Static
	case clusterv3.Cluster_STRICT_DNS:
		spec.Type = cluster.StrictDNS
	case clusterv3.Cluster_LOGICAL_DNS:
		spec.Type = cluster.LogicalDNS
	case clusterv3.Cluster_EDS:
		spec.Type = cluster.EDS
		if n := pb.GetEdsClusterConfig().GetServiceName(); n != "" {
			spec.ServiceName = n
		}
		return clusterSource(pb, spec)
	case clusterv3.Cluster_ORIGINAL_DST:
		if pb.LoadAssignment != nil {
			return filter.At("load_assignment", errors.New("a cluster of type ORIGINAL_DST has no hosts of its own"))
		}
		return filter.At("original_dst_lb_config", originalDst(pb.GetOriginalDstLbConfig(), spec))
	}
	return nil
}

// clusterSource says where the endpoints come from.
func clusterSource(pb *clusterv3.Cluster, spec *cluster.Spec) error {
	from, err := fromproto.ConfigSource(pb.GetEdsClusterConfig().GetEdsConfig())
	if err != nil {
		return filter.At("eds_cluster_config.eds_config", err)
	}
	spec.EDS, spec.EDSWatched, spec.EDSAPI, spec.InitialFetchTimeout = from.Path, from.Watched, from.API, from.Timeout
	if from.Timeout == 0 {
		spec.InitialFetchTimeout = -1
	}
	return nil
}

// extendedType reads a cluster type that is an extension.
func extendedType(t *clusterv3.Cluster_CustomClusterType, spec *cluster.Spec, p *filter.Parser) error {
	c, err := fromproto.Any(t.GetTypedConfig())
	if err != nil {
		return filter.At("typed_config", err)
	}
	switch c.Type {
	case dnsCluster:
		err = dnsClusterType(c.Value, spec, p)
	case aggregateCluster:
		err = aggregateType(c.Value, spec)
	case forwardCluster:
		err = forwardType(c.Value, spec, p)
	case originalDstCluster:
		var o originalv3.OriginalDstCluster
		if err = fromproto.Unmarshal(c.Value, &o); err == nil {
			err = originalDst(&o, spec)
		}
	default:
		err = fmt.Errorf("this build does not support the cluster type %q", c.Type)
	}
	return filter.At("typed_config", err)
}

// originalFields are the two messages that configure ORIGINAL_DST.
type originalFields interface {
	GetUseHttpHeader() bool
	GetHttpHeaderName() string
	GetUpstreamPortOverride() *wrapperspb.UInt32Value
	GetMetadataKey() *metadatav3.MetadataKey
}

func originalDst(o originalFields, spec *cluster.Spec) error {
	spec.Type = cluster.OriginalDestination
	spec.OriginalDst = cluster.OriginalDst{UseHTTPHeader: o.GetUseHttpHeader(), HTTPHeader: o.GetHttpHeaderName()}
	if o.GetHttpHeaderName() != "" && !o.GetUseHttpHeader() {
		return filter.At("http_header_name", errors.New("needs use_http_header"))
	}
	if spec.OriginalDst.HTTPHeader == "" {
		spec.OriginalDst.HTTPHeader = "x-envoy-original-dst-host"
	}
	if v := o.GetUpstreamPortOverride(); v != nil {
		if v.Value > 65535 {
			return filter.At("upstream_port_override", fmt.Errorf("%d is more than 65535", v.Value))
		}
		spec.OriginalDst.PortOverride = uint16(v.Value)
	}
	if k := o.GetMetadataKey(); k != nil {
		spec.OriginalDst.MetadataKey = k.Key
		for _, s := range k.Path {
			spec.OriginalDst.MetadataPath = append(spec.OriginalDst.MetadataPath, s.GetKey())
		}
	}
	return nil
}
