package xdstest

import (
	"path/filepath"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// Replay sets everything that a real control plane sent: each *.json file of dir
// holds one DiscoveryResponse as proto JSON. A type that isn't linked becomes a
// TypedStruct that names it. It returns how many resources of each
// type there are.
func (s *Server) Replay(dir string) map[string]int {
	s.tb.Helper()
	count := map[string]int{}
	for _, body := range Capture(s.tb, dir) {
		name, err := ads.NameOf(body)
		if err != nil {
			s.tb.Fatalf("xdstest: %s: %v", dir, err)
		}
		s.SetRaw(name, body)
		count[body.GetTypeUrl()]++
	}
	return count
}

// Capture reads the resources of a directory as Replay takes it.
func Capture(tb testing.TB, dir string) []*anypb.Any {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("xdstest: no capture in %s (%v)", dir, err)
	}
	var out []*anypb.Any
	for _, path := range files {
		src, err := bootstrap.ReadSource(path)
		if err != nil {
			tb.Fatalf("xdstest: %v", err)
		}
		var r discoveryv3.DiscoveryResponse
		if _, err := bootstrap.Decode(src, &r, bootstrap.Options{AllowUnknownFields: true, KeepUnknownTypes: true}); err != nil {
			tb.Fatalf("xdstest: %v", err)
		}
		out = append(out, r.GetResources()...)
	}
	return out
}
