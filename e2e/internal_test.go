package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// nested is a listener that hands requests to one inside the process, and that to
// another one, with filter state made from the header "who": "once" is for the next
// listener, "beyond" for all after it, "mine" stays. What arrives is said in the answer.
// ONE stands for the first listener's port.
const nested = `
node: {id: a, cluster: b}
bootstrap_extensions:
- {name: i, typed_config: {"@type": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener}}
static_resources:
  clusters:
  - INTERNAL second
  - INTERNAL third
  listeners:
  - name: first
    address: {socket_address: {address: 127.0.0.1, port_value: ONE}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": HCM
          stat_prefix: first
          route_config: {name: r, virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: second}}]}]}
          http_filters:
          - name: set
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config
              on_request_headers:
              - {object_key: once, factory_key: envoy.hashable_string, shared_with_upstream: ONCE, format_string: {text_format_source: {inline_string: "%REQ(who)%"}}}
              - {object_key: beyond, factory_key: envoy.hashable_string, shared_with_upstream: TRANSITIVE, format_string: {text_format_source: {inline_string: "%REQ(who)%"}}}
              - {object_key: mine, factory_key: envoy.hashable_string, format_string: {text_format_source: {inline_string: "%REQ(who)%"}}}
          - ROUTER
  - name: second
    internal_listener: {}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": HCM
          stat_prefix: second
          route_config: {name: r, response_headers_to_add: [{header: {key: second, value: STATE}}], virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: third}}]}]}
          http_filters: [ROUTER]
  - name: third
    internal_listener: {}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": HCM
          stat_prefix: third
          route_config: {name: r, response_headers_to_add: [{header: {key: third, value: STATE}}], virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]}
          http_filters: [ROUTER]
`

func nestedYAML(port uint32) string {
	internal := func(name string) string {
		return fmt.Sprintf(`name: %s
    load_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [{endpoint: {address: {envoy_internal_address: {server_listener_name: %s}}}}]}]}
    transport_socket:
      name: internal
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport
        transport_socket: {name: raw, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}`, name, name, name)
	}
	return strings.NewReplacer(
		"INTERNAL second", internal("second"), "INTERNAL third", internal("third"), "ONE", fmt.Sprint(port),
		"HCM", "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"ROUTER", `{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}`,
		"STATE", `"%FILTER_STATE(once:PLAIN)% %FILTER_STATE(beyond:PLAIN)% %FILTER_STATE(mine:PLAIN)%"`,
	).Replace(nested)
}

// TestSharedFilterState: what a request shares reaches the listeners inside as far as it
// should, and no request of another client, though HTTP connections are pooled.
func TestSharedFilterState(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	m := startMecha(t, nestedYAML(port))
	m.ready()
	askNested(t, port)
	if n := m.stat("cluster.second.upstream_cx_total"); n != 2 {
		t.Errorf("%d connections to the second listener, want one for each client", n)
	}
}

func askNested(t *testing.T, port uint32) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for i := range 6 {
		who := []string{"alice", "bob"}[i%2]
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+local(port), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("who", who)
		a, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if got, want := strings.TrimSpace(a.Header.Get("second"))+"; "+strings.TrimSpace(a.Header.Get("third")), who+" "+who+"; "+who; got != want || a.StatusCode != 200 {
			t.Errorf("request %d: %d, state %q, want %q", i, a.StatusCode, got, want)
		}
	}
}
