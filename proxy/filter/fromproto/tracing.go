package fromproto

import (
	"errors"
	"fmt"
	"os"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// Tracing converts the tracing of a connection manager; nil stays nil.
func Tracing(pb *hcmv3.HttpConnectionManager_Tracing, p *filter.Parser) (*trace.Config, error) {
	if pb == nil {
		return nil, nil
	}
	err := Check(pb, p, Fields{Used: []string{
		"client_sampling", "random_sampling", "overall_sampling", "verbose", "max_path_tag_length", "custom_tags", "provider",
		"spawn_upstream_span", "operation", "upstream_operation",
		"no_context_propagation",
	}})
	if err != nil {
		return nil, err
	}
	c := &trace.Config{Spawn: pb.SpawnUpstreamSpan.GetValue(), NoContext: pb.NoContextPropagation, Verbose: pb.Verbose, MaxPath: 256}
	if v := pb.MaxPathTagLength; v != nil {
		c.MaxPath = int(v.Value)
	}
	for _, s := range []struct {
		field, key string
		pb         *typev3.Percent
		of         uint32
		into       *runtime.FractionSetting
	}{
		{"client_sampling", "tracing.client_enabled", pb.ClientSampling, 100, &c.Client},
		{"random_sampling", "tracing.random_sampling", pb.RandomSampling, 10_000, &c.Random},
		{"overall_sampling", "tracing.global_enabled", pb.OverallSampling, 100, &c.Overall},
	} {
		share := 100.0
		if s.pb != nil {
			share = s.pb.Value
		}
		if !(share >= 0 && share <= 100) {
			return nil, filter.At(s.field, fmt.Errorf("%v is not in 0..100", share))
		}
		*s.into = runtime.FractionSetting{Key: s.key, Default: runtime.Fraction{Numerator: uint32(share / 100 * float64(s.of)), Denominator: s.of}}
	}
	if c.Tags, err = CustomTags(pb.CustomTags); err != nil {
		return nil, err
	}
	if c.Operation, err = valueFormat(pb.Operation); err != nil {
		return nil, filter.At("operation", err)
	}
	if c.Upstream, err = valueFormat(pb.UpstreamOperation); err != nil {
		return nil, filter.At("upstream_operation", err)
	}
	c.Provider, err = TracingProvider(pb.Provider, p)
	return c, filter.At("provider", err)
}

func routeTracing(pb *routev3.Tracing) (t *trace.Route, err error) {
	share := func(pb *typev3.FractionalPercent) match.Fraction {
		if pb == nil {
			return match.Fraction{Numerator: 100, Denominator: 100}
		}
		return Fraction(pb)
	}
	t = &trace.Route{Client: share(pb.ClientSampling), Random: share(pb.RandomSampling), Overall: share(pb.OverallSampling)}
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
func CustomTags(list []*tracingv3.CustomTag) (out []trace.Tag, err error) {
	for i, pb := range list {
		t, err := customTag(pb)
		if err != nil {
			return nil, filter.AtIndex("custom_tags", i, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func customTag(pb *tracingv3.CustomTag) (t trace.Tag, err error) {
	if t.Name = pb.Tag; t.Name == "" {
		return t, filter.At("tag", errors.New("is required"))
	}
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
		t.Default = k.Metadata.GetDefaultValue()
		t.Metadata, err = metadataTag(k.Metadata)
		err = filter.At("metadata", err)
	case *tracingv3.CustomTag_Value:
		t.Value, err = valueFormat(k.Value)
		err = filter.At("value", err)
	default:
		err = fmt.Errorf("this build does not support the tag %T", k)
	}
	return t, err
}

// metadataTag makes the arguments of METADATA of a tag.
func metadataTag(pb *tracingv3.CustomTag_Metadata) (string, error) {
	var of string
	switch k := pb.GetKind().GetKind().(type) {
	case nil, *metadatav3.MetadataKind_Request_:
		of = "DYNAMIC"
	case *metadatav3.MetadataKind_Route_:
		of = "ROUTE"
	case *metadatav3.MetadataKind_Cluster_:
		of = "CLUSTER"
	case *metadatav3.MetadataKind_Host_:
		of = "UPSTREAM_HOST"
	default:
		return "", filter.At("kind", fmt.Errorf("this build does not support %T", k))
	}
	key := metadataKey(pb.GetMetadataKey())
	path := append([]string{of, key.Namespace}, key.Path...)
	for _, part := range path {
		if strings.Contains(part, ":") {
			return "", filter.At("metadata_key", fmt.Errorf("this build does not support the colon in %q", part))
		}
	}
	return strings.Join(path, ":"), nil
}

// fixed is the format of a text in which nothing is an operator; an empty one has no value.
func fixed(text string) (*accesslog.Format, error) {
	return accesslog.CompileText(strings.ReplaceAll(text, "%", "%%"), accesslog.Options{OmitEmpty: true})
}
