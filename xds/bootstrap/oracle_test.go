//go:build oracle

package bootstrap

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// envoyVerdict runs Envoy's own --mode validate over a configuration.
func envoyVerdict(t *testing.T, src Source, args ...string) (ok bool, message string) {
	t.Helper()
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	path := filepath.Join(t.TempDir(), src.Name)
	if err := os.WriteFile(path, src.Data, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(envoy, append([]string{"--mode", "validate", "--disable-hot-restart", "-l", "critical", "-c", path}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return err == nil, strings.TrimSpace(out.String())
}

// TestOracleAccepted: nothing is accepted here that Envoy refuses.
func TestOracleAccepted(t *testing.T) {
	for _, c := range acceptedCases() {
		t.Run(c.name, func(t *testing.T) {
			if ok, message := envoyVerdict(t, c.source()); !ok {
				t.Errorf("Envoy refuses what the loader accepts:\n%s\n%s", c.input, message)
			}
		})
	}
}

// TestOracleRefused: nothing is refused here that Envoy accepts.
func TestOracleRefused(t *testing.T) {
	for _, c := range readRefusals(t) {
		t.Run(c.title, func(t *testing.T) {
			var args []string
			if strings.Contains(c.title, "[allow]") {
				args = append(args, "--allow-unknown-static-fields")
			}
			if ok, _ := envoyVerdict(t, c.source(), args...); ok {
				t.Errorf("Envoy accepts what the loader refuses:\n%s\n%s", c.input, c.want)
			}
		})
	}
}
