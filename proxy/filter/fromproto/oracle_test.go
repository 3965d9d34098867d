//go:build oracle

package fromproto_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// around is a bootstrap with a connection manager around a route configuration.
const around = `{"static_resources": {
 "clusters": [{"name": "c", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": "c"}}],
 "listeners": [{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}, "filter_chains": [{"filters": [
  {"name": "hcm", "typed_config": {
   "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
   "stat_prefix": "x", "route_config": ROUTES, "http_filters": [{"name": "router", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]}}`

// TestOracleRouteVerdicts: nothing is accepted that Envoy refuses, and nothing refused
// that it accepts, unless the file says why.
func TestOracleRouteVerdicts(t *testing.T) {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	_, all := readVerdicts(t)
	for _, v := range all {
		t.Run(v.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "b.json")
			if err := os.WriteFile(path, []byte(strings.Replace(around, "ROUTES", v.json, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(envoy, "--mode", "validate", "--disable-hot-restart", "-l", "critical", "-c", path).CombinedOutput()
			if want := v.accepted() || v.stricter(); (err == nil) != want {
				t.Errorf("Envoy accepts it: %v, the file says %s\n%s", err == nil, v.verdict, out)
			}
		})
	}
}
