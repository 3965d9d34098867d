package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// webYAML is an HTTP listener with its routes over ADS, as YAML.
func webYAML(port uint32) string {
	return fmt.Sprintf(`
name: web
address: {socket_address: {address: 127.0.0.1, port_value: %d}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: web
      rds: {route_config_name: shop, config_source: {ads: {}, resource_api_version: V3}}
      http_filters:
      - {name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
`, port)
}

func routeYAML(cluster string) string {
	return fmt.Sprintf("name: shop\nvirtual_hosts: [{name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: %s}}]}]\n", cluster)
}

func clusterYAML(name string, ports ...uint32) string {
	s := fmt.Sprintf("name: %s\ntype: STATIC\nconnect_timeout: 1s\nload_assignment: {cluster_name: %s, endpoints: [{lb_endpoints: [", name, name)
	for _, p := range ports {
		s += fmt.Sprintf("{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}},", p)
	}
	return s + "]}]}\n"
}

// put replaces a file at once.
func put(t testing.TB, path, text string) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), ".new")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// TestControlPlaneKilled kills mecha-control, again and again, while requests flow.
func TestControlPlaneKilled(t *testing.T) {
	t.Parallel()
	for _, delta := range []bool{true, false} {
		t.Run(fmt.Sprintf("delta %v", delta), func(t *testing.T) {
			t.Parallel()
			a, b := startBackend(t, "a"), startBackend(t, "b")
			dir, port := t.TempDir(), freePort(t)
			put(t, dir+"/listener.yaml", webYAML(port))
			put(t, dir+"/clusters.yaml", clusterYAML("a", a.port)+"---\n"+clusterYAML("b", b.port))
			put(t, dir+"/routes.yaml", routeYAML("a"))
			sock := "unix:" + filepath.Join(t.TempDir(), "xds.sock")
			control := []string{"serve", "--dir", dir, "--listen", sock, "--debounce", "10ms", "--grace", "20ms"}

			// mecha is there before its control plane.
			m := startMecha(t, overADS(sock, delta))
			m.until("control_plane.connected_state", 0)
			if code, _ := m.get("/ready"); code != 503 {
				t.Errorf("/ready says %d without any configuration", code)
			}
			p := start(t, "mecha-control", control...)
			m.ready()
			m.until("control_plane.connected_state", 1)

			l := startLoad(t, local(port))
			to := "a"
			for range 3 {
				l.answered(50)
				p.kill(syscall.SIGKILL)
				p.exit()
				m.until("control_plane.connected_state", 0)
				l.answered(50)
				if to == "a" {
					to = "b"
				} else {
					to = "a"
				}
				put(t, dir+"/routes.yaml", routeYAML(to))
				p = start(t, "mecha-control", control...)
				m.until("control_plane.connected_state", 1)
				eventually(t, "what changed while the control plane was down", func() string {
					if by := whoAnswers(t, local(port)); by != to {
						return fmt.Sprintf("answered by %q, want %q", by, to)
					}
					return ""
				})
				if code, _ := m.get("/ready"); code != 200 {
					t.Errorf("/ready says %d", code)
				}
			}
			l.stop()
			if l.closes > 0 {
				t.Errorf("%d connections were drained, though no listener has changed", l.closes)
			}
			if n := m.stat("listener_manager.listener_modified") + m.stat("cluster_manager.cluster_modified"); n != 0 {
				t.Errorf("%d listeners and clusters were modified by a control plane that came back with the same ones", n)
			}
		})
	}
}

func whoAnswers(t testing.TB, addr string) string {
	t.Helper()
	conn, err := from("127.0.0.1", addr)()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	by, _, err := client{path: "/get"}.exchange(conn, newReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	return by
}

// TestBrokenFileUnderLoad: a mistake in the control plane's folder changes nothing.
func TestBrokenFileUnderLoad(t *testing.T) {
	t.Parallel()
	a := startBackend(t, "a")
	dir, port := t.TempDir(), freePort(t)
	put(t, dir+"/listener.yaml", webYAML(port))
	put(t, dir+"/clusters.yaml", clusterYAML("a", a.port))
	put(t, dir+"/routes.yaml", routeYAML("a"))
	plane := local(freePort(t))
	p := start(t, "mecha-control", "serve", "--dir", dir, "--listen", plane, "--debounce", "10ms", "--grace", "20ms")
	m := startMecha(t, overADS(plane, true))
	m.ready()
	l := startLoad(t, local(port))
	l.answered(50)
	put(t, dir+"/routes.yaml", "name: shop\nvirtual_hosts: [{name: all, domains: ['*'], routs: []}]\n")
	eventually(t, "the mistake to be reported", func() string {
		if s := p.text(); !strings.Contains(s, "routes.yaml") || !strings.Contains(s, "routs") {
			return s
		}
		return ""
	})
	l.answered(50)
	put(t, dir+"/routes.yaml", routeYAML("a"))
	l.answered(50)
	l.stop()
}
