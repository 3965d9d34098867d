//go:build oracle

package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// like is a Source that shows what Envoy was configured with.
type like struct {
	*process
	port int
}

func (l like) Clusters() []ClusterView {
	limits := Thresholds{1024, 1024, 1024, 3}
	none := &OutlierView{-1, -1, -1, -1}
	return []ClusterView{{Name: "web", Observability: "alt", Default: limits, High: limits, Outlier: none, Hosts: []HostView{
		{Address: addr("127.0.0.1:28199"), Hostname: "h.example", Weight: 7, Priority: 1, Region: "r", Zone: "z", SubZone: "s", Health: EDSStatusDraining, EDSHealth: "DRAINING", SuccessRate: -1, LocalOriginSuccessRate: -1},
		{Address: addr("[::1]:28198"), Weight: 1, Priority: 1, Region: "r", Zone: "z", SubZone: "s", SuccessRate: -1, LocalOriginSuccessRate: -1},
	}}}
}

func (l like) Listeners() []ListenerView {
	return []ListenerView{{Name: "l", Address: addr(fmt.Sprintf("127.0.0.1:%d", l.port))}}
}

func (l like) Runtime() RuntimeView {
	return RuntimeView{Layers: []string{"base"}, Entries: map[string]RuntimeEntry{"a.b": {"5", []string{"5"}}}}
}

const envoyYAML = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
layered_runtime: {layers: [{name: base, static_layer: {a: {b: 5}}}]}
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: web}}]}]}
          http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
  clusters:
  - name: web
    alt_stat_name: alt
    type: STATIC
    outlier_detection: {}
    load_assignment:
      cluster_name: web
      endpoints:
      - locality: {region: r, zone: z, sub_zone: s}
        priority: 1
        lb_endpoints:
        - {health_status: DRAINING, load_balancing_weight: 7, endpoint: {hostname: h.example, address: {socket_address: {address: 127.0.0.1, port_value: 28199}}}}
        - {endpoint: {address: {socket_address: {address: "::1", port_value: 28198}}}}
`

// What Envoy shows about a configuration, and refuses, we show and refuse too.
func TestOracle(t *testing.T) {
	bin := os.Getenv("MECHA_ENVOY")
	if bin == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	adminPort, listenerPort := ports.Free(t), ports.Free(t)
	envoy := exec.CommandContext(t.Context(), bin, "--disable-hot-restart", "--concurrency", "1", "-l", "critical",
		"--config-yaml", fmt.Sprintf(envoyYAML, adminPort, listenerPort))
	envoy.Stderr = os.Stderr
	if err := envoy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = envoy.Process.Kill() // it has nothing to save
		_ = envoy.Wait()
	}()
	ours := start(t, nil)
	ours.srv.cfg.Source = like{ours.proc, listenerPort}
	cl := ours.store.Scope("cluster").Tag("envoy_cluster_name", "alt")
	cl.Counter("upstream_rq_total", "Requests.")
	cl.Gauge("membership_total", "Hosts.").Set(2)
	cl.Histogram("upstream_cx_length_ms", "Time.")
	l := ours.store.Scope("listener").Tag("envoy_listener_address", fmt.Sprintf("127.0.0.1_%d", listenerPort))
	var rq downstream
	l.Child("http").Tag("envoy_http_conn_manager_prefix", "in").Bind(&rq)
	theirs := *ours
	theirs.base = fmt.Sprintf("http://127.0.0.1:%d", adminPort)

	deadline := time.Now().Add(20 * time.Second)
	for {
		resp, err := http.Get(theirs.base + "/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("Envoy does not get ready")
		}
	}
	names := `filter=cluster\.alt\.(upstream_rq_total|membership_total|upstream_cx_length_ms)|^listener.*http\.in\.`
	for _, req := range []string{
		"GET /clusters", "GET /clusters?format=json", "GET /listeners", "GET /listeners?format=json", "GET /runtime", "GET /certs",
		"GET /init_dump", "GET /hot_restart_version", "GET /ready", "GET /stats?" + names, "GET /stats?format=json&" + names,
		"GET /stats/prometheus?" + names, "GET /stats?histogram_buckets=cumulative&" + names, "GET /stats?usedonly&" + names,
		"GET /stats?histogram_buckets=detailed&" + names, "GET /stats/prometheus?usedonly&" + names, "GET /stats?invert_filter&filter=[a-z]",
		"GET /quitquitquit", "PUT /drain_listeners", "POST /healthcheck/ok", "POST /reset_counters", "POST /reopen_logs", "POST /ready",
		"POST /runtime_modify?a=b",
		"GET /contention", "POST /heapprofiler?enable=y", "POST /cpuprofiler?enable=x", "GET //ready", "PUT /ready", "GET /init_dump?mask=x",
		"GET /stats/prometheus?histogram_buckets=prometheusnative", "GET /stats?hidden=x", "GET /stats/recentlookups/enable",
		"GET /clusters?filter=zz&format=json", "GET /stats//prometheus?filter=zzz", "GET /stats?histogram_buckets=x", "GET /stats?type=x",
	} {
		method, path, _ := strings.Cut(req, " ")
		a, got := ours.do(method, path)
		b, want := theirs.do(method, path)
		if a.StatusCode != b.StatusCode || a.Header.Get("Content-Type") != b.Header.Get("Content-Type") || !same(got, want) {
			t.Errorf("%s: %d %s\n%s\nEnvoy: %d %s\n%s", req, a.StatusCode, a.Header.Get("Content-Type"), got, b.StatusCode, b.Header.Get("Content-Type"), want)
		}
	}
	for _, path := range []string{"/stats?filter=(", "/stats?type=x", "/stats?format=x", "/stats?histogram_buckets=x", "/nothing", "/ready/", "/clusters/x"} {
		a, _ := ours.do("GET", path)
		b, _ := theirs.do("GET", path)
		if a.StatusCode != b.StatusCode {
			t.Errorf("%s: %d, Envoy %d", path, a.StatusCode, b.StatusCode)
		}
	}
}

// same compares JSON by value and everything else up to a final newline.
func same(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil {
		return reflect.DeepEqual(x, y)
	}
	return strings.TrimRight(a, "\n") == strings.TrimRight(b, "\n")
}
