package bootstrap

import (
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// accepted is a way to write something that proto3 JSON would refuse or read
// otherwise, and the same in strict proto3 JSON.
type accepted struct{ name, input, strict string }

// inCluster puts fields into the one cluster of a bootstrap.
func inCluster(fields string) string {
	return "static_resources:\n  clusters:\n  - name: c\n    " + fields + "\n"
}

func strictCluster(fields string) string {
	return `{"static_resources": {"clusters": [{"name": "c", ` + fields + `}]}}`
}

// acceptedCases are checked against Envoy as well, see oracle_test.go.
func acceptedCases() []accepted {
	list := []accepted{
		{"a single object for a list", "static_resources: {clusters: {name: c}}", `{"static_resources": {"clusters": [{"name": "c"}]}}`},
		{"single objects all the way down",
			inCluster("load_assignment: {cluster_name: c, endpoints: {lb_endpoints: {endpoint: {address: {pipe: {path: /x}}}}}}"),
			strictCluster(`"load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": "/x"}}}}]}]}`)},
		{"one grpc_services object",
			"node: {id: a, cluster: b}\ndynamic_resources: {ads_config: {api_type: grpc, grpc_services: {envoy_grpc: {cluster_name: c}}}}\n" + inCluster("http2_protocol_options: {}"),
			`{"node": {"id": "a", "cluster": "b"}, "dynamic_resources": {"ads_config": {"api_type": "GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "c"}}]}}, "static_resources": {"clusters": [{"name": "c", "http2_protocol_options": {}}]}}`},
		{"a single scalar for a list", "stats_config: {stats_matcher: {inclusion_list: {patterns: {prefix: a}}}, histogram_bucket_settings: {match: {prefix: a}, buckets: 5}}",
			`{"stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"prefix": "a"}]}}, "histogram_bucket_settings": [{"match": {"prefix": "a"}, "buckets": [5]}]}}`},
		{"null list item", "stats_config: {histogram_bucket_settings: [{match: {prefix: a}, buckets: [1]}]}\nnode: ~", `{"stats_config": {"histogram_bucket_settings": [{"match": {"prefix": "a"}, "buckets": [1]}]}}`},
		{"a second document", "node: {id: a}\n---\nnode: {id: b}\n", `{"node": {"id": "a"}}`},
		{"anchor and alias", "node: {id: &n foo, cluster: *n}", `{"node": {"id": "foo", "cluster": "foo"}}`},
		{"byte order mark", "\ufeffnode: {id: a}", `{"node": {"id": "a"}}`},
		{"windows line ends", "node:\r\n  id: a\r\n  cluster: b\r\n", `{"node": {"id": "a", "cluster": "b"}}`},
		{"free form metadata", "node: {id: a, metadata: {n: 1, s: \"1\", b: yes, o: 010, x: 0x1F, nul: ~, big: 12345678901, f: 1.5, d: 2020-01-01, l: [1, {a: b}]}}",
			`{"node": {"id": "a", "metadata": {"n": 1, "s": "1", "b": true, "o": 8, "x": 31, "nul": null, "big": "12345678901", "f": "1.5", "d": "2020-01-01", "l": [1, {"a": "b"}]}}}`},
		{"runtime keys nobody knows", "layered_runtime: {layers: [{name: a, static_layer: {\"(\": 1, \"envoy.deprecated_features:envoy.x\": true}}]}",
			`{"layered_runtime": {"layers": [{"name": "a", "static_layer": {"(": 1, "envoy.deprecated_features:envoy.x": true}}]}}`},
		{"a null entry of a map", "node: {id: a, dynamic_parameters: {a: ~}}", `{"node": {"id": "a", "dynamic_parameters": {"a": {}}}}`},
		{"any with type last", "admin: {access_log: {name: f, typed_config: {path: /dev/null, \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog}}}",
			`{"admin": {"access_log": [{"name": "f", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "/dev/null"}}]}}`},
		{"deprecated access_log_path", "admin: {access_log_path: /dev/null}", `{"admin": {"access_log_path": "/dev/null"}}`},
	}
	for _, c := range [][3]string{
		{"lower-case enum", "type: static", `"type": "STATIC"`},
		{"mixed-case enum", "type: Strict_Dns", `"type": "STRICT_DNS"`},
		{"enum by number", "lb_policy: 1", `"lb_policy": "LEAST_REQUEST"`},
		{"enum by number in quotes", `type: "1"`, `"type": "STRICT_DNS"`},
		{"camel case", "altStatName: a\n    connectTimeout: 1s", `"alt_stat_name": "a", "connect_timeout": "1s"`},
		{"camel and snake mixed", "loadAssignment: {cluster_name: c, endpoints: [{lbEndpoints: []}]}", `"load_assignment": {"cluster_name": "c", "endpoints": [{}]}`},
		{"duration with fraction", "connect_timeout: 0.25s", `"connect_timeout": "0.250s"`},
		{"duration as object", "connect_timeout: {seconds: 1, nanos: 5}", `"connect_timeout": "1.000000005s"`},
		{"number in quotes", `max_requests_per_connection: "3"`, `"max_requests_per_connection": 3`},
		{"number with point zero", "max_requests_per_connection: 3.0", `"max_requests_per_connection": 3`},
		{"number with exponent", "max_requests_per_connection: 1e3", `"max_requests_per_connection": 1000`},
		{"octal number", "max_requests_per_connection: 0644", `"max_requests_per_connection": 420`},
		{"hexadecimal number", "max_requests_per_connection: 0x10", `"max_requests_per_connection": 16`},
		{"number with plus", "max_requests_per_connection: +3", `"max_requests_per_connection": 3`},
		{"wrapper as object", "max_requests_per_connection: {value: 3}", `"max_requests_per_connection": 3`},
		{"wrapper as empty object", "max_requests_per_connection: {}", `"max_requests_per_connection": 0`},
		{"boolean in quotes", `ignore_health_on_host_removal: "true"`, `"ignore_health_on_host_removal": true`},
		{"boolean in loud quotes", `ignore_health_on_host_removal: 'TRUE'`, `"ignore_health_on_host_removal": true`},
		{"yes", "ignore_health_on_host_removal: yes", `"ignore_health_on_host_removal": true`},
		{"on", "ignore_health_on_host_removal: on", `"ignore_health_on_host_removal": true`},
		{"Y", "ignore_health_on_host_removal: Y", `"ignore_health_on_host_removal": true`},
		{"number in quotes for double", `common_lb_config: {healthy_panic_threshold: {value: "50.5"}}`, `"common_lb_config": {"healthy_panic_threshold": {"value": 50.5}}`},
		{"null for text", "alt_stat_name: ~", `"alt_stat_name": ""`},
		{"null for object", "load_assignment:", `"alt_stat_name": ""`},
		{"null for list", "load_assignment: {cluster_name: c, endpoints: }", `"load_assignment": {"cluster_name": "c"}`},
		{"fraction for text", "alt_stat_name: 1.5", `"alt_stat_name": "1.5"`},
		{"date for text", "alt_stat_name: 2020-01-01", `"alt_stat_name": "2020-01-01"`},
		{"number as block text", "alt_stat_name: |-\n      5", `"alt_stat_name": "5"`},
		{"key given twice", "connect_timeout: bad\n    connect_timeout: 1s", `"connect_timeout": "1s"`},
		{"custom tag", "alt_stat_name: !foo bar", `"alt_stat_name": "bar"`},
		{"folded text", "alt_stat_name: >-\n      a\n      b", `"alt_stat_name": "a b"`},
		{"any type with another host", `typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {"@type": x.org/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}`,
			`"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": "x.org/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}}`},
	} {
		list = append(list, accepted{c[0], inCluster(c[1]), strictCluster(c[2])})
	}
	list = append(list, []accepted{
		{"json: trailing commas", `{"node": {"id": "a",}, "bootstrap_extensions": [],}`, `{"node": {"id": "a"}}`},
		{"json: single quotes", `{'node': {'id': 'a"b'}}`, `{"node": {"id": "a\"b"}}`},
		{"json: keys without quotes", `{node: {id: "a"}}`, `{"node": {"id": "a"}}`},
		{"json: tabs", "{\n\t\"node\":\t{\"id\": \"a\"}\n}", `{"node": {"id": "a"}}`},
		{"json: surrogate pair", `{"node": {"id": "\ud83d\ude00"}}`, `{"node": {"id": "😀"}}`},
		{"json: escapes", `{"node": {"id": "\u0041\/\n\t\\"}}`, `{"node": {"id": "A/\n\t\\"}}`},
		{"json: boolean in quotes", `{"stats_flush_on_admin": "true"}`, `{"stats_flush_on_admin": true}`},
		{"json: list given twice appends", `{"static_resources": {"clusters": [{"name": "a"}], "clusters": [{"name": "b"}]}}`, `{"static_resources": {"clusters": [{"name": "a"}, {"name": "b"}]}}`},
		{"json: large number in metadata", `{"node": {"id": "a", "metadata": {"n": 12345678901, "f": 1.5}}}`, `{"node": {"id": "a", "metadata": {"n": 12345678901, "f": 1.5}}}`},
	}...)
	return list
}

func (a accepted) source() Source {
	if strings.HasPrefix(a.name, "json: ") {
		return Source{Name: "f.json", Data: []byte(a.input)}
	}
	return Source{Name: "f.yaml", Data: []byte(a.input)}
}

func TestAccepted(t *testing.T) {
	for _, c := range acceptedCases() {
		t.Run(c.name, func(t *testing.T) {
			want := new(bootstrapv3.Bootstrap)
			if err := protojson.Unmarshal([]byte(c.strict), want); err != nil {
				t.Fatalf("the test's own JSON: %v", err)
			}
			got := new(bootstrapv3.Bootstrap)
			if _, err := Decode(c.source(), got, Options{}); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, want) {
				t.Errorf("got  %s\nwant %s", prototext.Format(got), prototext.Format(want))
			}
		})
	}
}

func TestMergeKey(t *testing.T) {
	const text = `
static_resources:
  clusters:
  - &base {name: a, connect_timeout: 1s, alt_stat_name: x}
  - <<: *base
    name: b
`
	got := new(bootstrapv3.Bootstrap)
	if _, err := Decode(Source{Name: "f.yaml", Data: []byte(text)}, got, Options{}); err != nil {
		t.Fatal(err)
	}
	b := got.GetStaticResources().GetClusters()[1]
	if b.GetName() != "b" || b.GetAltStatName() != "x" || b.GetConnectTimeout().GetSeconds() != 1 {
		t.Errorf("got %s", prototext.Format(b))
	}
}

func TestFormatsOfOneMessage(t *testing.T) {
	want := &bootstrapv3.Bootstrap{StatsFlush: &bootstrapv3.Bootstrap_StatsFlushOnAdmin{StatsFlushOnAdmin: true}}
	wire, err := proto.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, src := range []Source{
		{Name: "f.yaml", Data: []byte("stats_flush_on_admin: true")},
		{Name: "f.YML", Data: []byte("stats_flush_on_admin: true")},
		{Name: "f.json", Data: []byte(`{"stats_flush_on_admin": true}`)},
		{Name: "f.pb", Data: wire},
		{Name: "f.pb_text", Data: []byte("stats_flush_on_admin: true")},
		{Name: "/dev/fd/63", Data: []byte("stats_flush_on_admin: true")},
		{Name: "/dev/fd/63", Data: []byte(`{"stats_flush_on_admin": true,}`)},
		{Name: "f.yaml", Data: []byte("{\"stats_flush_on_admin\":\ttrue}")},
		{Name: "anything", Data: wire, Format: FormatBinary},
	} {
		got := new(bootstrapv3.Bootstrap)
		if _, err := Decode(src, got, Options{}); err != nil {
			t.Errorf("%s: %v", src.Name, err)
		} else if !proto.Equal(got, want) {
			t.Errorf("%s: got %s", src.Name, prototext.Format(got))
		}
	}
}
