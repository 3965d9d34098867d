package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// volume is a folder of files that are replaced together.
type volume interface {
	swap(files map[string]string)
	path(name string) string
}

// plain replaces one file after the other by rename.
type plain struct {
	t   *testing.T
	dir string
}

func (p plain) path(name string) string { return filepath.Join(p.dir, name) }
func (p plain) swap(files map[string]string) {
	for _, name := range []string{"eds.yaml", "cds.yaml", "rds.yaml", "lds.yaml"} {
		if text, ok := files[name]; ok {
			put(p.t, p.path(name), text)
		}
	}
}

// configMap replaces all files at once, as the kubelet does: each is a link through
// the link ..data, which is replaced.
type configMap struct {
	plain
	n *int
}

func (c configMap) swap(files map[string]string) {
	c.t.Helper()
	*c.n++
	fresh := fmt.Sprintf("..2026_%d", *c.n)
	steps := []error{os.Mkdir(c.path(fresh), 0o755)}
	for name, text := range files {
		steps = append(steps, os.WriteFile(c.path(fresh+"/"+name), []byte(text), 0o644))
		if _, err := os.Lstat(c.path(name)); err != nil {
			steps = append(steps, os.Symlink("..data/"+name, c.path(name)))
		}
	}
	old, _ := os.Readlink(c.path("..data")) // none at first
	steps = append(steps, os.Symlink(fresh, c.path("..data_tmp")), os.Rename(c.path("..data_tmp"), c.path("..data")))
	if old != "" {
		steps = append(steps, os.RemoveAll(c.path(old)))
	}
	for _, err := range steps {
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// response writes a DiscoveryResponse in YAML.
func response(kind string, resources ...string) string {
	var s strings.Builder
	s.WriteString("resources:\n")
	for _, r := range resources {
		fmt.Fprintf(&s, "- \"@type\": type.googleapis.com/envoy.config.%s\n", kind)
		for line := range strings.Lines(strings.TrimPrefix(r, "\n")) {
			s.WriteString("  " + line)
		}
	}
	return s.String()
}

// TestFiles drives all four types from files, which change under load.
func TestFiles(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) volume{
		"rename":    func(t *testing.T) volume { return plain{t, t.TempDir()} },
		"ConfigMap": func(t *testing.T) volume { return configMap{plain{t, t.TempDir()}, new(int)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, port := startBackend(t, "a"), startBackend(t, "b"), freePort(t)
			v := open(t)
			state := func(n int, to *backend) map[string]string {
				web := strings.Replace(webYAML(port), "config_source: {ads: {}, resource_api_version: V3}",
					fmt.Sprintf("config_source: {path_config_source: {path: %q}}", v.path("rds.yaml")), 1)
				var clusters []string // files of different types change in any order: those before and the next one are there, too
				for i := n - 3; i <= n+1; i++ {
					clusters = append(clusters, fmt.Sprintf("name: eds%d\ntype: EDS\nconnect_timeout: 1s\neds_cluster_config: {service_name: svc, eds_config: {path_config_source: {path: %q}}}\n", i, v.path("eds.yaml")))
				}
				assignment := strings.Replace(clusterYAML("svc", to.port), "name: svc\ntype: STATIC\nconnect_timeout: 1s\nload_assignment: {cluster_name: svc, endpoints: [", "cluster_name: svc\nendpoints: [", 1)
				return map[string]string{
					"lds.yaml": response("listener.v3.Listener", web+fmt.Sprintf("listener_filters_timeout: %ds\n", n+1)),
					"cds.yaml": response("cluster.v3.Cluster", clusters...),
					"rds.yaml": response("route.v3.RouteConfiguration", routeYAML(fmt.Sprintf("eds%d", n))),
					"eds.yaml": response("endpoint.v3.ClusterLoadAssignment", strings.Replace(assignment, "]}]}\n", "]}]\n", 1)),
				}
			}
			v.swap(state(0, a))
			m := startMecha(t, fmt.Sprintf(`
node: {id: a, cluster: b}
dynamic_resources:
  cds_config: {path_config_source: {path: %q}}
  lds_config: {path_config_source: {path: %q}}
`, v.path("cds.yaml"), v.path("lds.yaml")))
			m.ready()
			l := startLoad(t, local(port))
			l.answered(50)
			goroutines, fds := m.stat("server.goroutines"), m.fds()
			for i := 1; i <= 20; i++ {
				to := []*backend{a, b}[i%2]
				v.swap(state(i, to))
				eventually(t, fmt.Sprintf("change %d", i), func() string {
					if by := whoAnswers(t, local(port)); by != to.name {
						return fmt.Sprintf("answered by %q, want %q", by, to.name)
					}
					return ""
				})
				m.until("cluster_manager.cluster_added", 5+i)
				m.until("listener_manager.listener_modified", i)
			}
			v.swap(map[string]string{"lds.yaml": "resources: [}", "cds.yaml": state(20, a)["cds.yaml"], "rds.yaml": state(20, a)["rds.yaml"], "eds.yaml": state(20, a)["eds.yaml"]})
			m.until("listener_manager.lds.update_failure", 1)
			l.answered(50)
			l.stop()
			m.until("cluster_manager.active_clusters", 5)
			m.until("server.total_connections", 0)
			eventually(t, "goroutines and descriptors to go", func() string {
				if g, n := m.stat("server.goroutines"), m.fds(); g > goroutines+5 || n > fds+8 {
					return fmt.Sprintf("%d goroutines (%d at first), %d descriptors (%d at first)", g, goroutines, n, fds)
				}
				return ""
			})
		})
	}
}
