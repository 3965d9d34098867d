//go:build oracle

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// shapely is a configuration that has something to show in every form of the admin endpoint.
// UP and PORT stand for ports.
const shapely = `
node: {id: node, cluster: c, locality: {region: r}, metadata: {a: b}}
layered_runtime: {layers: [{name: base, static_layer: {a: {b: 5}}}, {name: admin, admin_layer: {}}]}
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {name: r, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: web}}]}]}
          http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
  clusters:
  - name: web
    alt_stat_name: alt
    type: STATIC
    outlier_detection: {}
    health_checks: [{timeout: 1s, interval: 100s, unhealthy_threshold: 2, healthy_threshold: 1, tcp_health_check: {}}]
    circuit_breakers: {thresholds: [{max_connections: 7}]}
    load_assignment:
      cluster_name: web
      policy: {overprovisioning_factor: 150}
      endpoints:
      - locality: {region: r, zone: z, sub_zone: s}
        lb_endpoints:
        - {load_balancing_weight: 7, endpoint: {hostname: h.example, address: {socket_address: {address: 127.0.0.1, port_value: UP}}}, metadata: {filter_metadata: {envoy.lb: {canary: true}}}}
        - {health_status: DRAINING, endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: UP}}}}
`

// TestOracleAdminShapes: every JSON form of the admin endpoint has the fields that Envoy's
// has, of the same kinds; what is said here is all that differs.
func TestOracleAdminShapes(t *testing.T) {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	up := startBackend(t, "up")
	run := func(program string, args ...string) *sidecar {
		config := strings.NewReplacer("PORT", fmt.Sprint(freePort(t)), "UP", fmt.Sprint(up.port)).Replace(shapely)
		s := startMechaAs(t, program, append(args, "--disable-hot-restart", "--concurrency", "1", "-l", "error"), config)
		s.ready()
		return s
	}
	theirs, ours := run(envoy), run(binary(t, "mecha"), "proxy")
	eventually(t, "health checks", func() string {
		for _, s := range []*sidecar{theirs, ours} {
			if _, text := s.get("/clusters"); strings.Contains(text, "failed_active_hc") {
				return text
			}
		}
		return ""
	})
	differs := map[string]string{
		".node.extensions[].type_urls[]": "what kinds of configuration an extension takes is told, too",
		".configs[].static_endpoint_configs[].endpoint_config.endpoints[].load_balancing_weight": "a weight of 0 for a locality that has none is left out",
		".configs[].endpoint_config.endpoints[].load_balancing_weight":                           "the same",
	}
	for _, path := range []string{
		"/server_info", "/clusters?format=json", "/listeners?format=json", "/certs", "/memory", "/init_dump", "/runtime",
		"/config_dump", "/config_dump?include_eds", "/config_dump?resource=static_listeners", "/config_dump?resource=static_clusters",
		"/config_dump?resource=static_clusters&mask=cluster.name", "/config_dump?resource=static_route_configs", "/config_dump?mask=bootstrap",
		"/config_dump?resource=static_endpoint_configs&include_eds", "/config_dump?name_regex=.*w.*", "/config_dump?name_regex=x",
		"/stats?format=json&filter=membership", "/stats?format=json&filter=cx_length_ms",
		"/stats?format=json&histogram_buckets=cumulative&filter=cx_length_ms", "/stats?format=json&histogram_buckets=disjoint&filter=cx_length_ms",
	} {
		got, want := shapeOf(t, ours, path), shapeOf(t, theirs, path)
		for _, field := range union(got, want) {
			if _, known := differs[field]; !known && got[field] != want[field] {
				t.Errorf("%s: %s is %q, in Envoy %q", path, field, got[field], want[field])
			}
		}
	}
	for name, s := range map[string]*sidecar{"mecha": ours, "Envoy": theirs} {
		if n := s.stat("cluster.alt.membership_excluded"); n != 1 {
			t.Errorf("%s: %d hosts are excluded", name, n)
		}
	}
	for _, line := range []string{"canary::true", "health_flags::/eds_status_draining", "health_flags::healthy", "weight::7"} {
		for name, s := range map[string]*sidecar{"mecha": ours, "Envoy": theirs} {
			if _, text := s.get("/clusters"); !strings.Contains(text, "::"+line+"\n") {
				t.Errorf("%s does not say %s:\n%s", name, line, text)
			}
		}
	}
}

// shapeOf asks for JSON and returns the kind of value at every path in it.
func shapeOf(t *testing.T, s *sidecar, path string) map[string]string {
	t.Helper()
	code, text := s.get(path)
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil || code != 200 {
		t.Fatalf("%s: %d %v\n%s", path, code, err, text)
	}
	out := map[string]string{}
	shape(v, "", out)
	return out
}

func shape(v any, at string, out map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			shape(x, at+"."+k, out)
		}
	case []any:
		for _, x := range v {
			shape(x, at+"[]", out)
		}
	default:
		out[at] = fmt.Sprintf("%T", v)
	}
}

func union(a, b map[string]string) (out []string) {
	for _, m := range []map[string]string{a, b} {
		for k := range m {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
