//go:build oracle

package e2e

import (
	"os"
	"testing"
)

func TestOracleSecureCalls(t *testing.T) {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	playGuarded(t, envoy, "--disable-hot-restart", "--concurrency", "1", "-l", "error")
}
