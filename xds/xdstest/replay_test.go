package xdstest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

func TestReplayServesACapture(t *testing.T) {
	dir := t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "cds.json"), []byte(`{
	  "versionInfo": "2026-08-01T00:00:00Z/7", "typeUrl": "`+ads.ClusterType+`", "nonce": "x",
	  "resources": [
	    {"@type": "`+ads.ClusterType+`", "name": "outbound|80||cart.shop.svc", "type": "EDS",
	     "transportSocket": {"name": "t", "typedConfig": {"@type": "type.googleapis.com/nobody.knows.v1.This", "a": 1}}},
	    {"@type": "`+ads.ClusterType+`", "name": "PassthroughCluster", "type": "ORIGINAL_DST", "lbPolicy": "CLUSTER_PROVIDED"}]}`), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	s := xdstest.New(t)
	if n := s.Replay(dir); n[ads.ClusterType] != 2 || len(n) != 1 {
		t.Errorf("replayed %v, want two clusters", n)
	}
}

// The session's answers to a delta client, by the protocol's own rules: other tests
// rely on them.
func TestDeltaSessionAnswersByName(t *testing.T) {
	var p xdstest.Plane
	for _, body := range []string{"a", "b"} {
		r := xdstest.Route(body, "c")
		packed := xdstest.Pack(t, r)
		p.Set(body, packed)
	}
	s := xdstest.NewSession(1, true)
	s.Accept(xdstest.Request{TypeURL: ads.RouteType, Names: []string{"a", "nope"}})
	r, ok := p.Due(s)
	if !ok || len(r.Names) != 1 || r.Names[0] != "a" || len(r.Removed) != 1 || r.Removed[0] != "nope" {
		t.Errorf("%+v, want a, and that nope does not exist", r)
	}
	s.Accept(xdstest.Request{TypeURL: ads.RouteType, Names: []string{"b"}, Unsubscribe: []string{"a"}, Nonce: r.Nonce})
	if r, ok = p.Due(s); !ok || len(r.Names) != 1 || r.Names[0] != "b" || len(r.Removed) != 0 {
		t.Errorf("%+v, want b", r)
	}
	if r, ok = p.Due(s); ok {
		t.Errorf("%+v, want nothing more", r)
	}
	s.Accept(xdstest.Request{TypeURL: ads.RouteType, Names: []string{"b"}})
	if r, ok = p.Due(s); !ok || len(r.Names) != 1 {
		t.Errorf("%+v, want b again: it was asked for again", r)
	}
}
