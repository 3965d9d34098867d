package fromproto

import (
	"errors"
	"fmt"
	"os"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// describe gives a route what others ask of it: names, limits, statistics.
func (b *hostBuilder) describe(r *route.Route, pb *routev3.Route) (err error) {
	if d := pb.Decorator; d != nil {
		r.Decorator = &route.Decorator{Operation: d.Operation, Propagate: d.Propagate == nil || d.Propagate.Value}
	}
	if pb.Tracing != nil {
		if r.Tracing, err = tracing(pb.Tracing); err != nil {
			return filter.At("tracing", err)
		}
	}
	if a := pb.GetRoute(); a != nil {
		r.IncludeHostLimits = a.IncludeVhRateLimits.GetValue() //nolint:staticcheck // deprecated, still sent
		if r.Limits, err = RateLimits(a.RateLimits, b.p); err != nil {
			return filter.At("route", err)
		}
		if err := b.mustExist(a.GetCluster()); err != nil {
			return filter.At("route.cluster", err)
		}
	}
	if pb.StatPrefix != "" && b.p.Stats != nil {
		r.Stats = route.RouteStats(b.p.Stats, b.pb.Name, pb.StatPrefix, b.vh)
	}
	return nil
}

// mustExist refuses a cluster that is not there, where validate_clusters asks for that.
func (b *tableBuilder) mustExist(cluster string) error {
	if cluster == "" || !b.validate || b.p.HasCluster == nil || b.p.HasCluster(cluster) {
		return nil
	}
	return fmt.Errorf("there is no cluster %q, and validate_clusters is on", cluster)
}

// virtualClusters converts virtual_clusters; nil if there are none.
func (b *hostBuilder) virtualClusters(vh *route.VirtualHost) error {
	if len(b.pb.VirtualClusters) == 0 {
		return nil
	}
	count := func(name string) *route.Stats {
		if b.p.Stats == nil {
			return &route.Stats{}
		}
		return route.ClusterStats(b.p.Stats, vh.Name, name, vh)
	}
	out := &route.VirtualClusters{Other: count("other")}
	for i, pb := range b.pb.VirtualClusters {
		headers, err := Headers("headers", pb.Headers)
		if err == nil && len(headers) == 0 {
			err = filter.At("headers", errors.New("needs at least one item"))
		}
		if err != nil {
			return filter.AtIndex("virtual_clusters", i, err)
		}
		out.All = append(out.All, route.VirtualCluster{Name: pb.Name, Headers: headers, Stats: count(pb.Name)})
	}
	vh.Clusters = out
	return nil
}

func tracing(pb *routev3.Tracing) (t *route.Tracing, err error) {
	share := func(pb *typev3.FractionalPercent) match.Fraction {
		if pb == nil {
			return match.Fraction{Numerator: 100, Denominator: 100}
		}
		return Fraction(pb)
	}
	t = &route.Tracing{Client: share(pb.ClientSampling), Random: share(pb.RandomSampling), Overall: share(pb.OverallSampling)}
	if t.Operation, err = valueFormat(pb.Operation); err != nil {
		return nil, filter.At("operation", err)
	}
	if t.Upstream, err = valueFormat(pb.UpstreamOperation); err != nil {
		return nil, filter.At("upstream_operation", err)
	}
	t.Tags, err = CustomTags(pb.CustomTags)
	return t, err
}

// CustomTags converts a list named custom_tags. The environment is read now.
func CustomTags(list []*tracingv3.CustomTag) (out []route.Tag, err error) {
	for i, pb := range list {
		t, err := customTag(pb)
		if err != nil {
			return nil, filter.AtIndex("custom_tags", i, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func customTag(pb *tracingv3.CustomTag) (t route.Tag, err error) {
	t.Name = pb.Tag
	switch k := pb.Type.(type) {
	case *tracingv3.CustomTag_Literal_:
		t.Value, err = fixed(k.Literal.GetValue())
	case *tracingv3.CustomTag_Environment_:
		text, ok := os.LookupEnv(k.Environment.GetName())
		if !ok {
			text = k.Environment.GetDefaultValue()
		}
		t.Value, err = fixed(text)
	case *tracingv3.CustomTag_RequestHeader:
		t.Header, t.Default = match.HeaderName(k.RequestHeader.GetName()), k.RequestHeader.GetDefaultValue()
	case *tracingv3.CustomTag_Metadata_:
		key := metadataKey(k.Metadata.GetMetadataKey())
		t.Path, t.Default = append([]string{key.Namespace}, key.Path...), k.Metadata.GetDefaultValue()
		t.Of, err = metadataOf(k.Metadata.GetKind())
		err = filter.At("metadata.kind", err)
	case *tracingv3.CustomTag_Value:
		t.Value, err = valueFormat(k.Value)
		err = filter.At("value", err)
	default:
		err = fmt.Errorf("this build does not support the tag %T", k)
	}
	return t, err
}

func metadataOf(k *metadatav3.MetadataKind) (route.MetadataOf, error) {
	switch k.GetKind().(type) {
	case nil, *metadatav3.MetadataKind_Request_:
		return route.RequestMetadata, nil
	case *metadatav3.MetadataKind_Route_:
		return route.RouteMetadata, nil
	case *metadatav3.MetadataKind_Cluster_:
		return route.ClusterMetadata, nil
	case *metadatav3.MetadataKind_Host_:
		return route.HostMetadata, nil
	}
	return 0, fmt.Errorf("this build does not support %T", k.GetKind())
}

// fixed is the format of a text in which nothing is an operator.
func fixed(text string) (*accesslog.Format, error) {
	return accesslog.CompileText(strings.ReplaceAll(text, "%", "%%"), accesslog.Options{OmitEmpty: true})
}
