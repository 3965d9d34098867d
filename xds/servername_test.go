package xds_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// TestNamesOfRequests: which server name is sent to a host, and for whom its certificate must
// be, follows the request (upstream_http_protocol_options) and filter state. The answers are
// those of Envoy 1.40.
func TestNamesOfRequests(t *testing.T) {
	upstream := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.TLS.ServerName, r.Host)
	}))
	t.Cleanup(upstream.Close) // its certificate is for example.com, *.example.com and 127.0.0.1
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: upstream.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(upstream.Listener.Addr().String(), ":")
	text := "static_resources:\n  listeners:\n  - name: l\n    address: {socket_address: {address: 127.0.0.1, port_value: 0}}\n" +
		`    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: t
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - {match: {prefix: /rewritten}, route: {cluster: sni, host_rewrite_literal: b.example.com}}
              - {match: {prefix: /san}, route: {cluster: san}}
              - {match: {prefix: /both}, route: {cluster: both}}
              - {match: {prefix: /header}, route: {cluster: header}}
              - {match: {prefix: /none}, route: {cluster: none}}
              - {match: {prefix: /}, route: {cluster: sni}}
          http_filters:
          - name: envoy.filters.http.set_filter_state
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
              on_request_headers:
              - {object_key: envoy.network.upstream_server_name, skip_if_empty: true, format_string: {text_format_source: {inline_string: "%REQ(x-sni)%"}, omit_empty_values: true}}
              - {object_key: envoy.network.upstream_subject_alt_names, skip_if_empty: true, format_string: {text_format_source: {inline_string: "%REQ(x-san)%"}, omit_empty_values: true}}
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - XDS
`
	for name, options := range map[string]string{
		"none":   "",
		"sni":    `typed_extension_protocol_options: {o: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http_protocol_options: {}}, upstream_http_protocol_options: {auto_sni: true}}}`,
		"san":    "upstream_http_protocol_options: {auto_san_validation: true}",
		"both":   "upstream_http_protocol_options: {auto_sni: true, auto_san_validation: true}",
		"header": "upstream_http_protocol_options: {auto_sni: true, override_auto_sni_header: X-Name}",
	} {
		text += fmt.Sprintf(`
  - name: %s
    load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}
    transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: fixed.test, common_tls_context: {validation_context: {trusted_ca: {filename: %s}}}}}
    %s
`, name, port, ca, options)
	}
	k := proxyOf(t, xdstest.New(t), text)
	const refused = "503 upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
	for _, tc := range []struct {
		path, host, want string
		fields           []string
	}{
		{"/", "a.example.com", "200 a.example.com a.example.com", nil},
		{"/", "a.example.com:8443", "200 a.example.com a.example.com:8443", nil},
		{"/", "127.0.0.1", "200 fixed.test 127.0.0.1", nil},
		{"/", "[::1]:80", "200 fixed.test [::1]:80", nil},
		{"/", "a.example.com", "200 z.test a.example.com", []string{"x-sni", "z.test"}},
		{"/rewritten", "a.example.com", "200 b.example.com b.example.com", nil},
		{"/san", "a.example.com:9", "200 fixed.test a.example.com:9", nil},
		{"/san", "other.test", refused, nil},
		{"/san", "127.0.0.1", "200 fixed.test 127.0.0.1", nil},
		{"/san", "127.0.0.2", refused, nil},
		{"/both", "example.com", "200 example.com example.com", nil},
		{"/both", "other.test", refused, nil},
		{"/both", "other.test", "200 other.test other.test", []string{"x-san", "example.com"}},
		{"/header", "a.example.com", "200 b.test a.example.com", []string{"x-name", "b.test:1"}},
		{"/header", "a.example.com", "200 a.example.com a.example.com", nil},
		{"/header", "a.example.com", "200 fixed.test a.example.com", []string{"x-name", "1.2.3.4"}},
		{"/none", "a.example.com", "200 fixed.test a.example.com", nil},
		{"/none", "a.example.com", "200 z.test a.example.com", []string{"x-sni", "z.test"}},
		{"/none", "a.example.com", refused, []string{"x-san", "nobody.test"}},
		{"/none", "a.example.com", "200 fixed.test a.example.com", []string{"x-san", "nobody.test, a.example.com"}},
	} {
		if got := k.get("l", tc.path, append([]string{"host", tc.host}, tc.fields...)...); strings.TrimSpace(got) != tc.want {
			t.Errorf("%s %s %v:\n got %s\nwant %s", tc.path, tc.host, tc.fields, got, tc.want)
		}
	}
}
