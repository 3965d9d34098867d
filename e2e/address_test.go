package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// TestAddresses goes from every kind of address to every other one, under load.
func TestAddresses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	v6 := true
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		v6 = false
	} else {
		l.Close()
	}
	kinds := []struct{ name, network, listen, upstream string }{
		{"v4", "tcp", local(freePort(t)), "127.0.0.1:0"},
		{"v6", "tcp", fmt.Sprintf("[::1]:%d", freePort(t)), "[::1]:0"},
		{"unix", "unix", filepath.Join(dir, "listen.sock"), filepath.Join(dir, "upstream.sock")},
		{"abstract", "unix", "@mecha-e2e-" + filepath.Base(dir), "@mecha-e2e-up-" + filepath.Base(dir)},
	}
	text := "node: {id: a, cluster: b}\nstatic_resources:\n  clusters:\n"
	var clusters, listeners string
	for _, k := range kinds {
		if k.name == "v6" && !v6 {
			continue
		}
		l, err := net.Listen(k.network, k.upstream)
		if err != nil {
			t.Fatal(err)
		}
		s := &httptest.Server{Listener: l, Config: &http.Server{Handler: &backend{name: k.name}}}
		s.Start()
		t.Cleanup(s.Close)
		clusters += fmt.Sprintf("  - {name: %s, type: STATIC, connect_timeout: 1s, load_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [{endpoint: {address: %s}}]}]}}\n",
			k.name, k.name, yamlAddress(t, k.network, l.Addr().String()))
		routes := ""
		for _, to := range kinds {
			if to.name != "v6" || v6 {
				routes += fmt.Sprintf("{match: {prefix: /, headers: [{name: to, string_match: {exact: %s}}]}, route: {cluster: %s}}, ", to.name, to.name)
			}
		}
		listeners += fmt.Sprintf(`
  - name: %s
    address: %s
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: %s
          route_config: {name: shop, virtual_hosts: [{name: all, domains: ["*"], routes: [%s]}]}
          http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`, k.name, yamlAddress(t, k.network, k.listen), k.name, routes)
	}
	m := startMecha(t, text+clusters+"  listeners:\n"+listeners)
	m.ready()
	for _, k := range kinds {
		if k.name == "v6" && !v6 {
			continue
		}
		for _, to := range kinds {
			if to.name == "v6" && !v6 {
				continue
			}
			dial := func() (net.Conn, error) { return net.DialTimeout(k.network, k.listen, patience) }
			l := startLoadOf(t, dial, client{path: "/get", header: "to: " + to.name}, client{path: "/post", body: make([]byte, 100<<10), header: "to: " + to.name}, client{path: "/get", once: true, header: "to: " + to.name})
			l.answered(30)
			l.stop()
			if len(l.by) != 1 || l.by[to.name] == 0 {
				t.Errorf("from %s to %s: answered by %v", k.name, to.name, l.by)
			}
		}
	}
	m.kill(15)
	if code := m.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(kinds[2].listen); err == nil {
		t.Error("the unix socket was left behind")
	}
}

func yamlAddress(t *testing.T, network, addr string) string {
	t.Helper()
	if network == "unix" {
		return fmt.Sprintf("{pipe: {path: %q}}", addr)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("{socket_address: {address: %q, port_value: %s}}", host, port)
}
