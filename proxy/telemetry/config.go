package telemetry

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog/grpclog"
	"github.com/mecha-mesh/mecha/proxy/accesslog/otlplog"
	"github.com/mecha-mesh/mecha/proxy/export"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// The providers of spans: plain, validated, immutable. Two connection managers with the
// same Key share a tracer.
type (
	// OpenTelemetry is envoy.config.trace.v3.OpenTelemetryConfig.
	OpenTelemetry struct {
		Key      string
		Target   export.Target
		Resource []Attribute // what the spans come from
		Sampler  trace.Sampler
		MaxSpans int  // max_cache_size
		SDK      bool // the resource tells about this build, too (set_telemetry_sdk_resource_attributes)
		Scope    bool // the spans name who has made them (set_instrumentation_scope)
	}
	// Zipkin is envoy.config.trace.v3.ZipkinConfig.
	Zipkin struct {
		Key    string
		Target export.Target
		Spans  trace.Zipkin // without the service and its address
	}
)

// Attribute is a name and its text.
type Attribute struct{ Name, Value string }

// The logs that go to services: plain, validated, immutable. Logs with the same Key share a
// buffer.
type (
	// GRPCLog is HttpGrpcAccessLogConfig or TcpGrpcAccessLogConfig.
	GRPCLog struct {
		Key     string
		Target  export.Target
		Buffer  Buffer
		Name    string  // log_name
		Backoff Backoff // grpc_stream_retry_policy
		Format  grpclog.Format
	}
	// OpenTelemetryLog is OpenTelemetryAccessLogConfig.
	OpenTelemetryLog struct {
		Key        string
		Target     export.Target
		Buffer     Buffer
		Name       string
		StatPrefix string
		Backoff    Backoff // grpc_stream_retry_policy of common_config
		Builtin    bool    // the resource names the log and the node (disable_builtin_labels)
		Resource   []byte  // more fields attributes of the resource
		Format     otlplog.Format
	}
)

// Buffer says when a log is sent.
type Buffer struct {
	Interval time.Duration // buffer_flush_interval
	Bytes    int           // buffer_size_bytes
}
