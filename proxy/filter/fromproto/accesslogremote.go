package fromproto

import (
	"errors"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	otlplogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/accesslog/otlplog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/telemetry"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// The loggers that send entries to services.
const (
	httpGRPCLog = "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
	tcpGRPCLog  = "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig"
	otlpLog     = "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig"
)

// remoteLog converts a logger that sends entries to a service.
func remoteLog(c filter.Any) (any, error) {
	switch c.Type {
	case httpGRPCLog:
		var m grpclogv3.HttpGrpcAccessLogConfig
		if err := Unmarshal(c.Value, &m); err != nil {
			return nil, err
		}
		l, err := grpcLog(m.CommonConfig)
		if err != nil {
			return nil, filter.At("common_config", err)
		}
		l.Format.RequestHeaders = headerNames(m.AdditionalRequestHeadersToLog)
		l.Format.ResponseHeaders = headerNames(m.AdditionalResponseHeadersToLog)
		l.Format.ResponseTrailers = headerNames(m.AdditionalResponseTrailersToLog)
		return l, nil
	case tcpGRPCLog:
		var m grpclogv3.TcpGrpcAccessLogConfig
		if err := Unmarshal(c.Value, &m); err != nil {
			return nil, err
		}
		l, err := grpcLog(m.CommonConfig)
		if err != nil {
			return nil, filter.At("common_config", err)
		}
		l.Format.TCP = true
		return l, nil
	case otlpLog:
		return openTelemetryLog(c.Value)
	}
	return nil, fmt.Errorf("this build does not support the access log %q", c.Type)
}

func headerNames(list []string) (out []string) {
	for _, name := range list {
		out = append(out, match.HeaderName(name))
	}
	return out
}

func grpcLog(pb *grpclogv3.CommonGrpcAccessLogConfig) (l *telemetry.GRPCLog, err error) {
	switch {
	case pb == nil:
		return nil, errors.New("is required")
	case pb.LogName == "":
		return nil, filter.At("log_name", errors.New("is required"))
	}
	err = Check(pb, nil, Fields{Used: []string{
		"log_name", "grpc_service", "transport_api_version", "buffer_flush_interval", "buffer_size_bytes", "filter_state_objects_to_log", "custom_tags",
		"grpc_stream_retry_policy",
	}})
	if err != nil {
		return nil, err
	}
	l = &telemetry.GRPCLog{Name: pb.LogName}
	if l.Key, err = canonical(pb); err != nil {
		return nil, err
	}
	if l.Target, err = Collector(pb.GrpcService, nil, nil); err != nil {
		return nil, err
	}
	if l.Buffer, err = logBuffer(pb.BufferFlushInterval, pb.BufferSizeBytes); err != nil {
		return nil, err
	}
	if l.Backoff, err = streamBackoff(pb.GrpcStreamRetryPolicy); err != nil {
		return nil, filter.At("grpc_stream_retry_policy", err)
	}
	l.Format.FilterState = pb.FilterStateObjectsToLog
	l.Format.Tags, err = CustomTags(pb.CustomTags)
	return l, err
}

// streamBackoff converts the policy for a stream that could not be opened; nil has no
// retries. Of what Envoy's can say only the number and the times concern a stream.
func streamBackoff(pb *corev3.RetryPolicy) (b telemetry.Backoff, err error) {
	if pb == nil {
		return b, nil
	}
	if err := Check(pb, nil, Fields{Used: []string{"retry_back_off", "num_retries"}}); err != nil {
		return b, err
	}
	if b.Retries = 1; pb.NumRetries != nil {
		b.Retries = int(pb.NumRetries.Value)
	}
	if b.Base, err = PositiveDuration(pb.RetryBackOff.GetBaseInterval(), time.Second); err != nil {
		return b, filter.At("retry_back_off.base_interval", err)
	}
	if b.Max, err = PositiveDuration(pb.RetryBackOff.GetMaxInterval(), 10*b.Base); err != nil {
		return b, filter.At("retry_back_off.max_interval", err)
	}
	if b.Max < b.Base {
		return b, filter.At("retry_back_off.max_interval", fmt.Errorf("%v is less than base_interval, %v", b.Max, b.Base))
	}
	return b, nil
}

// canonical is a text that is the same for equal messages.
func canonical(m proto.Message) (string, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return string(raw), err
}

// defaultLogBuffer is buffer_size_bytes where nobody says.
const defaultLogBuffer = 16 << 10

func logBuffer(interval *durationpb.Duration, size *wrapperspb.UInt32Value) (b telemetry.Buffer, err error) {
	if b.Interval, err = PositiveDuration(interval, time.Second); err != nil {
		return b, filter.At("buffer_flush_interval", err)
	}
	if b.Bytes = defaultLogBuffer; size != nil {
		b.Bytes = int(size.Value)
	}
	return b, nil
}

func openTelemetryLog(raw []byte) (*telemetry.OpenTelemetryLog, error) {
	var pb otlplogv3.OpenTelemetryAccessLogConfig
	if err := Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := Check(&pb, nil, Fields{Used: []string{
		"common_config", "http_service", "grpc_service", "disable_builtin_labels", "resource_attributes", "resource_detectors", "body", "attributes",
		"stat_prefix", "log_name", "buffer_flush_interval", "buffer_size_bytes", "filter_state_objects_to_log", "custom_tags",
	}})
	if err != nil {
		return nil, err
	}
	l := &telemetry.OpenTelemetryLog{Name: pb.LogName, StatPrefix: strings.TrimSuffix(pb.StatPrefix, "."), Builtin: !pb.DisableBuiltinLabels}
	if l.Key, err = canonical(&pb); err != nil {
		return nil, err
	}
	if pb.CommonConfig != nil { //nolint:staticcheck // deprecated, still sent
		err = openTelemetryCommon(l, pb.CommonConfig) //nolint:staticcheck // the same
		return finishOpenTelemetryLog(l, &pb, filter.At("common_config", err))
	}
	if l.Target, err = Collector(pb.GrpcService, pb.HttpService, nil); err == nil {
		l.Buffer, err = logBuffer(pb.BufferFlushInterval, pb.BufferSizeBytes)
	}
	return finishOpenTelemetryLog(l, &pb, err)
}

// openTelemetryCommon takes what an older configuration has in common_config.
func openTelemetryCommon(l *telemetry.OpenTelemetryLog, pb *grpclogv3.CommonGrpcAccessLogConfig) error {
	g, err := grpcLog(pb)
	if err != nil {
		return err
	}
	l.Target, l.Buffer, l.Name, l.Backoff = g.Target, g.Buffer, g.Name, g.Backoff
	l.Format.FilterState, l.Format.Tags = g.Format.FilterState, g.Format.Tags
	return nil
}

// finishOpenTelemetryLog converts what records look like, unless err has come before.
func finishOpenTelemetryLog(l *telemetry.OpenTelemetryLog, pb *otlplogv3.OpenTelemetryAccessLogConfig, err error) (*telemetry.OpenTelemetryLog, error) {
	if err != nil {
		return nil, err
	}
	l.Format.FilterState = append(l.Format.FilterState, pb.FilterStateObjectsToLog...)
	tags, err := CustomTags(pb.CustomTags)
	if err != nil {
		return nil, err
	}
	l.Format.Tags = append(l.Format.Tags, tags...)
	if pb.Body != nil {
		if l.Format.Body, err = anyValue(pb.Body, 0); err != nil {
			return nil, filter.At("body", err)
		}
	}
	if l.Format.Attributes, err = keyValues(pb.Attributes.GetValues(), 0); err != nil {
		return nil, filter.At("attributes", err)
	}
	found, err := resource(pb.ResourceDetectors, "", nil)
	if err != nil {
		return nil, err
	}
	for _, a := range found {
		l.Resource = appendPair(l.Resource, a)
	}
	for _, kv := range pb.ResourceAttributes.GetValues() {
		raw, err := proto.Marshal(kv)
		if err != nil {
			return nil, filter.At("resource_attributes", err)
		}
		l.Resource = wire.Bytes(l.Resource, 1, raw)
	}
	return l, nil
}

func appendPair(b []byte, a telemetry.Attribute) []byte {
	raw, _ := proto.Marshal(&commonv1.KeyValue{Key: a.Name, Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: a.Value}}}) // texts can be encoded
	return wire.Bytes(b, 1, raw)
}

// maxValueDepth bounds how deep values may nest.
const maxValueDepth = 32

// anyValue converts an AnyValue in which texts are formats.
func anyValue(pb *commonv1.AnyValue, depth int) (otlplog.Value, error) {
	if depth > maxValueDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxValueDepth)
	}
	switch v := pb.GetValue().(type) {
	case *commonv1.AnyValue_StringValue:
		f, err := accesslog.Compile(v.StringValue)
		return otlplog.Text{Format: f}, err
	case *commonv1.AnyValue_ArrayValue:
		var list otlplog.List
		for i, item := range v.ArrayValue.GetValues() {
			one, err := anyValue(item, depth+1)
			if err != nil {
				return nil, filter.AtIndex("array_value.values", i, err)
			}
			list = append(list, one)
		}
		return list, nil
	case *commonv1.AnyValue_KvlistValue:
		fields, err := keyValues(v.KvlistValue.GetValues(), depth+1)
		return fields, filter.At("kvlist_value", err)
	}
	raw, err := proto.Marshal(pb)
	return otlplog.Fixed(raw), err
}

func keyValues(list []*commonv1.KeyValue, depth int) (out otlplog.Fields, err error) {
	for i, kv := range list {
		v, err := anyValue(kv.GetValue(), depth)
		if err != nil {
			return nil, filter.AtIndex("values", i, filter.At("value", err))
		}
		out = append(out, otlplog.Field{Name: kv.GetKey(), Value: v})
	}
	return out, nil
}
