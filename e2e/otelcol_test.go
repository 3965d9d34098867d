package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// collectorConfig is that of a collector that prints all that it receives.
const collectorConfig = `
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:%d"}, http: {endpoint: "127.0.0.1:%d"}}}}
exporters: {debug: {verbosity: detailed, sampling_initial: 100000}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [debug]}
    logs: {receivers: [otlp], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [debug]}
`

// TestOpenTelemetryCollector sends spans, log records and statistics, over gRPC and over HTTP, to
// the collector that MECHA_OTELCOL names (make test-otel builds it).
func TestOpenTelemetryCollector(t *testing.T) {
	program := os.Getenv("MECHA_OTELCOL")
	if program == "" {
		t.Skip("MECHA_OTELCOL names no collector: make test-otel")
	}
	grpcPort, httpPort := freePort(t), freePort(t)
	file := filepath.Join(t.TempDir(), "collector.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, collectorConfig, grpcPort, httpPort), 0o600); err != nil {
		t.Fatal(err)
	}
	col := start(t, program, "--config", "file:"+file)
	eventually(t, "the collector", func() string {
		if text := col.text(); !strings.Contains(text, "Everything is ready") {
			return "it says: " + text
		}
		return ""
	})
	app := startBackend(t, "app")
	grpcWay, httpWay := freePort(t), freePort(t)
	m := startMecha(t, collectedBootstrap(app.port, grpcPort, httpPort, grpcWay, httpWay))
	m.ready()
	for _, port := range []uint32{grpcWay, httpWay} {
		for range 5 { // as many spans as one batch has
			r, err := http.Get("http://" + local(port) + "/path")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
	}
	for what, want := range map[string]string{
		"spans over gRPC":        "-> service.name: Str(spans-grpc)",
		"spans over HTTP":        "-> service.name: Str(spans-http)",
		"a span's kind":          "Kind           : Server",
		"a span's name":          "Name           : ingress",
		"a span's tag":           "-> upstream_cluster.name: Str(app)",
		"log records over gRPC":  "Body: Str(grpc GET /path)",
		"log records over HTTP":  "Body: Str(http GET /path)",
		"statistics over gRPC":   "-> Name: grpc.cluster.upstream_rq_total",
		"statistics over HTTP":   "-> Name: http.cluster.upstream_rq_total",
		"a tag":                  "-> envoy.cluster_name: Str(app)",
		"a counter's value":      "Value: 10\n",
		"a cumulative sum":       "-> AggregationTemporality: Cumulative",
		"a delta":                "-> AggregationTemporality: Delta",
		"a histogram":            "-> Name: grpc.cluster.upstream_rq_time",
		"a bound of a histogram": "ExplicitBounds #0: 0.500000",
	} {
		eventually(t, what, func() string {
			if !strings.Contains(col.text(), want) {
				return "the collector has not said " + want
			}
			return ""
		})
	}
	if text := col.text(); strings.Contains(text, "\terror\t") {
		t.Errorf("the collector complains:\n%s", text)
	}
	for _, name := range []string{"tracing.opentelemetry.spans_dropped", "access_logs.open_telemetry_access_log.logs_dropped", "stats_sinks.open_telemetry.messages_failed"} {
		if _, text := m.get("/stats?filter=^" + name + "$"); strings.TrimSpace(text) != name+": 0" {
			t.Errorf("%s", text)
		}
	}
}

// collectedBootstrap has a listener that tells the collector over gRPC, and one that does over
// HTTP.
func collectedBootstrap(app, grpcPort, httpPort, grpcWay, httpWay uint32) string {
	const ext = "type.googleapis.com/envoy."
	target := func(way, path string) string {
		if way == "grpc" {
			return "grpc_service: {envoy_grpc: {cluster_name: col-grpc}}"
		}
		return `http_service: {http_uri: {uri: "http://col` + path + `", cluster: col-http, timeout: 5s}}`
	}
	listener := func(way string, port uint32) string {
		return fmt.Sprintf(`
  - name: %[1]s
    address: {socket_address: {address: 127.0.0.1, port_value: %[2]d}}
    filter_chains: [{filters: [{name: hcm, typed_config: {
      "@type": %[3]sextensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: %[1]s,
      tracing: {provider: {name: otel, typed_config: {"@type": %[3]sconfig.trace.v3.OpenTelemetryConfig, service_name: spans-%[1]s, %[4]s}}},
      access_log: [{name: otel, typed_config: {"@type": %[3]sextensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig, log_name: logs-%[1]s, buffer_size_bytes: 0,
        body: {string_value: "%[1]s %%REQ(:METHOD)%% %%REQ(:PATH)%%"}, %[5]s}}],
      route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: app}}]}]},
      http_filters: [{name: router, typed_config: {"@type": %[3]sextensions.filters.http.router.v3.Router}}]}}]}]`,
			way, port, ext, target(way, "/v1/traces"), target(way, "/v1/logs"))
	}
	sink := func(way, more string) string {
		return fmt.Sprintf("\n- {name: %s, typed_config: {\"@type\": %sextensions.stat_sinks.open_telemetry.v3.SinkConfig, prefix: %s, %s%s}}", way, ext, way, target(way, "/v1/metrics"), more)
	}
	cluster := func(name string, port uint32, more string) string {
		return fmt.Sprintf("\n  - {name: %[1]s, type: STATIC, load_assignment: {cluster_name: %[1]s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[2]d}}}}]}]}%[3]s}", name, port, more)
	}
	http2 := `, typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {"@type": ` + ext + `extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}`
	return "node: {id: a, cluster: b}\nstats_flush_interval: 0.2s\nstats_sinks:" + sink("grpc", "") + sink("http", ", report_counters_as_deltas: true, report_histograms_as_deltas: true") +
		"\nstatic_resources:\n  listeners:" + listener("grpc", grpcWay) + listener("http", httpWay) +
		"\n  clusters:" + cluster("app", app, "") + cluster("col-grpc", grpcPort, http2) + cluster("col-http", httpPort, "")
}
