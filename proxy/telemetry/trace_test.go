package telemetry_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/encoding/protowire"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

type obj = map[string]any

// traced is one request through a connection manager that traces.
// testdata/traces.golden has what upstream sees and which spans come of it, as Envoy
// makes them.
type traced struct {
	name     string
	hcm      obj // in addition
	tracing  obj // in addition to the provider
	route    obj // in addition
	outbound bool
	zipkin   obj    // the provider is Zipkin; in addition
	otlp     obj    // in addition to the service
	method   string // GET
	path     string
	header   map[string]string
	status   int // of upstream; 200
	trailers map[string]string
	spans    int // how many come, when the file is written anew; 0 is one
}

var parented = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1,b=2", "baggage": "k=v"}

var everyTag = []any{
	obj{"tag": "literal", "literal": obj{"value": "lit"}},
	obj{"tag": "env", "environment": obj{"name": "MECHA_NO_SUCH_VARIABLE", "default_value": "none"}},
	obj{"tag": "env-none", "environment": obj{"name": "MECHA_NO_SUCH_VARIABLE"}},
	obj{"tag": "header", "request_header": obj{"name": "x-tag", "default_value": "d"}},
	obj{"tag": "header-default", "request_header": obj{"name": "x-none", "default_value": "d"}},
	obj{"tag": "header-none", "request_header": obj{"name": "x-none"}},
	obj{"tag": "route-meta", "metadata": obj{"kind": obj{"route": obj{}}, "metadata_key": obj{"key": "ns", "path": []any{obj{"key": "k"}}}, "default_value": "d"}},
	obj{"tag": "route-number", "metadata": obj{"kind": obj{"route": obj{}}, "metadata_key": obj{"key": "ns", "path": []any{obj{"key": "n"}}}}},
	obj{"tag": "route-bool", "metadata": obj{"kind": obj{"route": obj{}}, "metadata_key": obj{"key": "ns", "path": []any{obj{"key": "b"}}}}},
	obj{"tag": "route-object", "metadata": obj{"kind": obj{"route": obj{}}, "metadata_key": obj{"key": "ns", "path": []any{obj{"key": "o"}}}}},
	obj{"tag": "cluster-meta", "metadata": obj{"kind": obj{"cluster": obj{}}, "metadata_key": obj{"key": "ns", "path": []any{obj{"key": "c"}}}}},
	obj{"tag": "host-meta", "metadata": obj{"kind": obj{"host": obj{}}, "metadata_key": obj{"key": "ns", "path": []any{obj{"key": "h"}}}}},
	obj{"tag": "request-meta", "metadata": obj{"kind": obj{"request": obj{}}, "metadata_key": obj{"key": "ns", "path": []any{obj{"key": "r"}}}, "default_value": "d"}},
	obj{"tag": "format", "value": "%REQ(:METHOD)%-%RESPONSE_CODE%"},
}

var traces = []traced{
	{name: "plain", path: "/plain?q=1", header: map[string]string{"user-agent": "me"}},
	{name: "not-sampled", tracing: obj{"random_sampling": obj{"value": 0}}},
	{name: "outbound", outbound: true},
	{name: "child", tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "child-outbound", outbound: true, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "parent", header: parented},
	{name: "parent-unsampled", header: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}},
	{name: "parent-child", header: parented, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "parent-version", header: map[string]string{"traceparent": "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09"}},
	{name: "parent-bad", header: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033-01"}},
	{name: "parent-zero", header: map[string]string{"traceparent": "00-00000000000000000000000000000000-b7ad6b7169203331-01"}},
	{name: "parent-upper", header: map[string]string{"traceparent": "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"}},
	{name: "no-context", header: parented, tracing: obj{"no_context_propagation": true}},
	{name: "no-context-child", tracing: obj{"no_context_propagation": true, "spawn_upstream_span": true}, spans: 2},
	{name: "error", status: 503},
	{name: "error-child", status: 503, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "four", status: 404},
	{name: "four-child", status: 404, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "retry", status: 503, route: obj{"route": obj{"cluster": "up", "retry_policy": obj{"retry_on": "5xx", "num_retries": 1, "retry_back_off": obj{"base_interval": "0.001s"}}}}, tracing: obj{"spawn_upstream_span": true}, spans: 3},
	{name: "no-upstream", route: obj{"route": obj{"cluster": "down"}}, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "no-route", route: obj{"match": obj{"prefix": "/other"}}},
	{name: "direct", route: obj{"route": nil, "direct_response": obj{"status": 200}}},
	{name: "no-hosts", route: obj{"route": obj{"cluster": "empty"}}, tracing: obj{"spawn_upstream_span": true}},
	{name: "tags", header: map[string]string{"x-tag": "t"}, tracing: obj{"custom_tags": everyTag}},
	{name: "tags-child", header: map[string]string{"x-tag": "t"}, tracing: obj{"custom_tags": everyTag, "spawn_upstream_span": true}, spans: 2},
	{name: "tags-route", tracing: obj{"custom_tags": []any{obj{"tag": "a", "literal": obj{"value": "hcm"}}, obj{"tag": "b", "literal": obj{"value": "hcm"}}}},
		route: obj{"tracing": obj{"custom_tags": []any{obj{"tag": "b", "literal": obj{"value": "route"}}, obj{"tag": "c", "literal": obj{"value": "route"}}}}}},
	{name: "tags-own", tracing: obj{"custom_tags": []any{obj{"tag": "component", "literal": obj{"value": "mine"}}, obj{"tag": "http.status_code", "literal": obj{"value": "mine"}}}}},
	{name: "ids", route: shownIDs},
	{name: "ids-unsampled", route: shownIDs, tracing: obj{"random_sampling": obj{"value": 0}}},
	{name: "ids-none", route: shownIDs, header: map[string]string{"traceparent": "x"}},
	{name: "per-try-timeout", route: obj{"route": obj{"cluster": "slow", "retry_policy": obj{"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.05s", "retry_back_off": obj{"base_interval": "0.001s"}}}}, tracing: obj{"spawn_upstream_span": true}, spans: 3},
	{name: "timeout", route: obj{"route": obj{"cluster": "slow", "timeout": "0.05s"}}, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "reset", route: obj{"route": obj{"cluster": "reset"}}, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "verbose", tracing: obj{"verbose": true, "spawn_upstream_span": true}, spans: 2},
	{name: "long-path", path: "/" + strings.Repeat("a", 300)},
	{name: "short-path", path: "/0123456789", tracing: obj{"max_path_tag_length": 5}},
	{name: "route-sampling", route: obj{"tracing": obj{"random_sampling": obj{"numerator": 0}}}},
	{name: "overall", tracing: obj{"overall_sampling": obj{"value": 0}}},
	{name: "client-id", tracing: obj{"random_sampling": obj{"value": 0}}, header: map[string]string{"x-client-trace-id": "abc"}},
	{name: "client-id-off", tracing: obj{"random_sampling": obj{"value": 0}, "client_sampling": obj{"value": 0}}, header: map[string]string{"x-client-trace-id": "abc"}},
	{name: "forced", hcm: obj{"use_remote_address": true, "internal_address_config": obj{"cidr_ranges": []any{obj{"address_prefix": "127.0.0.0", "prefix_len": 8}}}}, tracing: obj{"random_sampling": obj{"value": 0}}, header: map[string]string{"x-envoy-force-trace": "1"}},
	{name: "forced-outside", hcm: obj{"use_remote_address": true}, tracing: obj{"random_sampling": obj{"value": 0}}, header: map[string]string{"x-envoy-force-trace": "1"}},
	{name: "id-sampled", tracing: obj{"random_sampling": obj{"value": 0}}, header: map[string]string{"x-request-id": "12345678-1234-9234-8234-123456789abc"}},
	{name: "id-forced", tracing: obj{"random_sampling": obj{"value": 0}}, header: map[string]string{"x-request-id": "12345678-1234-a234-8234-123456789abc"}},
	{name: "id-client", tracing: obj{"random_sampling": obj{"value": 0}}, header: map[string]string{"x-request-id": "12345678-1234-b234-8234-123456789abc"}},
	{name: "id-low", tracing: obj{"random_sampling": obj{"value": 50}}, header: map[string]string{"x-request-id": "00000001-1234-4234-8234-123456789abc"}},
	{name: "id-high", tracing: obj{"random_sampling": obj{"value": 50}}, header: map[string]string{"x-request-id": "0000270f-1234-4234-8234-123456789abc"}},
	{name: "id-odd", header: map[string]string{"x-request-id": "not-a-uuid"}},
	{name: "id-short-hex", header: map[string]string{"x-request-id": "12345678ab"}},
	{name: "id-edge-kept", hcm: obj{"use_remote_address": true, "preserve_external_request_id": true}, tracing: obj{"random_sampling": obj{"value": 0}}, header: map[string]string{"x-request-id": "12345678-1234-9234-8234-123456789abc"}},
	{name: "id-unpacked", hcm: obj{"request_id_extension": obj{"typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", "pack_trace_reason": false}}}},
	{name: "id-unused", hcm: obj{"request_id_extension": obj{"typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", "use_request_id_for_trace_sampling": false}}}},
	{name: "id-none", hcm: obj{"generate_request_id": false}},
	{name: "decorator", route: obj{"decorator": obj{"operation": "op"}}},
	{name: "decorator-outbound", outbound: true, route: obj{"decorator": obj{"operation": "op"}}},
	{name: "decorator-silent", outbound: true, route: obj{"decorator": obj{"operation": "op", "propagate": false}}},
	{name: "decorator-theirs", route: obj{"decorator": obj{"operation": "op"}}, header: map[string]string{"x-envoy-decorator-operation": "theirs"}},
	{name: "decorator-child", route: obj{"decorator": obj{"operation": "op"}}, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "operation", tracing: obj{"operation": "%REQ(:METHOD)% op", "upstream_operation": "%UPSTREAM_CLUSTER% up", "spawn_upstream_span": true}, spans: 2},
	{name: "operation-decorator", tracing: obj{"operation": "hcm op"}, route: obj{"decorator": obj{"operation": "op"}}},
	{name: "operation-route", tracing: obj{"operation": "hcm op", "upstream_operation": "hcm up", "spawn_upstream_span": true}, route: obj{"tracing": obj{"operation": "route op", "upstream_operation": "route up"}}, spans: 2},
	{name: "operation-header", tracing: obj{"operation": "hcm op"}, header: map[string]string{"x-envoy-decorator-operation": "theirs"}},
	{name: "operation-empty", tracing: obj{"operation": "%REQ(x-none)%"}},
	{name: "grpc", method: "POST", path: "/pkg.Service/Method", header: map[string]string{"content-type": "application/grpc", "grpc-timeout": "10S"}, trailers: map[string]string{"grpc-status": "5", "grpc-message": "no"}},
	{name: "grpc-child", method: "POST", path: "/pkg.Service/Method", tracing: obj{"spawn_upstream_span": true}, header: map[string]string{"content-type": "application/grpc"}, trailers: map[string]string{"grpc-status": "13"}, spans: 2},
	{name: "grpc-child-5", method: "POST", path: "/pkg.Service/Method", tracing: obj{"spawn_upstream_span": true}, header: map[string]string{"content-type": "application/grpc"}, trailers: map[string]string{"grpc-status": "5"}, spans: 2},
	{name: "grpc-ok", method: "POST", path: "/pkg.Service/Method", header: map[string]string{"content-type": "application/grpc"}, trailers: map[string]string{"grpc-status": "0"}},
	{name: "service-cluster", header: map[string]string{"x-envoy-downstream-service-cluster": "them"}},
	{name: "post", method: "POST", path: "/post"},
	{name: "original-path", route: obj{"route": obj{"cluster": "up", "prefix_rewrite": "/rewritten"}}, path: "/old"},
	{name: "over-http", otlp: obj{"grpc_service": nil}},
	{name: "resource", otlp: obj{"resource_detectors": []any{
		obj{"name": "static", "typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.tracers.opentelemetry.resource_detectors.v3.StaticConfigResourceDetectorConfig", "attributes": obj{"k": "v"}}},
		obj{"name": "env", "typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.tracers.opentelemetry.resource_detectors.v3.EnvironmentResourceDetectorConfig"}},
	}}},
	{name: "sampler-on", tracing: obj{"random_sampling": obj{"value": 0}}, otlp: obj{"sampler": obj{"name": "envoy.tracers.opentelemetry.samplers.always_on", "typed_config": obj{"@type": samplers + "AlwaysOnSamplerConfig"}}}},
	{name: "sampler-on-parent", header: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "tracestate": "a=1"}, otlp: obj{"sampler": obj{"name": "envoy.tracers.opentelemetry.samplers.always_on", "typed_config": obj{"@type": samplers + "AlwaysOnSamplerConfig"}}}},
	{name: "sampler-ratio-0", otlp: obj{"sampler": obj{"name": "ratio", "typed_config": obj{"@type": samplers + "TraceIdRatioBasedSamplerConfig", "sampling_percentage": obj{"numerator": 0}}}}},
	{name: "sampler-ratio-100", tracing: obj{"random_sampling": obj{"value": 0}}, otlp: obj{"sampler": obj{"name": "ratio", "typed_config": obj{"@type": samplers + "TraceIdRatioBasedSamplerConfig", "sampling_percentage": obj{"numerator": 100}}}}},
	{name: "sampler-ratio-parent", header: parented, otlp: obj{"sampler": obj{"name": "ratio", "typed_config": obj{"@type": samplers + "TraceIdRatioBasedSamplerConfig", "sampling_percentage": obj{"numerator": 1}}}}},
	ratioOf("a", "f1955877c0179b1de8f760c1de84b6bb"),
	ratioOf("b", "6ddc00855e5ebe2c2cd6c9023fcf8c97"),
	ratioOf("c", "095c4155e09ed1240ff41c1d84db5bd1"),
	ratioOf("d", "a9eb333c5773e70495e6561c92dbc723"),
	{name: "sampler-parent", header: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "tracestate": "a=1"}, otlp: obj{"sampler": parentBased}},
	{name: "sampler-parent-on", header: parented, otlp: obj{"sampler": parentBased}},
	{name: "sampler-parent-root", tracing: obj{"random_sampling": obj{"value": 0}}, otlp: obj{"sampler": parentBased}},
	{name: "zipkin", zipkin: obj{}},
	{name: "zipkin-outbound", zipkin: obj{}, outbound: true},
	{name: "zipkin-128", zipkin: obj{"trace_id_128bit": true}},
	{name: "zipkin-not-sampled", zipkin: obj{}, tracing: obj{"random_sampling": obj{"value": 0}}},
	{name: "zipkin-b3", zipkin: obj{}, header: map[string]string{"x-b3-traceid": "0af7651916cd43dd8448eb211c80319c", "x-b3-spanid": "b7ad6b7169203331", "x-b3-parentspanid": "1111111111111111", "x-b3-sampled": "1"}},
	{name: "zipkin-b3-64", zipkin: obj{}, header: map[string]string{"x-b3-traceid": "8448eb211c80319c", "x-b3-spanid": "b7ad6b7169203331", "x-b3-sampled": "1"}},
	{name: "zipkin-b3-unsampled", zipkin: obj{}, header: map[string]string{"x-b3-traceid": "0af7651916cd43dd8448eb211c80319c", "x-b3-spanid": "b7ad6b7169203331", "x-b3-sampled": "0"}},
	{name: "zipkin-b3-open", zipkin: obj{}, header: map[string]string{"x-b3-traceid": "0af7651916cd43dd8448eb211c80319c", "x-b3-spanid": "b7ad6b7169203331"}},
	{name: "zipkin-b3-sampled-only", zipkin: obj{}, header: map[string]string{"x-b3-sampled": "0"}},
	{name: "zipkin-b3-flags", zipkin: obj{}, tracing: obj{"random_sampling": obj{"value": 0}}, header: map[string]string{"x-b3-flags": "1"}},
	{name: "zipkin-b3-bad", zipkin: obj{}, header: map[string]string{"x-b3-traceid": "zz", "x-b3-spanid": "b7ad6b7169203331", "x-b3-sampled": "1"}},
	{name: "zipkin-b3-outbound", zipkin: obj{}, outbound: true, header: map[string]string{"x-b3-traceid": "0af7651916cd43dd8448eb211c80319c", "x-b3-spanid": "b7ad6b7169203331", "x-b3-sampled": "1"}},
	{name: "zipkin-b3-split", zipkin: obj{"shared_span_context": false}, header: map[string]string{"x-b3-traceid": "0af7651916cd43dd8448eb211c80319c", "x-b3-spanid": "b7ad6b7169203331", "x-b3-sampled": "1"}},
	{name: "zipkin-single", zipkin: obj{}, header: map[string]string{"b3": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1-1111111111111111"}},
	{name: "zipkin-single-0", zipkin: obj{}, header: map[string]string{"b3": "0"}},
	{name: "zipkin-single-d", zipkin: obj{}, tracing: obj{"random_sampling": obj{"value": 0}}, header: map[string]string{"b3": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-d"}},
	{name: "zipkin-single-open", zipkin: obj{}, header: map[string]string{"b3": "0af7651916cd43dd-b7ad6b7169203331"}},
	{name: "zipkin-single-bad", zipkin: obj{}, header: map[string]string{"b3": "0af7651916cd43dd-b7ad"}},
	{name: "zipkin-child", zipkin: obj{}, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "zipkin-child-b3", zipkin: obj{}, tracing: obj{"spawn_upstream_span": true}, header: map[string]string{"b3": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"}, spans: 2},
	{name: "zipkin-split-spans", zipkin: obj{"split_spans_for_request": true}, spans: 2},
	{name: "zipkin-split-outbound", zipkin: obj{"split_spans_for_request": true}, outbound: true},
	{name: "zipkin-child-outbound", zipkin: obj{}, outbound: true, tracing: obj{"spawn_upstream_span": true}, spans: 2},
	{name: "zipkin-child-outbound-b3", zipkin: obj{}, outbound: true, tracing: obj{"spawn_upstream_span": true}, header: map[string]string{"b3": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"}, spans: 2},
	{name: "zipkin-w3c-bad", zipkin: obj{"trace_context_option": "USE_B3_WITH_W3C_PROPAGATION"}, header: map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7-01"}},
	{name: "zipkin-ids", zipkin: obj{}, route: obj{"response_headers_to_add": []any{obj{"header": obj{"key": "x-ids", "value": "%TRACE_ID%"}}}}},
	{name: "zipkin-w3c-ignored", zipkin: obj{}, header: parented},
	{name: "zipkin-w3c", zipkin: obj{"trace_context_option": "USE_B3_WITH_W3C_PROPAGATION"}, header: parented},
	{name: "zipkin-w3c-root", zipkin: obj{"trace_context_option": "USE_B3_WITH_W3C_PROPAGATION"}},
	{name: "zipkin-w3c-b3", zipkin: obj{"trace_context_option": "USE_B3_WITH_W3C_PROPAGATION"}, header: map[string]string{"traceparent": parented["traceparent"], "b3": "0af7651916cd43dd-b7ad6b7169203332-1"}},
	{name: "zipkin-error", zipkin: obj{}, status: 500},
	{name: "zipkin-tags", zipkin: obj{}, header: map[string]string{"x-tag": "t"}, tracing: obj{"custom_tags": everyTag}},
	{name: "zipkin-verbose", zipkin: obj{}, tracing: obj{"verbose": true}},
	{name: "zipkin-decorator", zipkin: obj{}, route: obj{"decorator": obj{"operation": "op"}}},
	{name: "zipkin-proto", zipkin: obj{"collector_endpoint_version": "HTTP_PROTO"}, header: map[string]string{"b3": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"}},
}

var shownIDs = obj{"response_headers_to_add": []any{obj{"header": obj{"key": "x-ids", "value": "%TRACE_ID% %SPAN_ID%"}}}}

// ratioOf is a request whose parent has a trace ID of which one number alone is in the
// share of half of all: the first or the last eight bytes, one way round or the other.
func ratioOf(name, id string) traced {
	return traced{name: "sampler-ratio-" + name, header: map[string]string{"traceparent": "00-" + id + "-b7ad6b7169203331-01"},
		otlp: obj{"sampler": obj{"name": "ratio", "typed_config": obj{"@type": samplers + "TraceIdRatioBasedSamplerConfig", "sampling_percentage": obj{"numerator": 50}}}}}
}

const samplers = "type.googleapis.com/envoy.extensions.tracers.opentelemetry.samplers.v3."

var parentBased = obj{"name": "parent", "typed_config": obj{"@type": samplers + "ParentBasedSamplerConfig", "wrapped_sampler": obj{
	"name": "on", "typed_config": obj{"@type": samplers + "AlwaysOnSamplerConfig"},
}}}

// awaited is how many spans are to come: as many as the file has, or when it is
// written anew, as many as come.
func (c *traced) awaited(want map[string]string) (n int, guess bool) {
	if want == nil {
		return max(c.spans, 1), true
	}
	return strings.Count(want[c.name], "\nspan ") + strings.Count(want[c.name], "\n{\n"), false
}

// upstream remembers the heads of requests by their host.
type upstream struct {
	mu   sync.Mutex
	seen map[string][]*http.Request
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.seen[r.Host] = append(u.seen[r.Host], r)
	u.mu.Unlock()
	for i := range traces {
		if c := &traces[i]; c.name == r.Host {
			for k, v := range c.trailers {
				w.Header().Set(http.TrailerPrefix+k, v)
			}
			if c.trailers != nil {
				w.Header().Set("content-type", "application/grpc")
			}
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(max(c.status, 200))
			_, _ = io.WriteString(w, "hello")
			return
		}
	}
}

// silent is a host that takes connections and says nothing, or resets them.
func silent(t *testing.T, reset bool) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if reset {
					_, _ = c.Read(make([]byte, 1))
				} else {
					_, _ = io.Copy(io.Discard, c)
				}
				c.Close()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func TestTraces(t *testing.T) {
	playTraces(t, func(t testing.TB, config []byte, _ string) *dialogue.Proxy { return dialogue.StartMecha(t, config) })
}

const tracesGolden = "testdata/traces.golden"

func playTraces(t *testing.T, start func(t testing.TB, config []byte, admin string) *dialogue.Proxy) {
	col := startCollector(t)
	u := &upstream{seen: map[string][]*http.Request{}}
	up := httptest.NewUnstartedServer(u)
	up.Config.Protocols = new(http.Protocols)
	up.Config.Protocols.SetHTTP1(true)
	up.Config.Protocols.SetUnencryptedHTTP2(true)
	up.Start()
	t.Cleanup(up.Close)
	free := ports.FreeN(t, len(traces)+2)
	admin, down := free[len(traces)], free[len(traces)+1]
	var listeners []any
	for i := range traces {
		listeners = append(listeners, traces[i].listener(free[i]))
	}
	upc := dialogue.StaticCluster("up", up.Listener.Addr().(*net.TCPAddr).Port, true)
	upc["metadata"] = obj{"filter_metadata": obj{"ns": obj{"c": "cluster"}}}
	upc["alt_stat_name"] = "up_alt"
	upc["load_assignment"].(obj)["endpoints"].([]any)[0].(obj)["lb_endpoints"].([]any)[0].(obj)["metadata"] = obj{"filter_metadata": obj{"ns": obj{"h": "host"}}}
	empty := dialogue.StaticCluster("empty", 1, false)
	empty["load_assignment"] = obj{"cluster_name": "empty"}
	config, err := json.Marshal(obj{
		"node":  obj{"id": "node-1", "cluster": "my-cluster", "locality": obj{"zone": "zone-1"}},
		"admin": obj{"address": dialogue.SocketAddress(admin)},
		"static_resources": obj{"listeners": listeners, "clusters": []any{
			upc, dialogue.StaticCluster("down", down, false), empty, dialogue.StaticCluster("slow", silent(t, false), false), dialogue.StaticCluster("reset", silent(t, true), false), dialogue.StaticCluster("otlp", col.grpc, true), dialogue.StaticCluster("web", col.http, false),
		}},
		"layered_runtime": obj{"layers": []any{obj{"name": "static", "static_layer": obj{
			"tracing.opentelemetry.min_flush_spans": 1, "tracing.zipkin.min_flush_spans": 1,
		}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, config, fmt.Sprintf("127.0.0.1:%d", admin))
	want := dialogue.ReadGolden(t, tracesGolden)
	var got strings.Builder
	for i := range traces {
		fmt.Fprintf(&got, "=== %s\n%s", traces[i].name, traces[i].play(t, col, u, free[i], want))
	}
	dialogue.Golden(t, tracesGolden, got.String())
	p.WaitStat(t, "tracing.zipkin.reports_dropped", "0")
}

const ofHCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

func (c *traced) provider() obj {
	if c.zipkin != nil {
		z := obj{"@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig", "collector_cluster": "web", "collector_endpoint": "/zipkin/" + c.name, "collector_endpoint_version": "HTTP_JSON"}
		maps.Copy(z, c.zipkin)
		return obj{"name": "envoy.tracers.zipkin", "typed_config": z}
	}
	o := obj{"@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig", "service_name": c.name, "grpc_service": obj{"envoy_grpc": obj{"cluster_name": "otlp"}, "timeout": "5s"}}
	maps.Copy(o, c.otlp)
	if o["grpc_service"] == nil {
		delete(o, "grpc_service")
		o["http_service"] = obj{"http_uri": obj{"uri": "http://web.test/otlp/v1/traces", "cluster": "web", "timeout": "5s"}, "request_headers_to_add": []any{obj{"header": obj{"key": "x-token", "value": "secret"}}}}
	}
	return obj{"name": "envoy.tracers.opentelemetry", "typed_config": o}
}

func (c *traced) listener(port int) obj {
	route := obj{"match": obj{"prefix": "/"}, "route": obj{"cluster": "up"}, "metadata": obj{"filter_metadata": obj{"ns": obj{"k": "v", "n": 1.5, "b": true, "o": obj{"x": 1}}}}}
	maps.Copy(route, c.route)
	maps.DeleteFunc(route, func(_ string, v any) bool { return v == nil })
	tracing := obj{"provider": c.provider()}
	maps.Copy(tracing, c.tracing)
	hcm := obj{
		"@type": ofHCM, "stat_prefix": c.name, "codec_type": "AUTO", "tracing": tracing,
		"route_config": obj{"virtual_hosts": []any{obj{"name": "all", "domains": []any{"*"}, "routes": []any{route}}}},
		"http_filters": []any{
			obj{"name": "envoy.filters.http.router", "typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
		},
	}
	maps.Copy(hcm, c.hcm)
	l := obj{"name": c.name, "address": dialogue.SocketAddress(port), "filter_chains": []any{obj{"filters": []any{obj{"name": "hcm", "typed_config": hcm}}}}}
	if c.outbound {
		l["traffic_direction"] = "OUTBOUND"
	}
	return l
}

// play sends the request of a case and describes what comes of it.
func (c *traced) play(t *testing.T, col *collector, u *upstream, port int, want map[string]string) string {
	path, method := c.path, c.method
	if path == "" {
		path = "/" + c.name
	}
	if method == "" {
		method = "GET"
	}
	rq, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	if method == "POST" {
		rq.Body, rq.ContentLength = io.NopCloser(strings.NewReader("12345")), 5
	}
	rq.Host = c.name
	rq.Header.Set("user-agent", "test")
	for k, v := range c.header {
		rq.Header.Set(k, v)
	}
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	if c.trailers != nil {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	r, err := tr.RoundTrip(rq)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(r.Body)
	r.Body.Close()
	n := &names{given: fmt.Sprint(c.header), port: fmt.Sprint(port)}
	var sb strings.Builder
	u.mu.Lock()
	for _, q := range u.seen[c.name] {
		fmt.Fprintf(&sb, "upstream %s\n", n.text(propagated(q.Header)))
	}
	u.mu.Unlock()
	fmt.Fprintf(&sb, "client %d %s\n", r.StatusCode, n.text(r.Header.Get("x-envoy-decorator-operation")+r.Header.Get("x-ids")))
	if spans, guess := c.awaited(want); spans > 0 {
		c.collect(t, col, n, &sb, spans, guess)
	}
	return sb.String()
}

func propagated(h http.Header) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(h)) {
		switch name := strings.ToLower(name); name {
		case "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
			"x-envoy-decorator-operation", "x-client-trace-id", "x-envoy-force-trace", "x-request-id":
			out = append(out, fmt.Sprintf("%s=%q", name, strings.Join(h.Values(name), "|")))
		}
	}
	return strings.Join(out, " ")
}

// fieldsOf describes the fields of a zipkin.proto3.ListOfSpans. Numbers are times and
// lengths of time, but for the kind and what is a flag.
func fieldsOf(t *testing.T, b []byte, depth int) (out []string) {
	for len(b) > 0 {
		field, typ, n := protowire.ConsumeTag(b)
		b = b[max(n, 0):]
		switch typ {
		case protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			text := fmt.Sprint(v)
			if field == 7 {
				text = "some"
			}
			out = append(out, fmt.Sprintf("%d: %s", field, text))
		case protowire.Fixed64Type:
			_, n = protowire.ConsumeFixed64(b)
			out = append(out, fmt.Sprintf("%d: some", field))
		case protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			switch {
			case depth == 0 || depth == 1 && field >= 8:
				out = append(out, fmt.Sprintf("%d: %s", field, fieldsOf(t, v, depth+1)))
			case depth == 1 && field == 3: // Envoy turns the bytes round
				out = append(out, fmt.Sprintf("%d: %d bytes", field, len(v)))
			case depth == 1 && field <= 2:
				out = append(out, fmt.Sprintf("%d: %x", field, v))
			case depth == 2 && field == 2 && len(v) == 4: // an address
				out = append(out, fmt.Sprintf("%d: some", field))
			default:
				out = append(out, fmt.Sprintf("%d: %q", field, v))
			}
		default:
			n = -1
		}
		if n < 0 {
			t.Fatalf("no protobuf: %x", b)
		}
		b = b[n:]
	}
	slices.Sort(out)
	return out
}

// names gives names to what chance has made.
type names struct {
	given, port string
	known       map[string]string
}

var (
	uuid     = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
	hexID    = regexp.MustCompile(`\b([0-9a-f]{32}|[0-9a-f]{16})\b`)
	loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

func (n *names) text(s string) string {
	if n.known == nil {
		n.known = map[string]string{}
	}
	s = uuid.ReplaceAllStringFunc(s, func(id string) string {
		if strings.Contains(n.given, id) {
			return id
		}
		return "UUID-" + id[14:15]
	})
	s = strings.ReplaceAll(s, "URX,UT", "UT,URX") // the order of flags is another matter
	s = loopback.ReplaceAllString(s, "127.0.0.1:PORT")
	return hexID.ReplaceAllStringFunc(s, func(id string) string {
		if strings.Contains(n.given, id) {
			return id
		}
		if n.known[id] == "" {
			n.known[id] = fmt.Sprintf("id%d/%d", len(n.known)+1, len(id))
		}
		return n.known[id]
	})
}

func (c *traced) collect(t *testing.T, col *collector, n *names, sb *strings.Builder, want int, guess bool) {
	if c.zipkin != nil {
		c.collectZipkin(t, col, n, sb, want, guess)
		return
	}
	var all []*tracev1.Span
	var first *tracev1.ResourceSpans
	ok := col.wait(t, "a span of "+c.name, guess, func() bool {
		all = nil
		for _, r := range col.spans[c.name] {
			first = r
			for _, s := range r.ScopeSpans {
				all = append(all, s.Spans...)
			}
		}
		return len(all) >= want
	})
	if !ok && len(all) == 0 {
		return
	}
	for _, a := range first.Resource.Attributes { // what is made up of the build
		if a.Key == "telemetry.sdk.language" || a.Key == "telemetry.sdk.version" {
			a.Value = &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: "some"}}
		}
	}
	fmt.Fprintf(sb, "resource %s scope %q versioned %v schema %q\n", n.text(attributes(first.Resource.Attributes)), first.ScopeSpans[0].Scope.GetName(), first.ScopeSpans[0].Scope.GetVersion() != "", first.SchemaUrl+first.ScopeSpans[0].SchemaUrl)
	slices.SortFunc(all, func(a, b *tracev1.Span) int { // the outermost first
		return strings.Compare(fmt.Sprint(a.StartTimeUnixNano, a.Name), fmt.Sprint(b.StartTimeUnixNano, b.Name))
	})
	for _, s := range all {
		if s.StartTimeUnixNano == 0 || s.EndTimeUnixNano < s.StartTimeUnixNano {
			t.Errorf("%s: %s from %d to %d", c.name, s.Name, s.StartTimeUnixNano, s.EndTimeUnixNano)
		}
		fmt.Fprintf(sb, "span %q %s trace=%s parent=%s id=%s state=%q flags=%d status=%s%q events=%d links=%d\n", s.Name, s.Kind, n.text(hex.EncodeToString(s.TraceId)),
			n.text(hex.EncodeToString(s.ParentSpanId)), n.text(hex.EncodeToString(s.SpanId)), s.TraceState, s.Flags, s.GetStatus().GetCode(), s.GetStatus().GetMessage(), len(s.Events), len(s.Links))
		for _, e := range s.Events {
			fmt.Fprintf(sb, "  event %s %s\n", e.Name, attributes(e.Attributes))
		}
		for _, a := range slices.SortedFunc(slices.Values(s.Attributes), func(a, b *commonv1.KeyValue) int { return strings.Compare(a.Key, b.Key) }) {
			fmt.Fprintf(sb, "  %s\n", n.text(attributes([]*commonv1.KeyValue{a})))
		}
	}
}

func attributes(list []*commonv1.KeyValue) string {
	var out []string
	for _, a := range list {
		out = append(out, fmt.Sprintf("%s=%s", a.Key, strings.Join(strings.Fields(a.Value.String()), " ")))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (c *traced) collectZipkin(t *testing.T, col *collector, n *names, sb *strings.Builder, want int, guess bool) {
	var all []obj
	var kind string
	ok := col.wait(t, "a span of "+c.name, guess, func() bool {
		all = nil
		for _, p := range col.posts {
			if p.path != "/zipkin/"+c.name {
				continue
			}
			kind = p.header.Get("content-type") + " " + p.header.Get("accept")
			if strings.HasPrefix(kind, "application/x-protobuf") {
				all = append(all, obj{"proto": fieldsOf(t, p.body, 0)})
				continue
			}
			var some []obj
			if err := json.Unmarshal(p.body, &some); err != nil {
				t.Errorf("%v: %s", err, p.body)
			}
			all = append(all, some...)
		}
		return len(all) >= want
	})
	if !ok && len(all) == 0 {
		return
	}
	fmt.Fprintf(sb, "posted %s\n", kind)
	for _, s := range all {
		for _, number := range []string{"timestamp", "duration"} {
			if v, ok := s[number].(float64); ok && v > 0 {
				s[number] = "some"
			}
		}
	}
	slices.SortFunc(all, func(a, b obj) int {
		return strings.Compare(fmt.Sprint(a["kind"], a["name"]), fmt.Sprint(b["kind"], b["name"]))
	})
	slices.Reverse(all)
	for _, s := range all {
		if a, ok := s["annotations"].([]any); ok {
			for _, x := range a {
				x.(obj)["timestamp"] = "some"
			}
		}
		if e, ok := s["localEndpoint"].(obj); ok && e["port"] != nil {
			e["port"] = "some"
		}
		if e, ok := s["localEndpoint"].(obj); ok && e["ipv4"] != nil {
			e["ipv4"] = "some"
		}
		raw, err := json.MarshalIndent(s, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(sb, "%s\n", n.text(string(raw)))
	}
}
