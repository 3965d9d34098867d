package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// guarded is a service that speaks TLS alone, to clients that show its own certificate. It
// answers health checks over HTTP and gRPC, and allows every request but those for /deny.
type guarded struct {
	*httptest.Server
	checks *grpc.Server
	dir    string // with cert.pem and key.pem

	mu   sync.Mutex
	seen map[string]int // by path and protocol
}

func startGuarded(t *testing.T) *guarded {
	g := &guarded{checks: grpc.NewServer(), dir: t.TempDir(), seen: map[string]int{}}
	healthv1.RegisterHealthServer(g.checks, health.NewServer())
	g.Server = httptest.NewUnstartedServer(g)
	g.EnableHTTP2 = true
	g.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	g.StartTLS()
	t.Cleanup(g.Close)
	key, err := x509.MarshalPKCS8PrivateKey(g.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: g.Certificate().Raw}, "key.pem": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(g.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !bytes.Equal(r.TLS.PeerCertificates[0].Raw, g.Certificate().Raw) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	g.mu.Lock()
	g.seen[fmt.Sprintf("%s HTTP/%d %s", r.URL.Path, r.ProtoMajor, r.TLS.NegotiatedProtocol)]++
	g.mu.Unlock()
	switch {
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
		g.checks.ServeHTTP(w, r)
	case strings.HasPrefix(r.URL.Path, "/ask/deny"):
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// requests is what has come.
func (g *guarded) requests() (out []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for what := range g.seen {
		out = append(out, what)
	}
	slices.Sort(out)
	return out
}

const guardedYAML = `
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: LISTENER}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {name: r, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]}
          http_filters:
          - name: authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              http_service: {path_prefix: /ask, server_uri: {uri: "http://example.com", cluster: http1, timeout: 10s}}
          - {name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: http1
    health_checks: [{CHECK, http_health_check: {path: /http1}}]
    transport_socket: SECURE
    HOST http1
  - name: http2
    health_checks: [{CHECK, http_health_check: {path: /http2, codec_client_type: HTTP2}, tls_options: {alpn_protocols: [h2]}}]
    transport_socket: SECURE
    HOST http2
  - name: grpc
    health_checks: [{CHECK, grpc_health_check: {}, tls_options: {alpn_protocols: [h2]}}]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    transport_socket: SECURE
    HOST grpc
  - name: criteria
    health_checks: [{CHECK, http_health_check: {path: /criteria}, transport_socket_match_criteria: {checks: true}}]
    transport_socket_matches:
    - {name: checks, match: {checks: true}, transport_socket: SECURE}
    - {name: others, match: {}, transport_socket: {name: raw, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}
    HOST criteria
  - name: plain
    health_checks: [{CHECK, http_health_check: {path: /plain}}]
    HOST plain
`

// playGuarded: health checks and calls of filters show a client certificate, settle on a
// protocol by ALPN, and take the transport socket that they are told to.
func playGuarded(t *testing.T, program string, args ...string) {
	g := startGuarded(t)
	_, port, _ := strings.Cut(g.Listener.Addr().String(), ":")
	secure := fmt.Sprintf(`{name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {`+
		`tls_certificates: [{certificate_chain: {filename: %[1]s/cert.pem}, private_key: {filename: %[1]s/key.pem}}], `+
		`validation_context: {trusted_ca: {filename: %[1]s/cert.pem}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: example.com}}]}}}}`, g.dir)
	listener := freePort(t)
	config := strings.NewReplacer("SECURE", secure, "LISTENER", fmt.Sprint(listener),
		"CHECK", "timeout: 10s, interval: 100s, no_traffic_interval: 100s, unhealthy_threshold: 1, healthy_threshold: 1").Replace(guardedYAML)
	for _, name := range []string{"http1", "http2", "grpc", "criteria", "plain"} {
		config = strings.ReplaceAll(config, "HOST "+name+"\n", fmt.Sprintf(
			"load_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}\n", name, port))
	}
	s := startMechaAs(t, program, args, config)
	s.ready()
	for name, healthy := range map[string]int{"http1": 1, "http2": 1, "grpc": 1, "criteria": 1, "plain": 0} {
		s.until("cluster."+name+".membership_healthy", healthy)
		s.until("cluster."+name+".health_check.success", healthy)
	}
	for path, code := range map[string]int{"/allow": 200, "/deny": 401} {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", listener, path))
		if err != nil {
			t.Fatal(err)
		}
		if _ = r.Body.Close(); r.StatusCode != code {
			t.Errorf("%s: status %d", path, r.StatusCode)
		}
	}
	want := []string{
		"/ask/allow HTTP/1 ", "/ask/deny HTTP/1 ", "/criteria HTTP/1 ", "/grpc.health.v1.Health/Check HTTP/2 h2", "/http1 HTTP/1 ", "/http2 HTTP/2 h2",
	}
	if got := g.requests(); !slices.Equal(got, want) {
		t.Errorf("the service was asked %q", got)
	}
}

func TestSecureCalls(t *testing.T) { playGuarded(t, binary(t, "mecha"), "proxy") }
