package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/applog"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// process is a Source with fixed views that notes what it was told.
type process struct {
	mu       sync.Mutex
	state    State
	told     []string
	dump     DumpOptions
	fail     error
	quit     chan struct{}
	quitting chan struct{} // nil, or what Quit waits for
}

func (p *process) tell(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = append(p.told, s)
}

func (p *process) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *process) ServerInfo() ServerInfo {
	return ServerInfo{
		Version: "abc/1.0.0/Clean/RELEASE/Go", Start: time.Now().Add(-66 * time.Second), HotRestartVersion: "disabled",
		CommandLine: map[string]any{"concurrency": 2}, Node: json.RawMessage(`{"id":"n1"}`),
	}
}

func addr(s string) meta.Addr { return meta.Addr{AddrPort: netip.MustParseAddrPort(s)} }

func (p *process) Clusters() []ClusterView {
	limits := Thresholds{1024, 1024, 1024, 3}
	return []ClusterView{
		{
			Name: "web", Default: limits, High: limits, AddedViaAPI: true, EDSServiceName: "web.svc",
			Outlier: &OutlierView{Average: -1, Threshold: -1, LocalOriginAverage: -1, LocalOriginThreshold: -1},
			Hosts: []HostView{
				{
					Address: addr("127.0.0.1:28103"), CxActive: 1, CxTotal: 4, RqTotal: 6, RqSuccess: 3, Weight: 1,
					SuccessRate: -1, LocalOriginSuccessRate: -1,
				},
				{
					Address: meta.Addr{Path: "/tmp/x.sock"}, Hostname: "h.example", Weight: 7, Priority: 1, Region: "r", Zone: "z", SubZone: "s",
					Health: FailedActiveHC | EDSStatusDraining, EDSHealth: "DRAINING", SuccessRate: 99.5, LocalOriginSuccessRate: -1,
				},
			},
		},
		{Name: "other", Observability: "alt"},
	}
}

func (p *process) Listeners() []ListenerView {
	return []ListenerView{
		{Name: "l_http", Address: addr("127.0.0.1:28102"), Additional: []meta.Addr{addr("[::1]:28102")}},
		{Name: "l_unix", Address: meta.Addr{Path: "/run/x.sock"}},
	}
}

func (p *process) Runtime() RuntimeView {
	return RuntimeView{Layers: []string{"base", "adm"}, Entries: map[string]RuntimeEntry{"a.b": {"5", []string{"5", ""}}}}
}

func (p *process) ConfigDump(o DumpOptions) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dump = o
	return []byte(`{"configs":[]}`), p.fail
}

func (p *process) Drain(o DrainOptions) {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	p.tell("drain " + string(b))
}
func (p *process) SetHealthy(ok bool) {
	if ok {
		p.tell("healthy")
	} else {
		p.tell("unhealthy")
	}
}
func (p *process) ReopenLogs() error { p.tell("reopen"); return nil }
func (p *process) Quit() {
	p.tell("quit")
	close(p.quit)
	if p.quitting != nil {
		<-p.quitting
	}
}

// rig is a server on a real socket.
type rig struct {
	t     *testing.T
	base  string
	proc  *process
	store *stats.Store
	srv   *Server
}

func start(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, proc: &process{state: Live, quit: make(chan struct{})}, store: stats.NewStore()}
	cfg := Config{
		Stats: r.store, Source: r.proc,
		Levels: testLog(),
	}
	if change != nil {
		change(&cfg)
	}
	r.srv = New(cfg)
	l, err := Listen(addr("127.0.0.1:0"), 0)
	if err != nil {
		t.Fatal(err)
	}
	r.base = "http://" + l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- r.srv.Serve(l) }()
	t.Cleanup(func() {
		if err := r.srv.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) do(method, path string, header ...string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.base, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	p, query, _ := strings.Cut(path, "?")
	req.URL.Path, req.URL.RawQuery = p, query // as it is: agents send regular expressions unescaped
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(b)
}

func (r *rig) want(method, path string, code int, body string) {
	r.t.Helper()
	resp, got := r.do(method, path)
	if resp.StatusCode != code || got != body {
		r.t.Errorf("%s %s: %d %q, want %d %q", method, path, resp.StatusCode, got, code, body)
	}
}

func TestReady(t *testing.T) {
	r := start(t, nil)
	for state, code := range map[State]int{Live: 200, Draining: 503, PreInitializing: 503, Initializing: 503} {
		r.proc.mu.Lock()
		r.proc.state = state
		r.proc.mu.Unlock()
		r.want("GET", "/ready", code, string(state)+"\n")
	}
	resp, _ := r.do("GET", "/ready")
	for name, want := range map[string]string{
		"Content-Type": "text/plain; charset=UTF-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache, max-age=0",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if resp, body := r.do("GET", "/ready/"); resp.StatusCode != 404 || !strings.HasPrefix(body, "invalid path. admin commands are:\n  /: ") {
		t.Errorf("unknown path: %d %q", resp.StatusCode, body)
	}
}

// The queries are those that Istio's agent sends.
func TestStatsForAgents(t *testing.T) {
	r := start(t, nil)
	r.store.Scope("server").Gauge("state", "State.").Set(0)
	r.store.Scope("server").Gauge("live", "Live.")
	lm := r.store.Scope("listener_manager")
	lm.Gauge("workers_started", "Started.").Set(1)
	lm.Child("lds").Counter("update_success", "Updates.").Add(2)
	lm.Child("lds").Counter("update_rejected", "Updates.")
	r.store.Scope("cluster_manager").Child("cds").Counter("update_success", "Updates.").Add(1)
	l := r.store.Scope("listener").Tag("envoy_listener_address", "0.0.0.0_15006")
	l.Gauge("downstream_cx_active", "Connections.").Set(3)
	l.Histogram("downstream_cx_length_ms", "Length.").Record(5)

	r.want("GET", `/stats?usedonly&filter=^(server\.state|listener_manager\.workers_started)`, 200,
		"listener_manager.workers_started: 1\nserver.state: 0\n")
	r.want("GET", `/stats?usedonly&filter=^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$`, 200,
		"cluster_manager.cds.update_success: 1\nlistener_manager.lds.update_success: 2\n")
	r.want("GET", "/stats?usedonly&filter=downstream_cx_active$", 200, // this connection is one, too
		"http.admin.downstream_cx_active: 1\nlistener.0.0.0.0_15006.downstream_cx_active: 3\nlistener.admin.downstream_cx_active: 1\n")
	r.want("GET", "/stats?filter=server%2elive", 200, "server.live: 0\n")
	r.want("GET", "/stats?format=json&filter=server", 200, `{"stats":[{"name":"server.live","value":0},{"name":"server.state","value":0}]}`)
	r.want("GET", "/stats?type=Counters&filter=lds", 200, "listener_manager.lds.update_rejected: 0\nlistener_manager.lds.update_success: 2\n")
	r.want("GET", "/stats/prometheus?usedonly&filter=downstream_cx_active", 200,
		"# TYPE envoy_http_downstream_cx_active gauge\nenvoy_http_downstream_cx_active{envoy_http_conn_manager_prefix=\"admin\"} 1\n"+
			"# TYPE envoy_listener_admin_downstream_cx_active gauge\nenvoy_listener_admin_downstream_cx_active{} 1\n"+
			"# TYPE envoy_listener_downstream_cx_active gauge\nenvoy_listener_downstream_cx_active{envoy_listener_address=\"0.0.0.0_15006\"} 3\n")
	r.want("GET", "/stats?format=prometheus&filter=state", 200, "# TYPE envoy_server_state gauge\nenvoy_server_state{} 0\n")
	r.want("GET", "/stats?histogram_buckets=detailed&filter=15006.*length_ms", 200,
		"listener.0.0.0.0_15006.downstream_cx_length_ms:\n  totals=5,0.1:1\n  intervals=\n  summary=P0(nan,5.05) P25(nan,5.05) P50(nan,5.05) P75(nan,5.05) P90(nan,5.05) P95(nan,5.05) P99(nan,5.05) P99.5(nan,5.05) P99.9(nan,5.05) P100(nan,5.05)\n")
	for path, want := range map[string]string{
		"/stats?filter=(":                              "Invalid re2 regex: ",
		"/stats?type=gauges":                           "invalid &type= param",
		"/stats?format=foo":                            "usage: /stats?format=",
		"/stats?histogram_buckets=foo":                 "usage: /stats?histogram_buckets=",
		"/stats/prometheus?histogram_buckets=disjoint": "unsupported prometheus histogram bucket mode",
		"/clusters?filter=(":                           "Invalid re2 regex: ",
	} {
		if resp, body := r.do("GET", path); resp.StatusCode != 400 || !strings.HasPrefix(body, want) {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
	}
	if resp, _ := r.do("GET", "/stats?format=json"); resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("JSON is %q", resp.Header.Get("Content-Type"))
	}
}

func TestMutations(t *testing.T) {
	r := start(t, nil)
	c := r.store.Scope("x").Counter("n", "N.")
	c.Add(5)
	for path, told := range map[string]string{
		"/drain_listeners": `drain {"InboundOnly":false,"Graceful":false,"SkipExit":false}`,
		"/drain_listeners?inboundonly&graceful&skip_exit": `drain {"InboundOnly":true,"Graceful":true,"SkipExit":true}`,
		"/drain_listeners?inboundonly&graceful":           `drain {"InboundOnly":true,"Graceful":true,"SkipExit":false}`,
		"/healthcheck/fail":                               "unhealthy",
		"/healthcheck/ok":                                 "healthy",
		"/reopen_logs":                                    "reopen",
	} {
		r.proc.told = nil
		r.want("GET", path, 405, "Method GET not allowed, POST required.\n")
		if len(r.proc.told) > 0 {
			t.Errorf("GET %s did something: %q", path, r.proc.told)
		}
		r.want("POST", path, 200, "OK\n")
		if !slices.Equal(r.proc.told, []string{told}) {
			t.Errorf("POST %s: told %q, want %q", path, r.proc.told, told)
		}
	}
	r.want("GET", "/reset_counters", 405, "Method GET not allowed, POST required.\n")
	if c.Value() != 5 {
		t.Error("GET /reset_counters did reset")
	}
	r.want("POST", "/reset_counters", 200, "OK\n")
	if c.Value() != 0 {
		t.Error("POST /reset_counters did not reset")
	}
	r.want("GET", "/quitquitquit", 405, "Method GET not allowed, POST required.\n")
	r.want("POST", "/quitquitquit", 200, "OK\n")
	select {
	case <-r.proc.quit:
	case <-time.After(10 * time.Second):
		t.Error("Quit was not called")
	}
}

// TestQuitAnswersFirst: who asks has the whole answer before the process begins to end, which
// may be the last that it does.
func TestQuitAnswersFirst(t *testing.T) {
	r := start(t, nil)
	r.proc.quitting = make(chan struct{})
	defer close(r.proc.quitting)
	client := http.Client{Timeout: 15 * time.Second}
	res, err := client.Post(r.base+"/quitquitquit", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "OK\n" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestBrowsersMayNotBeUsedAgainstIt(t *testing.T) {
	r := start(t, nil)
	host := strings.TrimPrefix(r.base, "http://")
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method string
		header       []string
		want         int
	}{
		{"a program", "POST", nil, 200},
		{"a program that names it", "POST", []string{"Host", "mecha.ns.svc:15000"}, 200},
		{"our own page", "POST", []string{"Origin", r.base, "Sec-Fetch-Site", "same-origin"}, 200},
		{"localhost", "POST", []string{"Host", "localhost:" + port, "Origin", "http://localhost:" + port}, 200},
		{"a page of another site", "POST", []string{"Origin", "https://evil.example"}, 403},
		{"a page of another port", "POST", []string{"Origin", "http://127.0.0.1:1"}, 403},
		{"a sandboxed page", "POST", []string{"Origin", "null"}, 403},
		{"a form of another site", "POST", []string{"Sec-Fetch-Site", "cross-site", "Accept-Language", "en"}, 403},
		{"DNS rebinding", "POST", []string{"Host", "evil.example:" + port, "Origin", "http://evil.example:" + port}, 403},
		{"DNS rebinding to read", "GET", []string{"Host", "evil.example:" + port, "Accept-Language", "en"}, 403},
		{"reading in a browser", "GET", []string{"Accept-Language", "en", "Sec-Fetch-Site", "none"}, 200},
		{"following a link", "GET", []string{"Accept-Language", "en", "Sec-Fetch-Site", "cross-site"}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.proc.told = nil
			path := "/healthcheck/fail"
			if c.method == "GET" {
				path = "/ready"
			}
			resp, body := r.do(c.method, path, c.header...)
			if resp.StatusCode != c.want {
				t.Errorf("%d %q, want %d", resp.StatusCode, body, c.want)
			}
			if c.want == 403 && len(r.proc.told) > 0 {
				t.Error("refused, and done all the same")
			}
		})
	}
}

// The text is what Envoy 1.40 prints for such hosts.
func TestClusters(t *testing.T) {
	r := start(t, nil)
	_, text := r.do("GET", "/clusters?filter=^web$")
	want := `web::observability_name::web
web::outlier::success_rate_average::-1
web::outlier::success_rate_ejection_threshold::-1
web::outlier::local_origin_success_rate_average::-1
web::outlier::local_origin_success_rate_ejection_threshold::-1
web::default_priority::max_connections::1024
web::default_priority::max_pending_requests::1024
web::default_priority::max_requests::1024
web::default_priority::max_retries::3
web::high_priority::max_connections::1024
web::high_priority::max_pending_requests::1024
web::high_priority::max_requests::1024
web::high_priority::max_retries::3
web::added_via_api::true
web::eds_service_name::web.svc
web::127.0.0.1:28103::cx_active::1
web::127.0.0.1:28103::cx_connect_fail::0
web::127.0.0.1:28103::cx_total::4
web::127.0.0.1:28103::rq_active::0
web::127.0.0.1:28103::rq_error::0
web::127.0.0.1:28103::rq_pending_active::0
web::127.0.0.1:28103::rq_success::3
web::127.0.0.1:28103::rq_timeout::0
web::127.0.0.1:28103::rq_total::6
web::127.0.0.1:28103::hostname::
web::127.0.0.1:28103::health_flags::healthy
web::127.0.0.1:28103::weight::1
web::127.0.0.1:28103::region::
web::127.0.0.1:28103::zone::
web::127.0.0.1:28103::sub_zone::
web::127.0.0.1:28103::canary::false
web::127.0.0.1:28103::priority::0
web::127.0.0.1:28103::success_rate::-1
web::127.0.0.1:28103::local_origin_success_rate::-1
`
	if !strings.HasPrefix(text, want) {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	for _, line := range []string{
		"web::/tmp/x.sock::health_flags::/failed_active_hc/eds_status_draining\n",
		"web::/tmp/x.sock::success_rate::99.5\n", "web::/tmp/x.sock::hostname::h.example\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("missing %q", line)
		}
	}
	_, body := r.do("GET", "/clusters?format=json")
	for _, part := range []string{
		`"name": "web",`, `"added_via_api": true,`, `"observability_name": "alt"`, `"eds_service_name": "web.svc"`,
		"     \"address\": {\n      \"socket_address\": {\n       \"address\": \"127.0.0.1\",\n       \"port_value\": 28103\n      }\n     },",
		"      \"pipe\": {\n       \"path\": \"/tmp/x.sock\"\n      }",
		"      {\n       \"name\": \"cx_connect_fail\"\n      },\n      {\n       \"name\": \"cx_total\",\n       \"value\": \"4\"\n      },",
		"       \"name\": \"cx_active\",\n       \"value\": \"1\",\n       \"type\": \"GAUGE\"",
		"      \"failed_active_health_check\": true,\n      \"eds_health_status\": \"DRAINING\"",
		"     \"success_rate\": {\n      \"value\": 99.5\n     },", "\"locality\": {}", `"priority": "HIGH",`,
	} {
		if !strings.Contains(body, part) {
			t.Errorf("JSON lacks %s:\n%s", part, body)
			break
		}
	}
}

func TestViews(t *testing.T) {
	r := start(t, nil)
	r.want("GET", "/listeners", 200, "l_http::127.0.0.1:28102\nl_http::[::1]:28102\nl_unix::/run/x.sock\n")
	r.want("GET", "/hot_restart_version", 200, "disabled")
	r.want("GET", "/certs", 200, "{\n \"certificates\": []\n}\n")
	r.want("GET", "/init_dump", 200, "{}\n")
	r.want("GET", "/runtime", 200, "{\n \"layers\": [\n  \"base\",\n  \"adm\"\n ],\n \"entries\": {\n  \"a.b\": {\n   \"final_value\": \"5\",\n   \"layer_values\": [\n    \"5\",\n    \"\"\n   ]\n  }\n }\n}\n")
	r.want("POST", "/runtime_modify?a=b", 503, "No admin layer specified\n")
	var info struct {
		State       string                    `json:"state"`
		Uptime      string                    `json:"uptime_current_epoch"`
		CommandLine struct{ Concurrency int } `json:"command_line_options"`
		Node        struct{ ID string }       `json:"node"`
	}
	_, body := r.do("GET", "/server_info")
	if err := json.Unmarshal([]byte(body), &info); err != nil || info.State != "LIVE" || info.Uptime != "66s" || info.CommandLine.Concurrency != 2 || info.Node.ID != "n1" {
		t.Errorf("server_info: %v %+v", err, info)
	}
	var memory map[string]string
	_, body = r.do("GET", "/memory")
	if err := json.Unmarshal([]byte(body), &memory); err != nil || memory["allocated"] == "" || memory["total_physical_bytes"] == "" {
		t.Errorf("memory: %v %s", err, body)
	}
	_, body = r.do("GET", "/listeners?format=json")
	if want := "{\n \"listener_statuses\": [\n  {\n   \"name\": \"l_http\",\n   \"local_address\": {\n    \"socket_address\": {\n     \"address\": \"127.0.0.1\",\n     \"port_value\": 28102\n    }\n   },\n"; !strings.HasPrefix(body, want) {
		t.Errorf("listeners: %s", body)
	}
}

func TestConfigDump(t *testing.T) {
	r := start(t, nil)
	resp, body := r.do("GET", "/config_dump?resource=dynamic_listeners&mask=a.b&name_regex=^x&include_eds")
	if body != `{"configs":[]}` || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%q %q", body, resp.Header.Get("Content-Type"))
	}
	if want := (DumpOptions{"dynamic_listeners", "a.b", "^x", true}); r.proc.dump != want {
		t.Errorf("options %+v", r.proc.dump)
	}
	r.proc.fail = &Error{404, "foo not found in config dump"}
	r.want("GET", "/config_dump?resource=foo", 404, "foo not found in config dump\n")
	r.proc.fail = errors.New("broken")
	r.want("GET", "/config_dump", 500, "broken\n")
}

func TestLogging(t *testing.T) {
	r := start(t, nil)
	list := func(admin, http string) string {
		all := http // of "main", which every log has
		if http != "info" {
			all = "debug"
		}
		return "active loggers:\n  admin: " + admin + "\n  http: " + http + "\n  main: " + all + "\n\n"
	}
	r.want("GET", "/logging?level=debug", 405, "Method GET not allowed, POST required.\n")
	r.want("POST", "/logging", 200, list("info", "info"))
	r.want("POST", "/logging?level=debug", 200, list("debug", "debug"))
	r.want("POST", "/logging?http=warn", 200, list("debug", "warning"))
	r.want("POST", "/logging?paths=http:trace,admin:off", 200, list("off", "trace"))
	r.want("POST", "/logging?level", 200, list("off", "trace"))
	for query, why := range map[string]string{
		"level=foo": "unknown logger level", "nope=info": "unknown logger name", "paths=http:info,nope:info": "unknown logger name",
		"a=info&b=info": "invalid number of parameters", "paths=http": "unknown logger level",
	} {
		resp, body := r.do("POST", "/logging?"+query)
		if resp.StatusCode != 400 || !strings.HasPrefix(body, "error: "+why) || !strings.HasSuffix(body, list("off", "trace")) {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body)
		}
	}
}

func TestLevels(t *testing.T) {
	for _, name := range []string{"trace", "debug", "info", "warning", "error", "critical", "off"} {
		if l, ok := ParseLevel(name); !ok || LevelName(l) != name {
			t.Errorf("%s: %v %v", name, l, ok)
		}
	}
	if l, ok := ParseLevel("warn"); !ok || l != slog.LevelWarn {
		t.Error("warn")
	}
}

func TestIndexAndPprof(t *testing.T) {
	r := start(t, func(c *Config) {
		c.Extra = []Endpoint{{Path: "/tap", Help: `<script>"`, Post: true, Serve: func(w http.ResponseWriter, _ *http.Request) { ok(w) }}}
	})
	resp, body := r.do("GET", "/")
	if resp.Header.Get("Content-Type") != "text/html; charset=UTF-8" || resp.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("headers %v", resp.Header)
	}
	for _, part := range []string{
		`<a href="/stats">/stats</a>`, `<form method="post" action="/quitquitquit"><button>/quitquitquit</button></form>`,
		`<span class="state LIVE">LIVE</span>`, "&lt;script&gt;&#34;", `<a href="/debug/pprof/">`,
	} {
		if !strings.Contains(body, part) {
			t.Errorf("the page lacks %s", part)
		}
	}
	if strings.Contains(body, "<script") {
		t.Error("unescaped")
	}
	r.want("POST", "/tap", 200, "OK\n")
	if resp, body := r.do("GET", "/debug/pprof/goroutine?debug=1"); resp.StatusCode != 200 || !strings.Contains(body, "goroutine profile:") {
		t.Errorf("pprof: %d", resp.StatusCode)
	}
	if _, body := r.do("GET", "/help"); !strings.Contains(body, "  /quitquitquit (POST): stop the server\n") || !strings.Contains(body, "      usedonly: ") {
		t.Errorf("help: %s", body)
	}
}

func TestAccessLog(t *testing.T) {
	format, err := accesslog.Compile("%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %BYTES_SENT% %REQ(USER-AGENT)% %RESP(CONTENT-TYPE)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n")
	if err != nil {
		t.Fatal(err)
	}
	lines := make(sink, 10)
	r := start(t, func(c *Config) { c.Access = []*accesslog.Logger{accesslog.NewLogger(nil, format, lines)} })
	r.do("GET", "/ready?x", "User-Agent", "agent")
	r.do("GET", "/quitquitquit", "User-Agent", "agent")
	for _, want := range []string{
		"GET /ready?x HTTP/1.1 200 5 agent text/plain; charset=UTF-8 127.0.0.1\n",
		"GET /quitquitquit HTTP/1.1 405 39 agent text/plain; charset=UTF-8 127.0.0.1\n",
	} {
		select {
		case got := <-lines:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no line")
		}
	}
}

type sink chan string

func (s sink) Write(line []byte) { s <- string(bytes.Clone(line)) }

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(meta.Addr{Path: path}, 0); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a socket in use: %v", err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	l, err := Listen(meta.Addr{Path: path}, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode: %v, %v", info, err)
	}
	proc := &process{state: Live}
	srv := New(Config{Stats: stats.NewStore(), Source: proc})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
	resp, err := client.Get("http://admin/ready")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
	client.CloseIdleConnections()
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(meta.Addr{Path: file}, 0); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

// downstream is bound as an HTTP connection manager binds its counters by listener.
type downstream struct {
	Responses stats.ClassCounters `stat:"downstream_rq" help:"Responses."`
}

// testLog is a log with two components.
func testLog() *applog.Log {
	l := applog.New(io.Discard)
	l.Logger("http")
	l.Logger("admin")
	return l
}

// The answers are those of Envoy 1.40, but for what ends in a newline.
func TestMinorEndpoints(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "cpu.prof")
	r := start(t, func(c *Config) { c.ProfilePath = profile })
	for _, c := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/contention", 200, "Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing."},
		{"POST", "/cpuprofiler?enable=x", 400, "?enable=<y|n>\n"},
		{"POST", "/cpuprofiler", 400, "?enable=<y|n>\n"},
		{"POST", "/cpuprofiler?enable=n", 200, "OK\n"},
		{"POST", "/heapprofiler?enable=y", 501, "The current build does not support heap profiler\n"},
		{"GET", "/init_dump?mask=x", 200, "{}\n"},
		{"GET", "/stats/recentlookups", 200, "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 0\n"},
		{"POST", "/stats/recentlookups/enable", 200, "OK\n"},
		{"GET", "/stats/recentlookups", 200, "   Count Lookup\n\ntotal: 0\n"},
		{"POST", "/stats/recentlookups/disable", 200, "OK\n"},
		{"POST", "/stats/recentlookups/clear", 200, "OK\n"},
		{"GET", "/stats/recentlookups/enable", 405, "Method GET not allowed, POST required.\n"},
		{"POST", "/tap", 501, "The current build does not support tap\n"},
		{"GET", "//ready", 200, "LIVE\n"},
		{"PUT", "/ready", 200, "LIVE\n"},
		{"GET", "/stats//prometheus?filter=zzz", 200, ""},
		{"POST", "/logging?wasm=debug", 200, "active loggers:\n  admin: info\n  http: info\n  main: info\n  wasm: debug\n\n"},
		{"GET", "/clusters?filter=zzz&format=json", 200, "{}\n"},
	} {
		r.want(c.method, c.path, c.code, c.body)
	}
	if resp, body := r.do("HEAD", "/ready"); resp.StatusCode != 200 || body != "" {
		t.Errorf("HEAD: %d %q", resp.StatusCode, body)
	}
	if resp, body := r.do("POST", "/logging?group=http:debug"); resp.StatusCode != 400 || !strings.HasPrefix(body, "error: group parameter requires") {
		t.Errorf("group: %d %q", resp.StatusCode, body)
	}
	if resp, body := r.do("GET", "/heap_dump"); resp.StatusCode != 200 || !strings.HasPrefix(body, "\x1f\x8b") {
		t.Errorf("heap_dump: %d", resp.StatusCode)
	}
	r.want("POST", "/cpuprofiler?enable=y", 200, "OK\n")
	r.want("POST", "/cpuprofiler?enable=y", 200, "OK\n")
	r.want("POST", "/cpuprofiler?enable=n", 200, "OK\n")
	if info, err := os.Stat(profile); err != nil || info.Size() == 0 {
		t.Errorf("profile: %v", err)
	}
}

func TestPrometheusNegotiation(t *testing.T) {
	const proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	for accept, want := range map[string]bool{
		"": false, proto: true, proto + ";q=0.7,text/plain;version=0.0.4;q=0.3": true, proto + ";q=0.3,text/plain": false,
		"application/openmetrics-text;version=1.0.0": false, "text/plain, " + proto: true, proto + "; q=x": true,
	} {
		if got := wantsProto([]string{accept}); got != want {
			t.Errorf("%s: %v", accept, got)
		}
	}
	r := start(t, nil)
	r.store.Scope("server").Gauge("live", "Live.").Set(1)
	resp, body := r.do("GET", "/stats/prometheus?filter=live", "Accept", proto)
	if resp.Header.Get("Content-Type") != "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited" {
		t.Errorf("type %s", resp.Header.Get("Content-Type"))
	}
	if want := "\x22\x0a\x11envoy_server_live\x18\x01\x22\x0b\x12\x09\x09\x00\x00\x00\x00\x00\x00\xf0\x3f"; body != want {
		t.Errorf("body %q, want %q", body, want)
	}
	r.want("GET", "/stats/prometheus?histogram_buckets=prometheusnative", 400, "unsupported prometheusnative histogram type when not using protobuf exposition format\n")
	r.want("GET", "/stats?hidden=only&filter=live", 200, "")
	r.want("GET", "/stats?hidden=x", 400, "usage: /stats?hidden=(include|only|exclude)\n\n")
}
