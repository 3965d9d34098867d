package telemetry_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// sunk is a sink of statistics and what it is told of three requests. testdata/metrics.golden
// has what it is told, as Envoy does it.
type sunk struct {
	name string
	sink func(r *receiver) obj
}

const (
	ofOTLPSink    = "type.googleapis.com/envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig"
	ofMetricsSink = "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig"
	ofStatsd      = "type.googleapis.com/envoy.config.metrics.v3.StatsdSink"
	ofDogStatsd   = "type.googleapis.com/envoy.config.metrics.v3.DogStatsdSink"
	ofGraphite    = "type.googleapis.com/envoy.extensions.stat_sinks.graphite_statsd.v3.GraphiteStatsdSink"
)

// otlpSink is a sink over gRPC.
func otlpSink(more obj) func(r *receiver) obj {
	return func(r *receiver) obj {
		return with(obj{"@type": ofOTLPSink, "grpc_service": obj{"envoy_grpc": obj{"cluster_name": r.name}}}, more)
	}
}

func metricsSink(more obj) func(r *receiver) obj {
	return func(r *receiver) obj {
		return with(obj{"@type": ofMetricsSink, "transport_api_version": "V3", "grpc_service": obj{"envoy_grpc": obj{"cluster_name": r.name}}}, more)
	}
}

func datagramSink(typ string, more obj) func(r *receiver) obj {
	return func(r *receiver) obj {
		return with(obj{"@type": typ, "address": obj{"socket_address": obj{"protocol": "UDP", "address": "127.0.0.1", "port_value": r.udp}}}, more)
	}
}

func with(o, more obj) obj {
	maps.Copy(o, more)
	return o
}

var sinks = []sunk{
	{"otlp", otlpSink(nil)},
	{"otlp-deltas", otlpSink(obj{"report_counters_as_deltas": true, "report_histograms_as_deltas": true, "prefix": "pre"})},
	{"otlp-names", otlpSink(obj{"emit_tags_as_attributes": false, "use_tag_extracted_name": false})},
	{"otlp-resource", otlpSink(obj{"max_data_points_per_request": 2, "resource_detectors": []any{obj{"name": "static", "typed_config": obj{
		"@type": "type.googleapis.com/envoy.extensions.tracers.opentelemetry.resource_detectors.v3.StaticConfigResourceDetectorConfig", "attributes": obj{"k": "v"},
	}}}})},
	{"otlp-conversions", otlpSink(obj{"prefix": "pre", "custom_metric_conversions": conversions})},
	{"otlp-http", func(r *receiver) obj {
		return obj{"@type": ofOTLPSink, "http_service": obj{
			"http_uri":               obj{"uri": "http://web.test/" + r.name, "cluster": "web", "timeout": "5s"},
			"request_headers_to_add": []any{obj{"header": obj{"key": "x-token", "value": "secret"}}},
		}}
	}},
	{"metrics", metricsSink(nil)},
	{"metrics-labels", metricsSink(obj{"emit_tags_as_labels": true, "report_counters_as_deltas": true, "batch_size": 2, "histogram_emit_mode": "HISTOGRAM"})},
	{"metrics-summary", metricsSink(obj{"histogram_emit_mode": "SUMMARY"})},
	{"statsd", datagramSink(ofStatsd, obj{"prefix": "p"})},
	{"statsd-tcp", func(r *receiver) obj { return obj{"@type": ofStatsd, "tcp_cluster_name": "tcp-" + r.name} }},
	{"dog", datagramSink(ofDogStatsd, obj{"max_bytes_per_datagram": 1400})},
	{"graphite", datagramSink(ofGraphite, obj{"max_bytes_per_datagram": 1400})},
}

// conversions drop one statistic and put others together under one name.
var conversions = obj{"matcher_list": obj{"matchers": []any{
	conversion("cluster.up.membership_total", obj{"@type": ofOTLPSink + ".DropAction"}),
	conversion("cluster.up.upstream_rq_200", obj{"@type": ofOTLPSink + ".ConversionAction", "metric_name": "both", "static_metric_labels": []any{obj{"key": "s", "value": obj{"string_value": "l"}}}}),
	conversion("cluster.up.upstream_rq_total", obj{"@type": ofOTLPSink + ".ConversionAction", "metric_name": "one"}),
	conversion("cluster.other.upstream_rq_total", obj{"@type": ofOTLPSink + ".ConversionAction", "metric_name": "one"}),
}}}

func conversion(name string, action obj) obj {
	return obj{
		"predicate": obj{"single_predicate": obj{
			"input":       obj{"name": "n", "typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.stats.v3.StatFullNameMatchInput"}},
			"value_match": obj{"exact": name},
		}},
		"on_match": obj{"action": obj{"name": "a", "typed_config": action}},
	}
}

// shown are the statistics that the sinks are told of.
var shown = []any{
	obj{"exact": "cluster.up.upstream_rq_total"}, obj{"exact": "cluster.other.upstream_rq_total"}, obj{"exact": "cluster.up.upstream_rq_200"},
	obj{"exact": "cluster.up.membership_total"}, obj{"exact": "cluster.up.upstream_rq_body_size"}, obj{"exact": "http.web.downstream_rq_2xx"},
}

const metricsGolden = "testdata/metrics.golden"

func TestMetrics(t *testing.T) {
	playMetrics(t, func(t testing.TB, config []byte, _ string) *dialogue.Proxy { return dialogue.StartMecha(t, config) })
}

func playMetrics(t *testing.T, start func(t testing.TB, config []byte, admin string) *dialogue.Proxy) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(up.Close)
	web := newMetricsWeb(t)
	free := ports.FreeN(t, 2)
	var clusters, configs []any
	for _, name := range []string{"up", "other"} {
		c := dialogue.StaticCluster(name, up.Listener.Addr().(*net.TCPAddr).Port, false)
		c["track_cluster_stats"] = obj{"request_response_sizes": true}
		clusters = append(clusters, c)
	}
	clusters = append(clusters, dialogue.StaticCluster("web", web.port, false))
	receivers := make([]*receiver, len(sinks))
	for i := range sinks {
		r := newReceiver(t, sinks[i].name, web)
		receivers[i] = r
		clusters = append(clusters, dialogue.StaticCluster(r.name, r.grpc, true), dialogue.StaticCluster("tcp-"+r.name, r.tcp, false))
		configs = append(configs, obj{"name": "s", "typed_config": sinks[i].sink(r)})
	}
	hcm := obj{
		"@type": ofHCM, "stat_prefix": "web", "codec_type": "AUTO",
		"route_config": obj{"virtual_hosts": []any{obj{"name": "all", "domains": []any{"*"}, "routes": []any{
			obj{"match": obj{"prefix": "/other"}, "route": obj{"cluster": "other"}}, obj{"match": obj{"prefix": "/"}, "route": obj{"cluster": "up"}},
		}}}},
		"http_filters": []any{obj{"name": "envoy.filters.http.router", "typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}},
	}
	config, err := json.Marshal(obj{
		"node":                 obj{"id": "node-1", "cluster": "my-cluster"},
		"admin":                obj{"address": dialogue.SocketAddress(free[0])},
		"stats_flush_interval": "0.1s",
		"stats_sinks":          configs,
		"stats_config":         obj{"stats_matcher": obj{"inclusion_list": obj{"patterns": shown}}, "stats_tags": []any{obj{"tag_name": "my.tag", "fixed_value": "v"}}},
		"static_resources": obj{"clusters": clusters, "listeners": []any{obj{
			"name": "web", "address": dialogue.SocketAddress(free[1]), "filter_chains": []any{obj{"filters": []any{obj{"name": "hcm", "typed_config": hcm}}}},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	start(t, config, fmt.Sprintf("127.0.0.1:%d", free[0]))
	for _, path := range []string{"/", "/", "/", "/other"} {
		r, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d%s", free[1], path), "text/plain", strings.NewReader("12345"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	want := dialogue.ReadGolden(t, metricsGolden)
	var got strings.Builder
	for _, r := range receivers {
		fmt.Fprintf(&got, "=== %s\n%s", r.name, r.await(want))
	}
	dialogue.Golden(t, metricsGolden, got.String())
}

// await waits until a receiver has heard what it is to hear, and returns what it has heard.
func (r *receiver) await(want map[string]string) string {
	timeout := time.After(15 * time.Second)
	if want == nil {
		timeout = time.After(2 * time.Second)
	}
	for {
		r.mu.Lock()
		got, came := r.text(), r.came
		r.mu.Unlock()
		if want != nil && got == want[r.name] {
			return got
		}
		select {
		case <-came:
		case <-timeout:
			return got
		}
	}
}

// text is what was heard, a line for each series. The caller holds r.mu.
func (r *receiver) text() string {
	var sb strings.Builder
	for _, line := range slices.Sorted(maps.Keys(r.notes)) {
		fmt.Fprintln(&sb, line)
	}
	for _, key := range slices.Sorted(maps.Keys(r.series)) {
		fmt.Fprintf(&sb, "%s = %v\n", key, r.series[key])
	}
	return sb.String()
}
