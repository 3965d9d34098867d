//go:build oracle

package xds_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// envoyOf starts Envoy over ADS; get asks its listener on port.
func envoyOf(t *testing.T, plane *xdstest.Server, port int) (get func(path string, header ...string) string) {
	t.Helper()
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	host, xdsPort, _ := strings.Cut(plane.Address(), ":")
	path := filepath.Join(t.TempDir(), "envoy.yaml")
	text := fmt.Sprintf(`
node: {id: me, cluster: c}
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  lds_config: {resource_api_version: V3, ads: {}}
static_resources:
  clusters:
  - name: xds
    connect_timeout: 5s
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}
`, host, xdsPort)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(envoy, "-c", path, "--base-id", fmt.Sprint(20000+os.Getpid()%10000), "--concurrency", "1", "--log-level", "warning")
	cmd.Stderr = testLog{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	get = func(path string, header ...string) string {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			if header[i] == "host" {
				req.Host = header[i+1]
			}
			req.Header.Set(header[i], header[i+1])
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return fmt.Sprintf("%d %s", resp.StatusCode, body)
	}
	until(t, "Envoy's listener", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return get
}

// TestOracleOnDemand: with the same control plane, Envoy and mecha answer the same requests
// the same way.
func TestOracleOnDemand(t *testing.T) {
	const from = "{resource_api_version: V3, ads: {}}"
	vhost := func(t *testing.T, name, domain string) *routev3.VirtualHost {
		return message(t, &routev3.VirtualHost{}, fmt.Sprintf(`{name: %s, domains: [%q], routes: [{match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: %q}}}]}`, name, domain, name))
	}
	backend := ports.Free(t) // nobody there: 503 of another kind than without a cluster
	cases := []struct {
		name, manager string
		set           func(t *testing.T, plane *xdstest.Server)
		requests      [][]string
	}{
		{"virtual hosts", "rds: {route_config_name: r, config_source: " + from + "}\n" + onDemand(""),
			func(t *testing.T, plane *xdstest.Server) {
				plane.Set(message(t, &routev3.RouteConfiguration{}, `{name: r, vhds: {config_source: `+from+`}, virtual_hosts: [{name: fixed, domains: [fixed], routes: [{match: {prefix: "/"}, direct_response: {status: 200}}]}]}`))
				plane.SetRaw("r/a", xdstest.Pack(t, vhost(t, "a", "a")))
				plane.SetRaw("r/many", xdstest.Pack(t, vhost(t, "many", "*.b")), "r/x.b")
			},
			[][]string{{"host", "fixed"}, {"host", "a"}, {"host", "x.b"}, {"host", "A"}}},
		{"scopes", strings.Replace(scoped(from, from), routerFilter, onDemand(""), 1),
			func(t *testing.T, plane *xdstest.Server) {
				plane.Set(
					message(t, &routev3.ScopedRouteConfiguration{}, scopeOf("a", "blue", "on_demand: true, route_configuration_name: ra")),
					message(t, &routev3.ScopedRouteConfiguration{}, scopeOf("b", "red", "route_configuration_name: rb")),
					message(t, &routev3.RouteConfiguration{}, answers("ra", "blue")),
					message(t, &routev3.RouteConfiguration{}, answers("rb", "red")),
				)
			},
			[][]string{{"x-scope", "blue"}, {"x-scope", "red"}, {"x-scope", "green"}, {}}},
		{"clusters", `
route_config: {name: r, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: "/"}, route: {cluster_header: x-to}}]}]}
` + onDemand("odcds: {source: "+from+", timeout: 1s}"),
			func(_ *testing.T, plane *xdstest.Server) {
				plane.Set(xdstest.StaticCluster("c", "127.0.0.1", uint32(backend)))
			},
			[][]string{{"x-to", "c"}, {"x-to", "none"}, {}}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			plane := xdstest.New(t)
			port := ports.Free(t)
			l := httpListener(t, "l", tc.manager)
			l.Address = xdstest.SocketAddress("127.0.0.1", uint32(port))
			plane.Set(l)
			tc.set(t, plane)
			get := envoyOf(t, plane, port)
			var want []string
			for _, h := range tc.requests {
				want = append(want, get("/", h...))
			}
			for _, r := range plane.Requests() {
				if r.Error != "" {
					t.Errorf("Envoy refuses: %s", r.Error)
				}
			}
			own := xdstest.New(t)
			own.Set(httpListener(t, "l", tc.manager))
			tc.set(t, own)
			k := proxyOf(t, own, fmt.Sprintf(overADS, "DELTA_GRPC"))
			for i, h := range tc.requests {
				got := k.get("l", "/", h...)
				if code, _, _ := strings.Cut(want[i], " "); !strings.HasPrefix(got, code) || code == "200" && got != want[i] {
					t.Errorf("%v: mecha answers %q, Envoy %q", h, got, want[i])
				}
				t.Logf("%v: %s", h, want[i])
			}
		})
	}
}
