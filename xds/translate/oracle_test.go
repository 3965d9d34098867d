//go:build oracle

package translate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOracleVerdicts: nothing is accepted that Envoy refuses, and nothing refused that
// it accepts, unless the file says why.
func TestOracleVerdicts(t *testing.T) {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	for file, around := range map[string]string{
		"testdata/clusters.txt": `{"node": {"id": "n", "cluster": "c"}, "static_resources": {"clusters": [CASE]}}`,
		"testdata/listeners.txt": `{"node": {"id": "n", "cluster": "c"},
			"bootstrap_extensions": [{"name": "i", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"}}], "static_resources": {"listeners": [CASE], "clusters": [
			{"name": "c", "connect_timeout": "1s", "type": "STATIC", "load_assignment": {"cluster_name": "c"}}]}}`,
	} {
		_, all := readVerdicts(t, file)
		for _, v := range all {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+v.name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "b.json")
				if err := os.WriteFile(path, []byte(strings.Replace(around, "CASE", v.json, 1)), 0o600); err != nil {
					t.Fatal(err)
				}
				out, err := exec.Command(envoy, "--mode", "validate", "--disable-hot-restart", "-l", "critical", "-c", path).CombinedOutput()
				if (err == nil) != v.byEnvoy() {
					t.Errorf("Envoy accepts it: %v, the file says %s\n%s", err == nil, v.verdict, out)
				}
			})
		}
	}
}
