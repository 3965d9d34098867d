//go:build oracle

package verdicts

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// proxy is a running proxy under test with its lanes: each lane is one upstream,
// one listener per configuration variant and one access log, so that exchanges
// on two lanes cannot be mistaken for each other.
type proxy struct {
	lanes []*lane
}

// startProxy runs binary with Envoy's flags until the test ends.
func startProxy(t *testing.T, binary string, n int) *proxy {
	t.Helper()
	dir := t.TempDir()
	p := &proxy{}
	var listeners, clusters strings.Builder
	for i := range n {
		l, err := newLane(filepath.Join(dir, fmt.Sprintf("access%d.log", i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.close)
		for _, v := range Variants() {
			l.listen[v] = ports.Free(t)
			fmt.Fprintf(&listeners, listenerYAML, i, v, l.listen[v], httpOptions(v), l.logFile, routes(v, i))
		}
		fmt.Fprintf(&clusters, clusterYAML, i, l.backend.port)
		p.lanes = append(p.lanes, l)
	}
	admin := ports.Free(t)
	file := filepath.Join(dir, "proxy.yaml")
	text := fmt.Sprintf("admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\n", admin) +
		"static_resources:\n  listeners:\n" + listeners.String() + "  clusters:\n" + clusters.String()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-c", file, "--disable-hot-restart", "--concurrency", "1",
		"--file-flush-interval-msec", "20", "-l", "error")
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	if err := ready(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	return p
}

// ready waits until the proxy serves.
func ready(ctx context.Context, admin int) error {
	url := fmt.Sprintf("http://127.0.0.1:%d/ready", admin)
	for range 200 {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("the proxy's admin endpoint %s did not say 200 in 10 s", url)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// delayed_close_timeout only makes the closing after a refusal come sooner than
// the default second; everything else that is not a variant is a default.
const listenerYAML = `  - name: lane%d-%s
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: h
          codec_type: HTTP1
          delayed_close_timeout: 0.1s
%s          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: %s
              log_format: {text_format_source: {inline_string: "%%RESPONSE_CODE%% %%RESPONSE_FLAGS%% %%RESPONSE_CODE_DETAILS%%\n"}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
%s          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

// httpOptions is the variant's part of the connection manager.
func httpOptions(variant string) string {
	const in = "          "
	switch variant {
	case HTTP10:
		return in + "http_protocol_options: {accept_http_10: true, default_host_for_http_10: ten}\n"
	case Upgrade:
		return in + "upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: CONNECT}]\n"
	case ChunkedLength:
		return in + "http_protocol_options: {allow_chunked_length: true}\n"
	case NoUnderscores:
		return in + "common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}\n"
	case Proxy100:
		return in + "proxy_100_continue: true\n"
	}
	return ""
}

func routes(variant string, lane int) string {
	const in = "              "
	all := fmt.Sprintf(in+"- {match: {prefix: \"/\"}, route: {cluster: lane%d, timeout: 5s}}\n", lane)
	if variant == Upgrade {
		return fmt.Sprintf(in+"- {match: {connect_matcher: {}}, route: {cluster: lane%d}}\n", lane) + all
	}
	return all
}

const clusterYAML = `  - name: lane%[1]d
    connect_timeout: 2s
    type: STATIC
    load_assignment:
      cluster_name: lane%[1]d
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[2]d}}}}]}]
`
