package xds_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

const meshBootstrap = `
node: {id: me, cluster: mine}
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {ads: {}, initial_fetch_timeout: 0s}
  lds_config: {ads: {}, initial_fetch_timeout: 0s}
static_resources: {clusters: [XDS]}
`

// TestLastKnownGood: a proxy that starts while the control plane is away serves what it
// served before, until the control plane answers; then that is replaced without a gap.
func TestLastKnownGood(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	keep := func(o *xds.Options) { o.LastGood = xds.LastGood{Dir: dir, Grace: time.Hour} }
	rds := "rds: {route_config_name: %, config_source: {ads: {}}}\n" + routerFilter
	plane := xdstest.New(t)
	plane.Set(
		xdstest.StaticCluster("old", "127.0.0.1", 1), xdstest.EDSCluster("c"), xdstest.Endpoints("c", xdstest.SocketAddress("127.0.0.1", 1)),
		message(t, &clusterv3.Cluster{}, `{name: "with-key", connect_timeout: 1s, type: STATIC, metadata: {filter_metadata: {x: {k: "-----BEGIN PRIVATE KEY-----"}}}}`),
		httpListener(t, "l", string(bytes.ReplaceAll([]byte(rds), []byte("%"), []byte("r")))),
		httpListener(t, "gone", string(bytes.ReplaceAll([]byte(rds), []byte("%"), []byte("r2")))),
		message(t, &routev3.RouteConfiguration{}, answers("r", "first")), message(t, &routev3.RouteConfiguration{}, answers("r2", "second")),
	)
	k := proxyOf(t, plane, meshBootstrap, keep)
	if got := k.get("l", "/"); got != "200 first" {
		t.Fatal(got)
	}
	until(t, "a save of everything", func() bool {
		raw, err := os.ReadFile(filepath.Join(dir, "last-known-good.pb"))
		return err == nil && bytes.Contains(raw, []byte("second")) && bytes.Contains(raw, []byte("gone"))
	})
	k.stop()
	raw, err := os.ReadFile(filepath.Join(dir, "last-known-good.pb"))
	if err != nil || bytes.Contains(raw, []byte("PRIVATE KEY")) || bytes.Contains(raw, []byte("with-key")) {
		t.Errorf("a private key was written (%v)", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "last-known-good.pb")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	plane.Kill()
	k = proxyOf(t, plane, meshBootstrap, keep)
	if got := k.get("l", "/"); got != "200 first" {
		t.Errorf("without control plane: %s", got)
	}
	if got := k.get("gone", "/"); got != "200 second" {
		t.Errorf("without control plane: %s", got)
	}
	if !k.manager.Initialized() || k.stat("last_known_good.active") != 1 || k.stat("last_known_good.loads") != 1 {
		t.Errorf("initialized %t, active %d", k.manager.Initialized(), k.stat("last_known_good.active"))
	}
	if age := k.stat("last_known_good.age_seconds"); age < 0 || age > 3600 {
		t.Errorf("it is %d s old", age)
	}
	stale := 0
	for _, r := range k.manager.Overview(func(string) bool { return false }) {
		if r.Stale {
			stale++
		}
	}
	if stale != 7 {
		t.Errorf("%d stale resources, want 7", stale)
	}

	plane.Remove(ads.ListenerType, "gone")
	plane.Remove(ads.ClusterType, "old")
	plane.Set(message(t, &routev3.RouteConfiguration{}, answers("r", "third")))
	plane.Restart()
	gap := false
	until(t, "the control plane's configuration", func() bool {
		got := k.get("l", "/")
		gap = gap || got != "200 first" && got != "200 third"
		return got == "200 third"
	})
	if gap {
		t.Error("there was a gap")
	}
	until(t, "the end of what is no more", func() bool {
		return len(k.server.Listeners.Listeners()) == 1 && k.server.Clusters.Cluster("old") == nil && k.stat("last_known_good.active") == 0
	})
}

// TestLastKnownGoodIsNotForAnyone: what is too old, or of another node, is not used.
func TestLastKnownGoodIsNotForAnyone(t *testing.T) {
	dir := t.TempDir()
	plane := xdstest.New(t)
	plane.Set(httpListener(t, "l", "route_config: "+answers("r", "first")+routerFilter))
	k := proxyOf(t, plane, meshBootstrap, func(o *xds.Options) { o.LastGood = xds.LastGood{Dir: dir} })
	k.port("l")
	until(t, "a save", func() bool { return k.stat("last_known_good.saves") > 0 })
	k.stop()
	plane.Kill()
	k = proxyOf(t, plane, meshBootstrap, func(o *xds.Options) { o.LastGood = xds.LastGood{Dir: dir, MaxAge: 1} })
	until(t, "the refusal", func() bool { return k.stat("last_known_good.expired") == 1 })
	if n := len(k.server.Listeners.Listeners()); n != 0 {
		t.Errorf("%d listeners", n)
	}
}
