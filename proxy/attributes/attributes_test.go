package attributes

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// TestFind: what Envoy's dialogues in filters/rbac do not reach.
func TestFind(t *testing.T) {
	host := meta.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}
	s := &filter.Stream{Conn: &meta.Conn{
		ID: 7, Remote: meta.Addr{Path: "/sock"}, FilterChain: "chain", TLS: &meta.TLS{Version: "TLSv1.3"}, ServerName: "sni",
	}}
	s.Meta = meta.Stream{
		Code: 503, Details: "d", Flags: meta.NoHealthyUpstream, UpstreamHost: host, Attempts: 2, PoolReady: time.Second,
		BytesReceived: 3, End: time.Minute, UpstreamStart: 1, ResponseEnd: 5,
	}
	s.Request.AddID(header.Path, "/p?q#f")
	s.ResponseTrailers.AddID(header.GrpcStatus, "5")
	src := Source{Stream: s}
	for name, want := range map[string]any{
		"request.query": "q", "request.url_path": "/p", "request.size": int64(3), "request.duration": time.Minute,
		"request.method": nil, "request.nonsense": nil,
		"response.code": int64(503), "response.code_details": "d", "response.flags": int64(2), "response.grpc_status": int64(5),
		"response.backend_latency": time.Duration(4),
		"connection.id":            uint64(7), "connection.mtls": false, "connection.tls_version": "TLSv1.3",
		"connection.requested_server_name": "sni", "connection.subject_peer_certificate": nil,
		"source.address": "/sock", "source.port": nil, "destination.address": nil,
		"upstream.address": "10.0.0.1:80", "upstream.port": int64(80), "upstream.request_attempt_count": int64(2),
		"upstream.cx_pool_ready_duration": time.Second, "upstream.tls_version": nil,
		"xds.filter_chain_name": "chain", "xds.cluster_name": nil, "nonsense": nil, "nonsense.x": nil,
	} {
		if got := src.Find(name); got != want {
			t.Errorf("%s is %#v, want %#v", name, got, want)
		}
	}
	if v := (Source{}).Find("request.path"); v != nil {
		t.Errorf("nothing has the path %v", v)
	}
	if !IsObject("request.path") || IsObject("requests.path") {
		t.Error("IsObject")
	}
}
