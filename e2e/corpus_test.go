package e2e

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// TestCorpus gives mecha what a real control plane has sent: MECHA_CORPUS is a folder
// with one DiscoveryResponse for each type, as JSON. What is plain is accepted, the rest
// is refused by name, and nothing crashes. It runs in a network namespace of its own,
// since such listeners have fixed ports.
func TestCorpus(t *testing.T) {
	dir := os.Getenv("MECHA_CORPUS")
	if dir == "" {
		t.Skip("MECHA_CORPUS names no recorded configuration")
	}
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	variants(t, func(t *testing.T, delta bool) {
		sock := filepath.Join(t.TempDir(), "xds.sock")
		plane := xdstest.Listen(t, "unix:"+sock)
		have := plane.Replay(dir)
		m := startMechaIsolated(t, overADS("unix:"+sock, delta))
		// Everything is asked for that what was accepted refers to, and no request is
		// left without a verdict.
		eventually(t, "an answer to listeners", func() string {
			for _, r := range plane.Requests() {
				if r.TypeURL == ads.ListenerType && r.Nonce != "" {
					return ""
				}
			}
			return "none"
		})
		m.ready()
		refused := map[string][]string{}
		for _, section := range []string{"dynamic_active_clusters", "dynamic_listeners", "dynamic_route_configs", "dynamic_endpoint_configs"} {
			for name, why := range m.errorStates(section) {
				refused[section] = append(refused[section], name+": "+why)
			}
			slices.Sort(refused[section])
			t.Logf("%s: %d refused\n  %s", section, len(refused[section]), strings.Join(refused[section], "\n  "))
		}
		t.Logf("sent %v; active: %d clusters, %d listeners", have, m.stat("cluster_manager.active_clusters"), m.stat("listener_manager.total_listeners_active"))
		if n := m.stat("cluster_manager.active_clusters") + len(refused["dynamic_active_clusters"]); n != have[ads.ClusterType] {
			t.Errorf("%d clusters are accounted for, of %d", n, have[ads.ClusterType])
		}
		if n := m.stat("listener_manager.total_listeners_active") + len(refused["dynamic_listeners"]); n != have[ads.ListenerType] {
			t.Errorf("%d listeners are accounted for, of %d", n, have[ads.ListenerType])
		}
		for _, r := range plane.Requests() {
			if r.Error != "" {
				t.Logf("NACK: %.300s", r.Error)
			}
		}
		m.kill(syscall.SIGTERM)
		if code := m.exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// startMechaIsolated is startMecha in a network namespace of its own; its admin
// interface is on a unix socket.
func startMechaIsolated(t *testing.T, bootstrap string) *sidecar {
	t.Helper()
	dir := t.TempDir()
	file, admin := filepath.Join(dir, "bootstrap.yaml"), filepath.Join(dir, "admin.sock")
	if err := os.WriteFile(file, []byte(bootstrap+"\nadmin: {address: {pipe: {path: \""+admin+"\"}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &sidecar{process: startIn(t, syscall.CLONE_NEWNET, binary(t, "mecha"), "proxy", "-c", file), admin: "http://admin"}
	s.http = &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", admin)
		},
	}}
	t.Cleanup(s.http.CloseIdleConnections)
	eventually(t, "the admin socket", func() string {
		if _, err := os.Stat(admin); err != nil {
			return err.Error()
		}
		return ""
	})
	return s
}
