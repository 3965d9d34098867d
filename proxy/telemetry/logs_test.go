package telemetry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// logged is one exchange of which a log tells a service. testdata/logs.golden has what it
// is told, as Envoy does it.
type logged struct {
	name string
	log  obj // of an access log
	tcp  bool
	path string
}

const (
	ofHTTPLog = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
	ofTCPLog  = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig"
	ofOTLPLog = "type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig"
)

// grpcCommon is a common_config that sends at once.
func grpcCommon(name string, more obj) obj {
	c := obj{"log_name": name, "transport_api_version": "V3", "buffer_size_bytes": 0, "grpc_service": obj{"envoy_grpc": obj{"cluster_name": "otlp"}}}
	for k, v := range more {
		c[k] = v
	}
	return c
}

var otlpBody = obj{"kvlist_value": obj{"values": []any{
	obj{"key": "method", "value": obj{"string_value": "%REQ(:METHOD)%"}},
	obj{"key": "code", "value": obj{"string_value": "%RESPONSE_CODE%"}},
	obj{"key": "list", "value": obj{"array_value": obj{"values": []any{obj{"string_value": "%PROTOCOL%"}, obj{"string_value": "%REQ(x-none)%"}}}}},
}}}

var logs = []logged{
	{name: "http", log: obj{"@type": ofHTTPLog, "common_config": grpcCommon("http", obj{
		"filter_state_objects_to_log": []any{"my.state", "none"},
		"custom_tags":                 []any{obj{"tag": "t", "literal": obj{"value": "v"}}, obj{"tag": "h", "request_header": obj{"name": "x-one"}}},
	}), "additional_request_headers_to_log": []any{"X-One", "x-two", "x-none"}, "additional_response_headers_to_log": []any{"x-up"}, "additional_response_trailers_to_log": []any{"x-end"}}},
	{name: "http-404", path: "/404", log: obj{"@type": ofHTTPLog, "common_config": grpcCommon("http-404", nil)}},
	{name: "tcp", tcp: true, log: obj{"@type": ofTCPLog, "common_config": grpcCommon("tcp", nil)}},
	{name: "tcp-of-http", log: obj{"@type": ofTCPLog, "common_config": grpcCommon("tcp-of-http", nil)}},
	{name: "otlp", log: obj{"@type": ofOTLPLog, "common_config": grpcCommon("otlp", nil), "body": otlpBody,
		"attributes":          obj{"values": []any{obj{"key": "path", "value": obj{"string_value": "%REQ(:PATH)%"}}}},
		"resource_attributes": obj{"values": []any{obj{"key": "r", "value": obj{"string_value": "s"}}}}}},
	{name: "otlp-bare", log: obj{"@type": ofOTLPLog, "log_name": "otlp-bare", "grpc_service": obj{"envoy_grpc": obj{"cluster_name": "otlp"}}, "buffer_size_bytes": 0, "disable_builtin_labels": true,
		"body": obj{"string_value": "%REQ(:METHOD)% %RESPONSE_CODE%"}, "resource_attributes": obj{"values": []any{obj{"key": "log_name", "value": obj{"string_value": "otlp-bare"}}}},
		"custom_tags": []any{obj{"tag": "t", "literal": obj{"value": "v"}}}, "filter_state_objects_to_log": []any{"my.state"}}},
	{name: "otlp-http", log: obj{"@type": ofOTLPLog, "log_name": "otlp-http", "http_service": obj{"http_uri": obj{"uri": "http://web.test/otlp/v1/logs", "cluster": "web", "timeout": "5s"}}, "buffer_size_bytes": 0,
		"body": obj{"string_value": "%REQ(:METHOD)%"}}},
}

// heard are the messages that a service was told, by the name of the log.
func (c *collector) heard(name string, m proto.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logs[name] = append(c.logs[name], m)
	c.tell()
}

func (c *collector) StreamAccessLogs(s alsv3.AccessLogService_StreamAccessLogsServer) error {
	name := ""
	for {
		m, err := s.Recv()
		if err == io.EOF {
			return s.SendAndClose(&alsv3.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		if id := m.Identifier; id != nil {
			name = id.LogName
			if id.Node.GetId() != "node-1" {
				return fmt.Errorf("the node is %v", id.Node)
			}
			m.Identifier = nil
		}
		c.heard(name, m)
	}
}

func (c *collector) exportLogs(all []*logsv1.ResourceLogs) {
	for _, r := range all {
		c.heard(attribute(r.Resource.GetAttributes(), "log_name"), r)
	}
}

func (c *logged) listener(port int) obj {
	entry := []any{obj{"name": "log", "typed_config": c.log}}
	if c.tcp {
		return obj{"name": c.name, "address": dialogue.SocketAddress(port), "filter_chains": []any{obj{"filters": []any{obj{"name": "tcp", "typed_config": obj{
			"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": c.name, "cluster": "up", "access_log": entry,
		}}}}}}
	}
	state := obj{"@type": "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config", "on_request_headers": []any{obj{
		"object_key": "my.state", "factory_key": "envoy.string", "format_string": obj{"text_format_source": obj{"inline_string": "value"}},
	}}}
	hcm := obj{
		"@type": ofHCM, "stat_prefix": c.name, "codec_type": "AUTO", "access_log": entry,
		"route_config": obj{"virtual_hosts": []any{obj{"name": "all", "domains": []any{"*"}, "routes": []any{
			obj{"name": "gone", "match": obj{"prefix": "/404"}, "direct_response": obj{"status": 404}},
			obj{"name": "r", "match": obj{"prefix": "/"}, "route": obj{"cluster": "up"}},
		}}}},
		"http_filters": []any{
			obj{"name": "state", "typed_config": state},
			obj{"name": "envoy.filters.http.router", "typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
		},
	}
	return obj{"name": c.name, "address": dialogue.SocketAddress(port), "filter_chains": []any{obj{"filters": []any{obj{"name": "hcm", "typed_config": hcm}}}}}
}

func TestLogs(t *testing.T) {
	p := playLogs(t, func(t testing.TB, config []byte, _ string) *dialogue.Proxy { return dialogue.StartMecha(t, config) })
	for name, want := range map[string]string{
		"access_logs.grpc_access_log.logs_written": "4", "access_logs.grpc_access_log.grpc_entries_flushed": "4", "access_logs.grpc_access_log.logs_dropped": "0",
		"access_logs.open_telemetry_access_log.logs_written": "3", "access_logs.open_telemetry_access_log.logs_dropped": "0",
	} {
		p.WaitStat(t, name, want)
	}
}

func playLogs(t *testing.T, start func(t testing.TB, config []byte, admin string) *dialogue.Proxy) *dialogue.Proxy {
	col := startCollector(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-up", "up")
		w.Header().Set("date", "Sat, 01 Jan 2000 00:00:00 GMT")
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(up.Close)
	free := ports.FreeN(t, len(logs)+1)
	admin := free[len(logs)]
	var listeners []any
	for i := range logs {
		listeners = append(listeners, logs[i].listener(free[i]))
	}
	upc := dialogue.StaticCluster("up", up.Listener.Addr().(*net.TCPAddr).Port, false)
	upc["alt_stat_name"] = "up_alt"
	config, err := json.Marshal(obj{
		"node":  obj{"id": "node-1", "cluster": "my-cluster", "locality": obj{"zone": "zone-1"}},
		"admin": obj{"address": dialogue.SocketAddress(admin)},
		"static_resources": obj{"listeners": listeners, "clusters": []any{
			upc, dialogue.StaticCluster("otlp", col.grpc, true), dialogue.StaticCluster("web", col.http, false),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, config, fmt.Sprintf("127.0.0.1:%d", admin))
	var got strings.Builder
	for i := range logs {
		fmt.Fprintf(&got, "=== %s\n%s", logs[i].name, logs[i].play(t, col, free[i]))
	}
	dialogue.Golden(t, "testdata/logs.golden", got.String())
	return p
}

func (c *logged) play(t *testing.T, col *collector, port int) string {
	method, path := "POST", c.path
	if path == "" {
		path = "/path"
	}
	rq, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), strings.NewReader("12345"))
	if err != nil {
		t.Fatal(err)
	}
	rq.Host = "host"
	for k, v := range map[string]string{"user-agent": "test", "referer": "http://before/", "x-one": "1", "x-two": "\xff", "x-request-id": "12345678-1234-4234-8234-123456789abc"} {
		rq.Header.Set(k, v)
	}
	tr := &http.Transport{DisableCompression: true}
	r, err := tr.RoundTrip(rq)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(r.Body)
	r.Body.Close()
	tr.CloseIdleConnections()
	var sb strings.Builder
	col.wait(t, "a log of "+c.name, false, func() bool { return len(col.logs[c.name]) > 0 })
	col.mu.Lock()
	defer col.mu.Unlock()
	for _, m := range col.logs[c.name] {
		raw, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(masked(v)); err != nil {
			t.Fatal(err)
		}
		sb.Write(out.Bytes())
	}
	return sb.String()
}

// masked hides what changes: times, ports, and sizes that depend on them.
func masked(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			// We do not measure heads to and from hosts, and connections have no ID but their number.
			if strings.HasPrefix(k, "upstreamHeaderBytes") || k == "streamId" && v["accessLogType"] == "TcpConnectionEnd" {
				delete(v, k)
				continue
			}
			volatile := strings.HasPrefix(k, "timeTo") || slices.Contains([]string{
				"startTime", "duration", "portValue", "timeUnixNano", "observedTimeUnixNano", "downstreamWireBytesSent", "downstreamWireBytesReceived", "upstreamWireBytesSent",
				"upstreamWireBytesReceived", "requestHeadersBytes", "responseHeadersBytes", "upstreamHeaderBytesSent", "upstreamHeaderBytesReceived",
				"downstreamHeaderBytesReceived", "downstreamHeaderBytesSent", "receivedBytes", "sentBytes",
			}, k)
			if volatile {
				x = "some"
			}
			v[k] = masked(x)
		}
	case []any:
		for i := range v {
			v[i] = masked(v[i])
		}
	}
	return v
}
