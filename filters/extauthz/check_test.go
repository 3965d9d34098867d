package extauthz_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// check is one request past a service over gRPC. testdata/checks.golden has what the
// service is asked, what upstream sees and what the client gets; it holds for mecha and for
// Envoy.
type check struct {
	name   string
	filter obj // in addition to grpc_service
	route  obj // check_settings
	method string
	path   string
	header map[string]string
	body   string
	answer *authv3.CheckResponse
	fail   error
	late   bool // the answer comes too late
}

type obj = map[string]any

func header(action corev3.HeaderValueOption_HeaderAppendAction, key, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: key, Value: value}, AppendAction: action}
}

func appended(yes bool, key, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: key, Value: value}, Append: wrapperspb.Bool(yes)}
}

func ok(r *authv3.OkHttpResponse) *authv3.CheckResponse {
	return &authv3.CheckResponse{Status: &status.Status{}, HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: r}}
}

func denied(code int32, r *authv3.DeniedHttpResponse) *authv3.CheckResponse {
	return &authv3.CheckResponse{Status: &status.Status{Code: code}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: r}}
}

var checks = []check{
	{name: "empty", answer: &authv3.CheckResponse{}},
	{name: "ok", path: "/ok?b=2&a=1&a=3#f", header: map[string]string{"x-one": "1", "x-two": "\xff\xfe", "x-gone": "1", "x-envoy-downstream-service-cluster": "me"},
		answer: ok(&authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				header(corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, "X-One", "append"),
				header(corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, "x-a", "append"),
				header(corev3.HeaderValueOption_ADD_IF_ABSENT, "x-one", "absent"),
				header(corev3.HeaderValueOption_ADD_IF_ABSENT, "x-b", "absent"),
				header(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, "x-c", "overwrite"),
				header(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS, "x-d", "overwrite"),
				header(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS, "x-two", "overwrite"),
			},
			HeadersToRemove: []string{"X-Gone", "host", ":path"},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{
				header(corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, "x-up", "append"),
				header(corev3.HeaderValueOption_ADD_IF_ABSENT, "x-up", "absent"),
				header(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, "x-set", "set"),
			},
		})},
	{name: "appended", header: map[string]string{"x-one": "1", "x-two": "2", "x-three": "3"},
		answer: ok(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{
			appended(true, "x-one", "more"), appended(true, "x-none", "more"), appended(false, "x-two", "set"),
			{Header: &corev3.HeaderValue{Key: "x-three", Value: "default"}},
		}, ResponseHeadersToAdd: []*corev3.HeaderValueOption{appended(true, "x-up", "more"), appended(true, "x-none", "more"), appended(false, "x-set", "set")}})},
	{name: "query", path: "/query?a=1&a=3&b=2&c=4", answer: ok(&authv3.OkHttpResponse{
		QueryParametersToSet:    []*corev3.QueryParameter{{Key: "a", Value: "5"}, {Key: "z", Value: "6"}},
		QueryParametersToRemove: []string{"c", "none"},
	})},
	{name: "metadata", answer: func() *authv3.CheckResponse {
		r := ok(&authv3.OkHttpResponse{})
		r.DynamicMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{"user": structpb.NewStringValue("me")}}
		return r
	}()},
	{name: "denied", answer: denied(7, &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: 418}, Body: "no",
		Headers: []*corev3.HeaderValueOption{
			header(0, "X-Why", "1"), header(0, "x-why", "2"), header(0, "content-type", "text/html"), appended(false, "set-cookie", "a=1"), header(0, "set-cookie", "b=2"),
		},
	})},
	{name: "denied-bare", answer: &authv3.CheckResponse{Status: &status.Status{Code: 16}}},
	{name: "denied-error", filter: obj{"status_on_error": obj{"code": 503}}, answer: &authv3.CheckResponse{
		Status: &status.Status{Code: 2}, HttpResponse: &authv3.CheckResponse_ErrorResponse{ErrorResponse: &authv3.DeniedHttpResponse{Body: "broken", Headers: []*corev3.HeaderValueOption{header(0, "x-why", "1")}}},
	}},
	{name: "failed", filter: obj{"status_on_error": obj{"code": 500}}, fail: grpcstatus.Error(codes.PermissionDenied, "no")},
	{name: "failed-allowed", filter: obj{"failure_mode_allow": true}, fail: grpcstatus.Error(codes.Unavailable, "no")},
	{name: "late", late: true},
	{name: "invalid", filter: obj{"validate_mutations": true}, answer: ok(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{header(0, "x-a", "b\r\nc: d")}})},
	{name: "invalid-name", filter: obj{"validate_mutations": true}, answer: ok(&authv3.OkHttpResponse{Headers: []*corev3.HeaderValueOption{header(0, "x a", "b")}})},
	{name: "body", method: "POST", body: "he\xffllo", filter: obj{"with_request_body": obj{"max_request_bytes": 10}}, answer: ok(nil)},
	{name: "body-bytes", method: "POST", body: "he\xffllo", filter: obj{"with_request_body": obj{"max_request_bytes": 10, "pack_as_bytes": true}, "encode_raw_headers": true}, answer: ok(nil)},
	{name: "body-route", method: "POST", body: "hello", route: obj{"with_request_body": obj{"max_request_bytes": 10}, "context_extensions": obj{"k": "route", "r": "1"}}, answer: ok(nil)},
	{name: "headers", filter: obj{"allowed_headers": obj{"patterns": []any{obj{"prefix": "x-a"}}}, "disallowed_headers": obj{"patterns": []any{obj{"exact": "x-a2"}}}},
		header: map[string]string{"x-a1": "1", "x-a2": "2", "x-b": "3"}, answer: ok(nil)},
	{name: "route-context", filter: obj{"route_metadata_context_namespaces": []any{"ns"}, "include_tls_session": true}, answer: ok(nil)},
}

// world is where the checks take place.
type world struct {
	mu    sync.Mutex
	asked map[string]*authv3.CheckRequest // by path
	seen  map[string]string               // what upstream sees, by path
	done  chan struct{}
	authv3.UnimplementedAuthorizationServer
}

func checkOf(path string) *check {
	name := strings.TrimPrefix(strings.SplitN(path, "?", 2)[0], "/")
	for i := range checks {
		if checks[i].name == name {
			return &checks[i]
		}
	}
	return &check{}
}

func (w *world) Check(_ context.Context, q *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	c := checkOf(q.Attributes.Request.Http.Path)
	w.mu.Lock()
	w.asked[c.name] = q
	w.mu.Unlock()
	if c.late {
		<-w.done // grpc-timeout tells the server, too, when it is late: it must not answer just then
	}
	if c.fail != nil {
		return nil, c.fail
	}
	return c.answer, nil
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	w.seen[checkOf(r.URL.Path).name] = fmt.Sprintf("%s %s\n%s%s", r.Method, r.RequestURI, fields(r.Header), body)
	w.mu.Unlock()
	rw.Header().Set("x-up", "up")
	rw.Header().Set("x-set", "up")
	_, _ = io.WriteString(rw, "welcome")
}

// fields are the fields of a message in alphabetical order, without those that change.
func fields(h http.Header) string {
	var sb strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		switch name {
		case "Date", "X-Request-Id", "X-Envoy-Upstream-Service-Time":
			continue
		}
		for _, v := range h[name] {
			fmt.Fprintf(&sb, "%s: %s\n", strings.ToLower(name), v)
		}
	}
	return sb.String()
}

// ask sends the request of a check and describes what came of it.
func (w *world) ask(t *testing.T, c *check, port int) string {
	path := c.path
	if path == "" {
		path = "/" + c.name
	}
	method := c.method
	if method == "" {
		method = "GET"
	}
	rq, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), strings.NewReader(c.body))
	if err != nil {
		t.Fatal(err)
	}
	rq.Host = "host"
	rq.Header.Set("user-agent", "test")
	for k, v := range c.header {
		rq.Header.Set(k, v)
	}
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	r, err := tr.RoundTrip(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(r.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprintf("asked %s\nupstream %s\nclient %d\n%s%s\n", w.describe(t, w.asked[c.name]), w.seen[c.name], r.StatusCode, fields(r.Header), body)
}

// describe writes a question down, without what changes.
func (w *world) describe(t *testing.T, q *authv3.CheckRequest) string {
	if q == nil {
		return "-"
	}
	a := q.Attributes
	if a.Request.Time == nil || a.Request.Http.Id == "" || a.Source.Address.GetSocketAddress().GetPortValue() == 0 || a.Destination.Address.GetSocketAddress().GetPortValue() == 0 {
		t.Errorf("something is missing in %v", q)
	}
	a.Request.Time, a.Request.Http.Id = nil, "ID"
	a.Source.Address.GetSocketAddress().PortSpecifier = nil
	a.Destination.Address.GetSocketAddress().PortSpecifier = nil
	delete(a.Request.Http.Headers, "x-request-id")
	if m := a.Request.Http.HeaderMap; m != nil {
		m.Headers = slices.DeleteFunc(m.Headers, func(h *corev3.HeaderValue) bool { return h.Key == "x-request-id" })
		slices.SortFunc(m.Headers, func(a, b *corev3.HeaderValue) int { return strings.Compare(a.Key, b.Key) })
	}
	raw, err := protojson.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	raw, err = json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestChecks(t *testing.T) {
	playChecks(t, func(t testing.TB, config []byte, _ string) *dialogue.Proxy { return dialogue.StartMecha(t, config) })
}

func playChecks(t *testing.T, start func(t testing.TB, config []byte, admin string) *dialogue.Proxy) {
	w := &world{asked: map[string]*authv3.CheckRequest{}, seen: map[string]string{}, done: make(chan struct{})}
	authz := dialogue.ServeGRPC(t, func(to *grpc.Server) { authv3.RegisterAuthorizationServer(to, w) })
	t.Cleanup(func() { close(w.done) })
	up := httptest.NewServer(w)
	t.Cleanup(up.Close)
	free := ports.FreeN(t, len(checks)+1)
	admin := free[len(checks)]
	listeners := []any{}
	for i := range checks {
		listeners = append(listeners, checks[i].listener(free[i]))
	}
	config, err := json.Marshal(obj{
		"admin": obj{"address": dialogue.SocketAddress(admin)},
		"static_resources": obj{"listeners": listeners, "clusters": []any{
			dialogue.StaticCluster("up", up.Listener.Addr().(*net.TCPAddr).Port, false), dialogue.StaticCluster("authz", authz.(*net.TCPAddr).Port, true),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	start(t, config, fmt.Sprintf("127.0.0.1:%d", admin))
	var got strings.Builder
	for i := range checks {
		fmt.Fprintf(&got, "=== %s\n%s\n", checks[i].name, w.ask(t, &checks[i], free[i]))
	}
	dialogue.Golden(t, "testdata/checks.golden", got.String())
}

const (
	ofFilter = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
	ofRoute  = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
)

func (c *check) listener(port int) obj {
	timeout := "30s"
	if c.late {
		timeout = "0.1s"
	}
	f := obj{"@type": ofFilter, "transport_api_version": "V3", "metadata_context_namespaces": []any{"ns"},
		"grpc_service": obj{"envoy_grpc": obj{"cluster_name": "authz"}, "timeout": timeout, "initial_metadata": []any{obj{"key": "x-from", "value": "test"}}}}
	maps.Copy(f, c.filter)
	route := obj{"match": obj{"prefix": "/"}, "route": obj{"cluster": "up"}, "metadata": obj{"filter_metadata": obj{"ns": obj{"k": "v"}}}}
	host := obj{"name": "all", "domains": []any{"*"}, "routes": []any{route}, "typed_per_filter_config": obj{
		"envoy.filters.http.ext_authz": obj{"@type": ofRoute, "check_settings": obj{"context_extensions": obj{"k": "host", "h": "1"}}},
	}}
	if c.route != nil {
		route["typed_per_filter_config"] = obj{"envoy.filters.http.ext_authz": obj{"@type": ofRoute, "check_settings": c.route}}
	}
	hcm := obj{
		"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": c.name,
		"route_config": obj{"virtual_hosts": []any{host}},
		"http_filters": []any{
			obj{"name": "envoy.filters.http.ext_authz", "typed_config": f},
			obj{"name": "envoy.filters.http.router", "typed_config": obj{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
		},
	}
	if c.name == "metadata" {
		route["response_headers_to_add"] = []any{obj{"header": obj{"key": "x-metadata", "value": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:user)%"}}}
	}
	return obj{"name": c.name, "address": dialogue.SocketAddress(port), "filter_chains": []any{obj{"filters": []any{obj{"name": "hcm", "typed_config": hcm}}}}}
}
