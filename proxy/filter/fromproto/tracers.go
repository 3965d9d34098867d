package fromproto

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	detectorsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	samplersv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/samplers/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/export"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/telemetry"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// The providers of spans of this build.
const (
	otelTracer   = "envoy.config.trace.v3.OpenTelemetryConfig"
	zipkinTracer = "envoy.config.trace.v3.ZipkinConfig"
)

// TracingProvider converts a provider of spans; nil stays nil.
func TracingProvider(pb *tracev3.Tracing_Http, p *filter.Parser) (any, error) {
	if pb == nil {
		return nil, nil
	}
	c, err := Any(pb.GetTypedConfig())
	if err != nil {
		return nil, filter.At("typed_config", err)
	}
	var out any
	switch c.Type {
	case otelTracer:
		out, err = openTelemetry(c.Value, p)
	case zipkinTracer:
		out, err = zipkin(c.Value, p)
	default:
		err = fmt.Errorf("this build does not support the tracer %q", c.Type)
	}
	return out, filter.At("typed_config", err)
}

func openTelemetry(raw []byte, p *filter.Parser) (*telemetry.OpenTelemetry, error) {
	var pb tracev3.OpenTelemetryConfig
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := Check(&pb, p, Fields{Used: []string{
		"grpc_service", "http_service", "service_name", "resource_detectors", "sampler", "max_cache_size",
		"set_telemetry_sdk_resource_attributes", "set_service_name_resource_attribute", "set_instrumentation_scope",
	}})
	if err != nil {
		return nil, err
	}
	t := &telemetry.OpenTelemetry{Key: string(raw), MaxSpans: 1024, Scope: unlessFalse(pb.SetInstrumentationScope), SDK: unlessFalse(pb.SetTelemetrySdkResourceAttributes)}
	if v := pb.MaxCacheSize; v != nil {
		t.MaxSpans = int(v.Value)
	}
	if t.Target, err = Collector(pb.GrpcService, pb.HttpService, p); err != nil {
		return nil, err
	}
	service := pb.ServiceName
	if service == "" {
		service = unknownService
	}
	if !unlessFalse(pb.SetServiceNameResourceAttribute) {
		service = ""
	}
	if t.Resource, err = resource(pb.ResourceDetectors, service, p); err != nil {
		return nil, err
	}
	if pb.Sampler != nil {
		t.Sampler, err = sampler(pb.Sampler, p, 0)
	}
	return t, filter.At("sampler.typed_config", err)
}

// unlessFalse reads a flag that is on unless the configuration says otherwise.
func unlessFalse(v *wrapperspb.BoolValue) bool { return v == nil || v.Value }

// Collector converts a field grpc_service or http_service, one of which has to be there.
func Collector(grpc *corev3.GrpcService, http *corev3.HttpService, p *filter.Parser) (t export.Target, err error) {
	switch {
	case grpc != nil && http != nil:
		return t, filter.At("http_service", errors.New("cannot be set together with grpc_service"))
	case grpc != nil:
		g, err := GRPCService(grpc, p)
		t.GRPC = &g
		return t, filter.At("grpc_service", err)
	case http != nil:
		t.HTTP, err = httpCollector(http, p)
		return t, filter.At("http_service", err)
	}
	return t, errors.New("one of grpc_service, http_service is required")
}

func httpCollector(pb *corev3.HttpService, p *filter.Parser) (h *export.HTTP, err error) {
	if err := Check(pb, p, Fields{Used: []string{"http_uri", "request_headers_to_add"}}); err != nil {
		return nil, err
	}
	h = &export.HTTP{}
	if h.HTTP, err = HTTPURI(pb.HttpUri); err != nil {
		return nil, filter.At("http_uri", err)
	}
	for i, o := range pb.RequestHeadersToAdd {
		m, err := initialMetadata(o.GetHeader())
		if err == nil && m.Format != nil {
			err = filter.At("value", errors.New("this build does not support operators here"))
		}
		if err != nil {
			return nil, filter.AtIndex("request_headers_to_add", i, filter.At("header", err))
		}
		h.Headers = append(h.Headers, m)
	}
	return h, nil
}

const (
	serviceName    = "service.name"
	unknownService = "unknown_service:envoy"
)

// resource is what the name of a service, which may be "", and detectors tell.
func resource(detectors []*corev3.TypedExtensionConfig, service string, p *filter.Parser) (out []telemetry.Attribute, err error) {
	set := func(name, value string) {
		for i := range out {
			if out[i].Name == name {
				out[i].Value = value
				return
			}
		}
		out = append(out, telemetry.Attribute{Name: name, Value: value})
	}
	if service != "" {
		set(serviceName, service)
	}
	for i, d := range detectors {
		if err := detect(d, set, p); err != nil {
			return nil, filter.AtIndex("resource_detectors", i, filter.At("typed_config", err))
		}
	}
	return out, nil
}

// The detectors and samplers of this build.
const (
	detectors         = "envoy.extensions.tracers.opentelemetry.resource_detectors.v3."
	staticDetector    = detectors + "StaticConfigResourceDetectorConfig"
	envDetector       = detectors + "EnvironmentResourceDetectorConfig"
	samplers          = "envoy.extensions.tracers.opentelemetry.samplers.v3."
	alwaysOnSampler   = samplers + "AlwaysOnSamplerConfig"
	parentSampler     = samplers + "ParentBasedSamplerConfig"
	ratioSampler      = samplers + "TraceIdRatioBasedSamplerConfig"
	resourceVariable  = "OTEL_RESOURCE_ATTRIBUTES"
	maxSamplersNested = 8
)

func detect(pb *corev3.TypedExtensionConfig, set func(name, value string), p *filter.Parser) error {
	c, err := Any(pb.GetTypedConfig())
	if err != nil {
		return err
	}
	switch c.Type {
	case staticDetector:
		var s detectorsv3.StaticConfigResourceDetectorConfig
		if err := Unmarshal(c.Value, &s); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(s.Attributes)) {
			set(name, s.Attributes[name])
		}
		return nil
	case envDetector:
		for pair := range strings.SplitSeq(os.Getenv(resourceVariable), ",") {
			if name, value, ok := strings.Cut(pair, "="); ok && name != "" {
				set(strings.TrimSpace(name), strings.TrimSpace(value))
			}
		}
		return nil
	}
	return fmt.Errorf("this build does not support the resource detector %q", c.Type)
}

func sampler(pb *corev3.TypedExtensionConfig, p *filter.Parser, depth int) (trace.Sampler, error) {
	if depth > maxSamplersNested {
		return nil, fmt.Errorf("nested deeper than %d", maxSamplersNested)
	}
	c, err := Any(pb.GetTypedConfig())
	if err != nil {
		return nil, err
	}
	switch c.Type {
	case alwaysOnSampler:
		return trace.AlwaysOn{}, nil
	case ratioSampler:
		var s samplersv3.TraceIdRatioBasedSamplerConfig
		if err := Unmarshal(c.Value, &s); err != nil {
			return nil, err
		}
		return trace.Ratio{Share: Fraction(s.SamplingPercentage)}, nil
	case parentSampler:
		var s samplersv3.ParentBasedSamplerConfig
		if err := Unmarshal(c.Value, &s); err != nil {
			return nil, err
		}
		root, err := sampler(s.WrappedSampler, p, depth+1)
		return trace.ParentBased{Root: root}, filter.At("wrapped_sampler.typed_config", err)
	}
	return nil, fmt.Errorf("this build does not support the sampler %q", c.Type)
}

func zipkin(raw []byte, p *filter.Parser) (*telemetry.Zipkin, error) {
	var pb tracev3.ZipkinConfig
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := Check(&pb, p, Fields{Used: []string{
		"collector_cluster", "collector_endpoint", "trace_id_128bit", "shared_span_context", "collector_endpoint_version",
		"collector_hostname", "split_spans_for_request", "trace_context_option", "collector_service",
	}})
	if err != nil {
		return nil, err
	}
	z := &telemetry.Zipkin{Key: string(raw), Spans: trace.Zipkin{
		Wide: pb.TraceId_128Bit, Shared: pb.SharedSpanContext == nil || pb.SharedSpanContext.Value,
		Split: pb.SplitSpansForRequest, //nolint:staticcheck // deprecated, still sent
		W3C:   pb.TraceContextOption == tracev3.ZipkinConfig_USE_B3_WITH_W3C_PROPAGATION,
	}}
	switch pb.CollectorEndpointVersion {
	case tracev3.ZipkinConfig_HTTP_JSON:
	case tracev3.ZipkinConfig_HTTP_PROTO:
		z.Spans.Proto = true
	default:
		return nil, filter.At("collector_endpoint_version", fmt.Errorf("this build does not support %s", pb.CollectorEndpointVersion))
	}
	if pb.CollectorService != nil {
		z.Target.HTTP, err = httpCollector(pb.CollectorService, p)
		return z, filter.At("collector_service", err)
	}
	switch {
	case pb.CollectorCluster == "":
		return nil, filter.At("collector_cluster", errors.New("is required"))
	case pb.CollectorEndpoint == "":
		return nil, filter.At("collector_endpoint", errors.New("is required"))
	}
	host := pb.CollectorHostname
	if host == "" {
		host = pb.CollectorCluster
	}
	z.Target.HTTP = &export.HTTP{HTTP: call.HTTP{Cluster: pb.CollectorCluster, Authority: host, Path: pb.CollectorEndpoint}}
	return z, nil
}
