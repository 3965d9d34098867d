package xds_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// track_cluster_stats: sizes and used time of each attempt, and of the request as a whole.
func TestTrackedClusterStats(t *testing.T) {
	failures := 1
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/retry":
			if failures--; failures >= 0 {
				w.WriteHeader(503)
				return
			}
		case "/hang":
			<-r.Context().Done()
			return
		}
		w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
		w.Header().Set("x-a", "b")
		w.Header().Set("content-length", "5")
		_, _ = io.WriteString(w, "hello")
	}))
	defer web.Close()
	host, port, _ := strings.Cut(web.Listener.Addr().String(), ":")
	plane := xdstest.New(t)
	cluster := func(name, tracked string) string {
		return fmt.Sprintf(`{name: %s, connect_timeout: 5s, %s, load_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}}`, name, tracked, name, host, port)
	}
	route := func(path, to string) string {
		return fmt.Sprintf(`{match: {prefix: %s}, route: {cluster: %s}}`, path, to)
	}
	k := proxyOf(t, plane, `
static_resources:
  clusters: [XDS, `+cluster("both", "track_cluster_stats: {request_response_sizes: true, timeout_budgets: true}")+`, `+cluster("none", "track_cluster_stats: {}")+`]
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: h
          http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
          route_config: {virtual_hosts: [{name: v, domains: ["*"], routes: [
            `+route("/none", "none")+`, `+route("/plain", `"both", timeout: 0s`)+`, `+route("/retry", `"both", timeout: 0s, retry_policy: {retry_on: 5xx}`)+`,
            `+route("/hang", `"both", timeout: 0.2s`)+`, `+route("/try", `"both", timeout: 20s, prefix_rewrite: /hang, retry_policy: {per_try_timeout: 0.2s}`)+`]}]}
`)
	read := func(name string) (n, sum uint64) {
		k.stats.Each(func(m stats.Metric) {
			if m.Name == "cluster.both.upstream_"+name {
				n, sum = m.Histogram.Count(), m.Histogram.Sum()
			}
			if strings.HasPrefix(m.Name, "cluster.none.upstream_rq_headers") || strings.HasPrefix(m.Name, "cluster.none.upstream_rq_timeout_budget") {
				t.Errorf("%s is there", m.Name)
			}
		})
		return n, sum
	}
	type counts struct{ attempts, heads, requests, tries uint64 }
	var all counts
	for _, c := range []struct {
		path string
		more counts
	}{
		{"/none", counts{}},
		{"/plain", counts{1, 1, 1, 1}},
		{"/retry", counts{2, 2, 1, 2}},
		{"/hang", counts{1, 0, 1, 0}}, // the attempt was cut short by the end of the request
		{"/try", counts{1, 0, 1, 1}},
	} {
		if got := k.get("l", c.path); !strings.HasPrefix(got, "200 ") && !strings.HasPrefix(got, "504 ") {
			t.Fatalf("%s: %s", c.path, got)
		}
		all = counts{all.attempts + c.more.attempts, all.heads + c.more.heads, all.requests + c.more.requests, all.tries + c.more.tries}
		var got counts
		until := time.Now().Add(20 * time.Second) // the last byte is sent before it is counted
		for got != all && time.Now().Before(until) {
			got.attempts, _ = read("rq_headers_size")
			got.heads, _ = read("rs_headers_size")
			got.requests, _ = read("rq_timeout_budget_percent_used")
			got.tries, _ = read("rq_timeout_budget_per_try_percent_used")
		}
		if got != all {
			t.Fatalf("after %s there are %+v, want %+v", c.path, got, all)
		}
		if c.path == "/plain" {
			fields, heads := all.heads, uint64(len(":status200x-abcontent-length5"))
			if n, sum := read("rs_headers_size"); n != fields || sum != heads {
				t.Errorf("the head of a response is %d bytes, want %d", sum, heads)
			}
			if _, sum := read("rs_headers_count"); sum != 3 {
				t.Errorf("a response has %d fields, want 3", sum)
			}
			if _, sum := read("rs_body_size"); sum != 5 {
				t.Errorf("the body of a response is %d bytes, want 5", sum)
			}
		}
	}
	if _, sum := read("rq_timeout_budget_percent_used"); sum < 100 {
		t.Errorf("100 %% of the time of a request were used, counted are %d %%", sum)
	}
	if _, sum := read("rq_timeout_budget_per_try_percent_used"); sum < 100 {
		t.Errorf("100 %% of the time of an attempt were used, counted are %d %%", sum)
	}
}
