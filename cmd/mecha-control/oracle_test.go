//go:build oracle

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

func get(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, body)
}

func await(t *testing.T, what, url, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for last := ""; ; {
		if last = get(url); strings.Contains(last, want) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited 20 s for %s: %s says %q", what, url, last)
		}
	}
}

const bootstrapForEnvoy = `
node: {id: envoy, cluster: shop}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %[1]d}}}
dynamic_resources:
  ads_config: {api_type: %[2]s, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %[3]s}}}}]}]}
`

const listenerForEnvoy = `
name: ingress
address: {socket_address: {address: 127.0.0.1, port_value: %d}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: ingress
      rds: {route_config_name: routes, config_source: {ads: {}, resource_api_version: V3}}
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

const shop = `
name: %[1]s
type: EDS
connect_timeout: 1s
eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}
---
cluster_name: %[1]s
endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[2]d}}}}]}]
---
name: routes
virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: %[1]s}}]}]
`

// Real Envoy takes its configuration from mecha-control, becomes ready, and loses no
// request while the folder moves its route from cluster to cluster.
func TestOracleAsClient(t *testing.T) {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	for _, api := range []string{"GRPC", "DELTA_GRPC"} {
		t.Run(api, func(t *testing.T) {
			backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
			defer backend.Close()
			port := backend.Listener.Addr().(*net.TCPAddr).Port
			dir, run := t.TempDir(), t.TempDir()
			admin, ingress := ports.Free(t), ports.Free(t)
			sock := filepath.Join(run, "xds.sock")
			put(t, dir+"/shop.yaml", fmt.Sprintf(shop, "web-0", port))
			put(t, dir+"/ingress.yaml", fmt.Sprintf(listenerForEnvoy, ingress))
			startProcess(t, "serve", "--dir", dir, "--listen", "unix:"+sock, "--debounce", "10ms", "--grace", "100ms")
			put(t, run+"/envoy.yaml", fmt.Sprintf(bootstrapForEnvoy, admin, api, sock))
			cmd := exec.Command(envoy, "-c", run+"/envoy.yaml", "--disable-hot-restart", "-l", "error")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			adminURL, url := fmt.Sprintf("http://127.0.0.1:%d", admin), fmt.Sprintf("http://127.0.0.1:%d/", ingress)
			await(t, "Envoy to be ready", adminURL+"/ready", "LIVE")
			await(t, "a routed request", url, "200 hello")

			var stop atomic.Bool
			bad := make(chan string, 1)
			go func() {
				defer close(bad)
				for !stop.Load() {
					if got := get(url); got != "200 hello" {
						bad <- got
						return
					}
				}
			}()
			for i := 1; i <= 10; i++ {
				put(t, dir+"/shop.yaml", fmt.Sprintf(shop, fmt.Sprintf("web-%d", i), port))
				await(t, "the new cluster to carry requests", adminURL+fmt.Sprintf("/stats?filter=cluster.web-%d.upstream_rq_200", i), "upstream_rq_200: ")
			}
			stop.Store(true)
			if got := <-bad; got != "" {
				t.Errorf("a request failed while routes moved: %s", got)
			}
			await(t, "a refusal count of none", adminURL+"/stats?filter=cds.update_rejected|lds.update_rejected", "update_rejected: 0")
		})
	}
}
