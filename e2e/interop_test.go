package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// interopCases are those that grpc-go's interop client knows, by the names of
// https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md.
//
// Not among them are the ones that log in to Google's cloud (compute_engine_creds,
// service_account_creds, jwt_token_creds, per_rpc_creds, oauth2_auth_token,
// google_default_credentials, compute_engine_channel_credentials), and pick_first_unary,
// which asks for the name of a server that grpc-go's does not tell. The client does not
// know compressed calls: TestCompressed has them.
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response",
	"status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service",
	"orca_per_rpc", "orca_oob", "rpc_soak", "channel_soak",
}

// interopFlags are what some cases want besides their name. The limits on time are
// those of a busy machine: a call that hangs is found, a slow one is none of our business.
func interopFlags(name string) []string {
	if strings.HasPrefix(name, "orca_") {
		return []string{`--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`}
	}
	if strings.HasSuffix(name, "_soak") {
		return []string{"--soak_iterations=1000", "--soak_num_threads=10", "--soak_per_iteration_max_acceptable_latency_ms=30000", "--soak_overall_timeout_seconds=120"}
	}
	return nil
}

// interopPrograms builds grpc-go's interop client and server, as the module has them. They
// find their certificates beside their source.
var interopPrograms = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "interop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath=false", "-o", dir+"/", "google.golang.org/grpc/interop/client", "google.golang.org/grpc/interop/server")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

// interopServer starts the server and returns its port.
func interopServer(t *testing.T, flags ...string) uint32 {
	t.Helper()
	dir, err := interopPrograms()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	start(t, filepath.Join(dir, "server"), append(flags, "--port="+strconv.Itoa(int(port)))...)
	listening(t, local(port))
	return port
}

// interopClient runs one case against addr.
func interopClient(t *testing.T, addr, name string, flags ...string) {
	t.Helper()
	dir, err := interopPrograms()
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	flags = append(flags, interopFlags(name)...)
	p := start(t, filepath.Join(dir, "client"), append(flags, "--server_host="+host, "--server_port="+port, "--test_case="+name)...)
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	case <-time.After(150 * time.Second):
		t.Error("it has not ended")
	}
}

// interopCalls runs all cases against addr, and then sees that nothing of them stays in mecha.
func interopCalls(t *testing.T, m *sidecar, addr string, flags ...string) {
	t.Helper()
	interopClient(t, addr, "large_unary", flags...) // opens what may stay open
	goroutines, sockets := m.stat("server.goroutines"), m.sockets()
	for _, name := range interopCases {
		t.Run(name, func(t *testing.T) { interopClient(t, addr, name, flags...) })
	}
	eventually(t, "goroutines and sockets to go", func() string {
		if g, n := m.stat("server.goroutines"), m.sockets(); g > goroutines+10 || n > sockets+8 {
			return fmt.Sprintf("%d goroutines (%d at first), %d sockets (%d at first)", g, goroutines, n, sockets)
		}
		return ""
	})
}

// tcpShop is one listener whose connections go to one backend as they are.
func tcpShop(port, backend uint32) string {
	return fmt.Sprintf(`
static_resources:
  clusters:
  - %s
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: in, cluster: a}
`, indent(clusterYAML("a", backend), 4), port)
}

// TestInteropTCP: gRPC passes through tcp_proxy.
func TestInteropTCP(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	m := startMecha(t, tcpShop(port, interopServer(t)))
	m.ready()
	interopCalls(t, m, local(port))
}

// httpShop is a listener with a connection manager, in front of one backend that speaks
// HTTP/2. server and client are transport sockets, or empty.
func httpShop(port, backend uint32, server, client string) string {
	return fmt.Sprintf(`
static_resources:
  clusters:
  - %s
    %s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          http_filters:
          - {name: stats, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig, stats_for_all_methods: true}}
          - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config: {virtual_hosts: [{name: a, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: a, timeout: 0s}}]}]}
      %s
`, indent(clusterYAML("a", backend), 4), client, port, server)
}

// TestInteropHTTP: gRPC passes through the connection manager, by prior knowledge.
func TestInteropHTTP(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	m := startMecha(t, httpShop(port, interopServer(t), "", ""))
	m.ready()
	interopCalls(t, m, local(port))
	if m.stat("cluster.a.grpc.grpc.testing.TestService.UnaryCall.success") < 2000 {
		t.Error("the calls of the soaks were not counted")
	}
}

// interopCertificates is where those of grpc-go are.
func interopCertificates(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "google.golang.org/grpc/testdata").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestInteropTLS: the same with TLS on both sides, where ALPN chooses HTTP/2.
func TestInteropTLS(t *testing.T) {
	t.Parallel()
	certificates := interopCertificates(t)
	const tls = `transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.%s}}`
	server := fmt.Sprintf(tls, fmt.Sprintf("DownstreamTlsContext, common_tls_context: {alpn_protocols: [h2], tls_certificates: [{certificate_chain: {filename: %s}, private_key: {filename: %s}}]}",
		filepath.Join(certificates, "server1.pem"), filepath.Join(certificates, "server1.key")))
	client := fmt.Sprintf(tls, fmt.Sprintf("UpstreamTlsContext, sni: x.test.youtube.com, common_tls_context: {alpn_protocols: [h2], validation_context: {trusted_ca: {filename: %s}}}",
		filepath.Join(certificates, "ca.pem")))
	port := freePort(t)
	m := startMecha(t, httpShop(port, interopServer(t, "--use_tls"), server, client))
	m.ready()
	interopCalls(t, m, local(port), "--use_tls", "--use_test_ca", "--server_host_override=x.test.youtube.com")
}
