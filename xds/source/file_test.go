package source_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/source"
)

// table keeps what a data plane would have in effect: names with version numbers
// taken from the body.
type table struct {
	mu      sync.Mutex
	have    map[string]string
	updates int
	changed chan struct{}
}

func newTable() *table { return &table{have: map[string]string{}, changed: make(chan struct{}, 1)} }

func (h *table) Apply(u ads.Update) (refused []ads.Refusal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range u.Changed {
		if strings.Contains(string(r.Body.GetValue()), "refuse-me") {
			refused = append(refused, ads.Refusal{Name: r.Name, Err: fmt.Errorf("alt_stat_name: no")})
			continue
		}
		h.have[r.Name] = string(r.Body.GetValue())
	}
	for _, name := range u.Removed {
		delete(h.have, name)
	}
	h.updates++
	select {
	case h.changed <- struct{}{}:
	default:
	}
	return refused
}

func (h *table) FetchTimedOut(string, string) {}

func (h *table) until(t *testing.T, what string, ok func(have map[string]string) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		h.mu.Lock()
		done := ok(h.have)
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-h.changed:
		case <-deadline:
			t.Fatalf("waited 10 s for %s; have %q", what, h.have)
		}
	}
}

func names(want ...string) func(map[string]string) bool {
	return func(have map[string]string) bool {
		for _, n := range want {
			if _, ok := have[n]; !ok {
				return false
			}
		}
		return len(have) == len(want)
	}
}

func clusters(version string, names ...string) string {
	out := "version_info: " + version + "\nresources:\n"
	for _, n := range names {
		out += "- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: " + n + "\n  type: static\n"
	}
	return out
}

// replace puts content in place by a rename, as every careful writer does.
func replace(t *testing.T, path, content string) {
	t.Helper()
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, cfg source.Config) *source.File {
	t.Helper()
	f, err := source.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

func TestFileIsAppliedAgainWhenReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cds.yaml")
	replace(t, path, clusters("1", "a", "b"))
	h := newTable()
	f := run(t, source.Config{Path: path, TypeURL: ads.ClusterType, Handler: h})
	h.until(t, "a and b", names("a", "b"))

	replace(t, path, clusters("2", "b", "c"))
	h.until(t, "b and c: what the file no longer has is removed", names("b", "c"))

	replace(t, path, "resources: [")
	replace(t, path, clusters("3", "b", "refuse-me", "d"))
	h.until(t, "b and d: c removed, the refused one left out", names("b", "d"))

	replace(t, path, clusters("4", "b")+"- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: e\n  connect_timeout: soon\n")
	h.until(t, "no removal while a resource can't be read", names("b", "d"))

	replace(t, path, clusters("5", "b"))
	h.until(t, "b alone", names("b"))
	counted := func() bool {
		st := f.Stats()
		return st.UpdateSuccess >= 3 && st.UpdateRejected >= 1 && st.VersionText == "5"
	}
	for deadline := time.Now().Add(10 * time.Second); !counted(); runtime.Gosched() { // the counters follow the handler
		if time.Now().After(deadline) {
			t.Fatalf("stats %+v", f.Stats())
		}
	}
}

func TestConfigMapSwap(t *testing.T) {
	dir := t.TempDir()
	put := func(gen string, content string) {
		if err := os.MkdirAll(filepath.Join(dir, gen), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, gen, "cds.yaml"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		tmp := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(gen, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	put("..1", clusters("1", "a"))
	path := filepath.Join(dir, "cds.yaml")
	if err := os.Symlink("..data/cds.yaml", path); err != nil {
		t.Fatal(err)
	}
	h := newTable()
	run(t, source.Config{Path: path, WatchedDirectory: dir, TypeURL: ads.ClusterType, Handler: h})
	h.until(t, "a", names("a"))
	put("..2", clusters("2", "b"))
	h.until(t, "b: the link was swapped, the file itself was not touched", names("b"))
}

func TestNamedResourceOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eds.json")
	replace(t, path, `{"versionInfo":"1","resources":[
		{"@type":"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment","clusterName":"a"},
		{"@type":"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment","clusterName":"b"}]}`)
	h := newTable()
	run(t, source.Config{Path: path, TypeURL: ads.EndpointType, Names: []string{"b"}, Handler: h})
	h.until(t, "b", names("b"))
}

func TestOpenRefusesAMissingFile(t *testing.T) {
	if _, err := source.Open(source.Config{Path: "/nonexistent/cds.yaml", TypeURL: ads.ClusterType, Handler: newTable()}); err == nil || !strings.Contains(err.Error(), "path_config_source.path") {
		t.Errorf("error %v", err)
	}
}

func TestReadNamesLineAndPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cds.yaml")
	replace(t, path, clusters("1", "a")+"- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n  name: e\n  connect_timeout: soon\n")
	r, err := source.Read(path, ads.ClusterType)
	if err != nil || len(r.Resources) != 1 || len(r.Malformed) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if bad := r.Malformed[0]; bad.Name != "e" || !strings.Contains(bad.Err.Error(), "cds.yaml:8: resources[1].connect_timeout") {
		t.Errorf("refused %s: %v", bad.Name, bad.Err)
	}
	replace(t, path, "clusters: []\n")
	if _, err := source.Read(path, ads.ClusterType); err == nil || !strings.Contains(err.Error(), "resources") {
		t.Errorf("error %v, want one that says what the file must hold", err)
	}
}
