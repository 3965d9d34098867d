package control

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// write puts files into a folder; nil content removes one.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if content == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		tmp := filepath.Join(filepath.Dir(path), ".tmp")
		if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, path); err != nil {
			t.Fatal(err)
		}
	}
}

func load(t *testing.T, f *Folder) State {
	t.Helper()
	s, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func list(s Set) string {
	var out []string
	for _, r := range s.sorted() {
		out = append(out, r.String())
	}
	return strings.Join(out, ", ")
}

func staticCluster(name string) string {
	return "name: " + name + "\ntype: STATIC\nconnect_timeout: 1s\n"
}

func TestFormsOfAFile(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"recognised by fields": {`
name: c
type: static
connect_timeout: 1s
---
cluster_name: c
endpoints: {lb_endpoints: []}
---
# a comment only
---
name: r
virtual_hosts: []
---
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 1}}
`, "cluster c, endpoints c, listener l, routes r"},
		"typed": {`
"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: c
type: STATIC
`, "cluster c"},
		"a discovery response, mixed": {`
version_info: "1"
resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: c
- name: r
  virtualHosts: [{name: v, domains: ["*"]}]
`, "cluster c, routes r"},
		"a list": {"- {name: a, type: STATIC}\n- {name: b, type: STATIC}\n", "cluster a, cluster b"},
		"json":   {"{\n\t\"name\": \"c\",\n\t\"connectTimeout\": \"1s\"\n}\n", "cluster c"},
		"a bootstrap's static resources": {`
static_resources:
  clusters: [{name: c, type: STATIC}]
  listeners: [{name: l, address: {pipe: {path: /l}}}]
`, "cluster c, listener l"},
		"secret": {"name: s\ngeneric_secret: {secret: {inline_string: x}}\n", "secret s"},
	} {
		resources, _, err := readFile(bootstrap.Source{Name: "x", Data: []byte(tc.content)})
		s := Set{}
		for _, r := range resources {
			s[r.key()] = r
		}
		if got := list(s); err != nil || got != tc.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
	}
}

func TestMistakesNameLineAndPath(t *testing.T) {
	for content, want := range map[string]string{
		"name: c\ntype: STATIC\nconect_timeout: 1s\n":                           "x.yaml:3: conect_timeout: envoy.config.cluster.v3.Cluster has no such field; did you mean connect_timeout?",
		"name: a\ntype: STATIC\n---\nname: c\ntype: STATIC\nconnect_timeout: 1": "x.yaml:6: connect_timeout: expected a duration",
		"name: a\ntype: STATIC\n---\nname: c\nlb_policy: [1]\n":                 "x.yaml:5: lb_policy",
		"name: just-a-name\n": `could be a`,
		"foo: 1\n":            `x.yaml:1: no resource has a field "foo"`,
		"type: STATIC\n":      "x.yaml:1: name: must not be empty",
		"- hello\n":           "expected a resource (an object)",
		"name: [\n":           "x.yaml:",
		"# nothing\n":         "the file is empty",
		"name: a\ntype: STATIC\n---\n\n---\nname: a\ntype: STATIC\n":                                                                "x.yaml:6: cluster a is already on line 1",
		"\"@type\": type.googleapis.com/google.protobuf.Duration\nvalue: 1s\n":                                                      "no resource that can be served here",
		"\"@type\": type.googleapis.com/envoy.config.clustr.v3.Cluster\nname: c\n":                                                  "no resource that can be served here",
		"resources:\n- name: r\n  virtual_hosts:\n  - name: v\n    domains: [\"*\"]\n    routes:\n    - match: {prefix: 5, x: 1}\n": "x.yaml:7: resources[0].virtual_hosts[0].routes[0].match",
	} {
		_, _, err := readFile(bootstrap.Source{Name: "x.yaml", Data: []byte(content)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n  %v\nwant an error with\n  %s", content, err, want)
		}
	}
}

func TestLastGoodContentOfEachFileStays(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.yaml": staticCluster("a"), "b.yaml": staticCluster("b"), "notes.txt": "not yaml", ".hidden.yaml": "x", "c.yaml~": "x"})
	f := NewFolder(dir)
	if s := load(t, f); list(s.Sets[""]) != "cluster a, cluster b" || len(s.Problems) != 0 || s.Files != 2 {
		t.Fatalf("loaded %s, problems %v, %d files", list(s.Sets[""]), s.Problems, s.Files)
	}
	write(t, dir, map[string]string{"a.yaml": "name: a\ntype: NO\n", "b.yaml": staticCluster("b2")})
	s := load(t, f)
	if list(s.Sets[""]) != "cluster a, cluster b2" || len(s.Problems) != 1 || !slices.Equal(s.Stale, []string{"a.yaml"}) {
		t.Errorf("with a broken: %s, problems %v, stale %v", list(s.Sets[""]), s.Problems, s.Stale)
	}
	if again := load(t, f); len(again.Problems) != 1 || !same(again.Sets[""], s.Sets[""]) {
		t.Errorf("loaded again: problems %v", again.Problems)
	}
	write(t, dir, map[string]string{"a.yaml": "# emptied, perhaps half written\n"})
	if s := load(t, f); list(s.Sets[""]) != "cluster a, cluster b2" || len(s.Problems) != 1 {
		t.Errorf("with a empty: %s, %v", list(s.Sets[""]), s.Problems)
	}
	write(t, dir, map[string]string{"a.yaml": ""}) // removed
	if s := load(t, f); list(s.Sets[""]) != "cluster b2" || len(s.Problems) != 0 {
		t.Errorf("with a removed: %s, %v", list(s.Sets[""]), s.Problems)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Load(); err == nil {
		t.Error("a folder that isn't there loads")
	}
}

func TestSubfoldersAndDuplicates(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"all.yaml":         staticCluster("shared") + "---\n" + staticCluster("special"),
		"again.yaml":       staticCluster("special") + "lb_policy: RANDOM\n",
		"cart-1/own.yaml":  staticCluster("special") + "alt_stat_name: mine\n",
		"cart-1/more.json": `{"name": "r", "virtual_hosts": []}`,
	})
	s := load(t, NewFolder(dir))
	if got := list(s.Sets["cart-1"]); got != "cluster shared, cluster special, routes r" {
		t.Errorf("the node's set is %s", got)
	}
	if got := s.Sets["cart-1"][key{ads.ClusterType, "special"}].File; got != "cart-1/own.yaml" {
		t.Errorf("the node's special comes from %s, want its own", got)
	}
	if got := list(s.Sets[""]); got != "cluster shared, cluster special" {
		t.Errorf("everyone's set is %s", got)
	}
	if len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Error(), "all.yaml:5: cluster special is already in again.yaml:1") {
		t.Errorf("problems %v", s.Problems)
	}
}

func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"x.yaml": `
name: routes
virtual_hosts:
- name: v
  domains: ["*"]
  routes:
  - match: {prefix: /}
    route: {weighted_clusters: {clusters: [{name: web, weight: 1}, {name: gone, weight: 1}]}}
---
{name: web, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}
---
{cluster_name: orphan}
---
name: l1
address: {socket_address: {address: 127.0.0.1, port_value: 80}}
filter_chains: [{filters: [{name: t, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: lost}}]}]
---
name: l2
address: {socket_address: {address: 127.0.0.1, port_value: 80}}
default_filter_chain: {filters: [{name: h, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: h, rds: {route_config_name: nowhere, config_source: {ads: {}}}}}]}
`})
	s := load(t, NewFolder(dir))
	all := strings.Join(s.Warnings, "\n")
	for _, want := range []string{
		`routes routes: virtual_hosts[0].routes[0].route.weighted_clusters.clusters[1]: there is no cluster "gone" here`,
		`cluster web: eds_cluster_config: there are no endpoints "web"`,
		`endpoints orphan: no cluster of type EDS uses them`,
		`listener l1: filter_chains[0].filters[0].cluster: there is no cluster "lost" here`,
		`listener l2: default_filter_chain.filters[0].rds: there are no routes "nowhere"`,
		`listener l2: address: listener l1 has the address 127.0.0.1:80 already`,
		`routes routes: no listener uses them`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q", want)
		}
	}
	if len(s.Warnings) != 7 || len(s.Problems) != 0 {
		t.Errorf("warnings:\n%s\nproblems: %v", all, s.Problems)
	}
}

// TestWarningsAcrossGroups: routes and endpoints of the folder itself that only
// one node's listeners and clusters need are used.
func TestWarningsAcrossGroups(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"shared.yaml": `
name: routes
virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]
---
{cluster_name: web}
---
{cluster_name: orphan}
`,
		"a/own.yaml": `
{name: web, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}
---
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 80}}
default_filter_chain: {filters: [{name: h, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: h, rds: {route_config_name: routes, config_source: {ads: {}}}}}]}
`,
		"b/own.yaml": `{name: other, type: STATIC}`,
	})
	s := load(t, NewFolder(dir))
	if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "endpoints orphan: no cluster of type EDS uses them") {
		t.Errorf("warnings: %q", s.Warnings)
	}
}

func TestChangesInWords(t *testing.T) {
	parse := func(content string) Set {
		resources, _, err := readFile(bootstrap.Source{Name: "x.yaml", Data: []byte(content)})
		if err != nil {
			t.Fatal(err)
		}
		s := Set{}
		for _, r := range resources {
			s[r.key()] = r
		}
		return s
	}
	route := func(weight string) string {
		return `
name: shop
virtual_hosts:
- name: v
  domains: ["*"]
  routes:
  - match: {prefix: /}
    route: {weighted_clusters: {clusters: [{name: a, weight: 1}, {name: b, weight: ` + weight + `}]}}
---
`
	}
	secret := func(v string) string { return "name: s\ngeneric_secret: {secret: {inline_string: " + v + "}}\n---\n" }
	old := parse(route("10") + secret("hunter2") + staticCluster("gone") + "---\n" + "name: c\ntype: STATIC\nlb_policy: RANDOM\n")
	new := parse(route("50") + secret("hunter3") + staticCluster("new") + "---\n" + "# same, but for comments\nname: c\ntype: STATIC\ncircuit_breakers: {}\n")
	got := strings.Join(changes(old, new), "\n")
	want := `changed cluster c: lb_policy RANDOM -> ROUND_ROBIN, circuit_breakers added
added cluster new
changed secret s
changed routes shop: virtual_hosts[0].routes[0].route.weighted_clusters.clusters[1].weight 10 -> 50
removed cluster gone`
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if again := changes(new, new); again != nil {
		t.Errorf("nothing changed: %v", again)
	}
}

// An extension that the data plane doesn't run is served as the type it is.
func TestEveryExtensionIsKnown(t *testing.T) {
	_, warnings, err := readFile(bootstrap.Source{Name: "x.yaml", Data: []byte(`
name: geo
typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {action: DENY}}
`)})
	if err != nil || len(warnings) != 0 {
		t.Errorf("%v, warnings %v", err, warnings)
	}
}
