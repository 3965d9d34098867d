package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestWhy asks a running proxy with mecha why about requests that went well, went nowhere and
// were repeated, and compares with its access log.
func TestWhy(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, strings.Replace(
		hosts(port, ", retry_policy: {retry_on: connect-failure, num_retries: 3}", "", a.port, freePort(t)),
		"stat_prefix: web", `stat_prefix: web
          access_log:
          - name: out
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format: {text_format_source: {inline_string: "log of %REQ(x-request-id)%: wait %PHASE(wait:ns)% tls %PHASE(tls)% %WHY%\n"}}`, 1),
		"--file-flush-interval-msec", "10")
	m.ready()
	get := func(id string) {
		req, err := http.NewRequest(http.MethodGet, "http://"+local(port)+"/get?secret=yes", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("x-request-id", id)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s", id, resp.Status)
		}
	}
	for i := range 8 { // round robin: every second attempt meets the dead host
		get(fmt.Sprint("request-", i))
	}
	ask := func(args ...string) (string, error) {
		out, err := exec.Command(binary(t, "mecha"), append([]string{"why", "--admin", strings.TrimPrefix(m.admin, "http://")}, args...)...).CombinedOutput()
		return string(out), err
	}
	out, err := ask("request-0")
	if err != nil {
		t.Fatal(err, out)
	}
	for _, want := range []string{"GET " + local(port) + "/get  ->  200", "request ID request-0", `route: takes, in virtual host "all" route[0]`, `cluster "shop"`, "load balancer: picks 127.0.0.1:", "in all"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "secret") {
		t.Errorf("the query is told:\n%s", out)
	}
	if wrong, err := ask("--wrong"); err != nil || strings.Count(wrong, " request-") < 2 {
		t.Errorf("%v, repeated requests:\n%s", err, wrong)
	}
	list, err := ask("--last", "3")
	if err != nil || !regexp.MustCompile(`(?s)^[^\n]* 200 [^\n]*request-7[^\n]*\n[^\n]*request-6[^\n]*\n[^\n]*request-5[^\n]*\n$`).MatchString(list) {
		t.Errorf("%v, the newest three:\n%s", err, list)
	}
	if out, err := ask("nobody"); err == nil || !strings.Contains(out, `no request with the ID "nobody"`) {
		t.Errorf("an ID that never was: %v\n%s", err, out)
	}
	line := regexp.MustCompile(`log of request-\d: wait \d+ tls - route takes, in .*upstream connection fails .*retry tries again: .*load balancer picks `)
	eventually(t, "the access log", func() string {
		if !line.MatchString(m.text()) {
			return m.text()
		}
		return ""
	})
}

// TestWhyOff: with --why-records 0 nothing is remembered, and whoever asks is told.
func TestWhyOff(t *testing.T) {
	t.Parallel()
	m := startMecha(t, "node: {id: a, cluster: b}\n", "--why-records", "0")
	m.ready()
	var out bytes.Buffer
	cmd := exec.Command(binary(t, "mecha"), "why", "--admin", strings.TrimPrefix(m.admin, "http://"))
	cmd.Stderr = &out
	if err := cmd.Run(); err == nil || !strings.Contains(out.String(), "--why-records 0") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestWhatIf asks what would become of requests that nobody sends: nothing arrives, nothing is
// counted, and a request that is sent meets what was foretold.
func TestWhatIf(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, strings.Replace(hosts(port, "", "", a.port), "http_filters: [", `http_filters: [
        {name: who, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {action: DENY, policies: {
          secrets: {permissions: [{url_path: {path: {prefix: /secret}}}], principals: [{any: true}]},
          strangers: {permissions: [{any: true}], principals: [{direct_remote_ip: {address_prefix: 192.0.2.0, prefix_len: 24}}]}}}}},
        {name: slow, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, delay: {fixed_delay: 0.001s, percentage: {numerator: 100}}}},
        `, 1))
	m.ready()
	ask := func(args ...string) string {
		out, err := exec.Command(binary(t, "mecha"), append([]string{"why", "--admin", strings.TrimPrefix(m.admin, "http://"), "--if"}, args...)...).CombinedOutput()
		return fmt.Sprintf("%v: %s", err, out)
	}
	for _, c := range []struct {
		args []string
		want string // in order
	}{
		{[]string{"GET", "http://shop/get"}, `<nil>: GET shop/get  ->  would be sent to cluster "shop".*takes, in virtual host "all" route.0..*who: allows what no policy matches.*slow: would delay the request.*cannot tell the host`},
		{[]string{"GET", "http://shop/secret?x=y"}, `<nil>: GET shop/secret  ->  would be answered with 403  rbac_access_denied_matched_policy.secrets.`},
		{[]string{"GET", "http://shop/get", "--from", "192.0.2.7:1"}, `with 403  rbac_access_denied_matched_policy.strangers.`},
		{[]string{"GET", "http://shop/get", "--to", local(port)}, `would be sent`},
		{[]string{"GET", "http://shop/get", "--to", "192.0.2.1:80"}, `exit status 1: .*no listener has the address 192.0.2.1:80; the listeners are web`},
		{[]string{"GET", "shop/get"}, `exit status 1: .*url: "shop/get" is not http://HOST/PATH`},
		{[]string{"GET", "http://shop/get", "-H", "no colon"}, `exit status 1: .*header: "no colon"`},
		{[]string{"GET"}, `exit status 1: .*--if wants a method and a URL`},
	} {
		if got := ask(c.args...); !regexp.MustCompile("(?s)" + c.want).MatchString(got) {
			t.Errorf("%v: %s", c.args, got)
		}
	}
	if n := a.requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	if _, stats := m.get("/stats?filter=rbac|downstream_rq_total|upstream_rq_total"); regexp.MustCompile(`(web|shop|rbac)\S*: [1-9]`).MatchString(stats) {
		t.Errorf("counted: %s", stats)
	}
	resp, err := http.Get("http://" + local(port) + "/get")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := ask("GET", "http://shop/get"); resp.StatusCode != 200 || !strings.Contains(got, fmt.Sprintf("load balancer: picks 127.0.0.1:%d", a.port)) {
		t.Errorf("%s, then %s", resp.Status, got)
	}
}

// TestWhatIfFilters: filters that know their verdict tell it and take nothing for it, those that
// would ask a service say so, and those that cannot tell, too.
func TestWhatIfFilters(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, strings.Replace(hosts(port, "", "", a.port), "http_filters: [", `http_filters: [
        {name: health, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: false, headers: [{name: ":path", string_match: {exact: /healthy}}]}},
        {name: keys, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth, credentials: [{key: sesame, client: ali}], key_sources: [{header: x-key}]}},
        {name: jwt, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication,
          providers: {p: {issuer: i, local_jwks: {inline_string: '{"keys": [{"kty": "oct", "alg": "HS256", "kid": "a", "k": "c2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1lc2VzYW1lc2U"}]}'}}}, rules: [{match: {path: /token}, requires: {provider_name: p}}]}},
        {name: limit, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: l,
          token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 3600s},
          filter_enabled: {default_value: {numerator: 100}}, filter_enforced: {default_value: {numerator: 100}}}},
        {name: broken, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault, abort: {http_status: 418, percentage: {numerator: 100}}, headers: [{name: x-fault, present_match: true}]}},
        {name: authz, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, failure_mode_allow: true, grpc_service: {envoy_grpc: {cluster_name: shop}}}},
        {name: proc, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor, failure_mode_allow: true, grpc_service: {envoy_grpc: {cluster_name: shop}}}},
        {name: script, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, default_source_code: {inline_string: "function envoy_on_request(h) end"}}},
        {name: whole, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 10}},
        `, 1))
	m.ready()
	ask := func(args ...string) string {
		out, err := exec.Command(binary(t, "mecha"), append([]string{"why", "--admin", strings.TrimPrefix(m.admin, "http://"), "--if"}, args...)...).CombinedOutput()
		return fmt.Sprintf("%v: %s", err, out)
	}
	for _, c := range []struct {
		args []string
		want string // in order
	}{
		{[]string{"GET", "http://shop/healthy"}, `with 200  health_check_ok`},
		{[]string{"GET", "http://shop/get"}, `with 401  missing_api_key`},
		{[]string{"GET", "http://shop/token", "-H", "x-key: sesame"}, `with 401  jwt_authn_access_denied`},
		{[]string{"GET", "http://shop/get", "-H", "x-key: sesame", "-H", "x-fault: 1"}, `with 418 .*fault_filter_abort`},
		{[]string{"GET", "http://shop/get", "-H", "x-key: sesame"}, `would be sent.*keys: has the key of "?ali.*limit: has a token.*authz: cannot tell: would ask the service of cluster "shop".*proc: cannot tell: would ask the service of cluster "shop".*script: was not asked`},
		{[]string{"GET", "http://shop/get", "-H", "x-key: sesame"}, `limit: has a token`},
	} {
		if got := ask(c.args...); !regexp.MustCompile("(?s)" + c.want).MatchString(got) {
			t.Errorf("%v: %s", c.args, got)
		}
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+local(port)+"/get", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-key", "sesame")
	if resp, err := http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	} else if resp.Body.Close(); resp.StatusCode == 429 {
		t.Error("a forecast has taken the token")
	}
	if got := ask("GET", "http://shop/get", "-H", "x-key: sesame"); !strings.Contains(got, "with 429  RL  local_rate_limited") {
		t.Errorf("without a token: %s", got)
	}
}
