package control

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// rawStream speaks SotW by hand, so that a test decides when to acknowledge.
type rawStream struct {
	t *testing.T
	discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
}

func openRaw(t *testing.T, address string) rawStream {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rawStream{t, s}
}

func (s rawStream) ask(url string, names []string, answer *discoveryv3.DiscoveryResponse) {
	s.t.Helper()
	err := s.Send(&discoveryv3.DiscoveryRequest{
		Node: &corev3.Node{Id: "raw"}, TypeUrl: url, ResourceNames: names,
		VersionInfo: answer.GetVersionInfo(), ResponseNonce: answer.GetNonce(),
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s rawStream) next(url string) *discoveryv3.DiscoveryResponse {
	s.t.Helper()
	r, err := s.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	if r.GetTypeUrl() != url {
		s.t.Fatalf("got %s, want %s", r.GetTypeUrl(), url)
	}
	return r
}

// Envoy and mecha acknowledge clusters when new ones are ready for use: routes wait
// for that, but not for ever.
func TestRoutesWaitForTheAckOfClusters(t *testing.T) {
	const late = "did not answer the new clusters in time"
	for _, acks := range []bool{true, false} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"x.yaml": staticCluster("a") + "---\n" + routes("a")})
		s, log := serveFolder(t, dir)
		raw := openRaw(t, s.Addresses()[0])
		raw.ask(ads.ClusterType, nil, nil)
		raw.ask(ads.ClusterType, nil, raw.next(ads.ClusterType))
		raw.ask(ads.RouteType, []string{"routes"}, nil)
		raw.ask(ads.RouteType, []string{"routes"}, raw.next(ads.RouteType))

		write(t, dir, map[string]string{"x.yaml": staticCluster("b") + "---\n" + routes("b")})
		both := raw.next(ads.ClusterType)
		if len(both.GetResources()) != 2 {
			t.Errorf("first %d clusters are sent, want the old and the new one", len(both.GetResources()))
		}
		if acks {
			raw.ask(ads.ClusterType, nil, both)
		}
		raw.next(ads.RouteType)
		if got := strings.Contains(log.String(), late); got == acks {
			t.Errorf("acknowledged %v: the log says %q: %v", acks, late, got)
		}
		if !acks {
			raw.ask(ads.ClusterType, nil, both)
		}
		if left := raw.next(ads.ClusterType); len(left.GetResources()) != 1 {
			t.Errorf("at last %d clusters, want the new one alone", len(left.GetResources()))
		}
	}
}

func TestStages(t *testing.T) {
	set := func(items ...string) Set {
		s := Set{}
		for _, item := range items {
			url, name := ads.ClusterType, item
			if route, ok := strings.CutPrefix(item, "r:"); ok {
				url, name = ads.RouteType, route
			}
			name, version, _ := strings.Cut(name, "@")
			r := &Resource{TypeURL: url, Name: name}
			copy(r.digest[:], version)
			s[r.key()] = r
		}
		return s
	}
	for _, tc := range []struct {
		what     string
		old, new Set
		want     []string
	}{
		{"nothing", set("a"), set("a"), nil},
		{"a cluster changes", set("a", "r:r"), set("a@2", "r:r"), []string{"cluster a, routes r"}},
		{"a cluster is added", set("a"), set("a", "b"), []string{"cluster a, cluster b"}},
		{"a route moves", set("a", "r:r"), set("b", "r:r@2"), []string{"cluster a, cluster b, routes r", "cluster a, cluster b, routes r", "cluster b, routes r"}},
		{"a route goes with its cluster", set("a", "b", "r:r"), set("b"), []string{"cluster a, cluster b", "cluster b"}},
		{"everything goes", set("a", "r:r"), set(), []string{"cluster a", ""}},
	} {
		var got []string
		for _, s := range stages(tc.old, tc.new) {
			got = append(got, list(s))
		}
		if strings.Join(got, " | ") != strings.Join(tc.want, " | ") || len(got) != len(tc.want) {
			t.Errorf("%s: %q, want %q", tc.what, got, tc.want)
		}
	}
}

// TestClustersInUseAreKept: a cluster whose file was saved before that of the routes
// goes when the routes have moved.
func TestClustersInUseAreKept(t *testing.T) {
	variants(t, func(t *testing.T, v ads.Variant) {
		dir := t.TempDir()
		write(t, dir, map[string]string{"clusters.yaml": staticCluster("a"), "routes.yaml": routes("a")})
		s, log := serveFolder(t, dir)
		p := connect(t, v, s.Addresses()[0], "n", "")
		p.until("the first routes", func() bool { return p.refs["routes"] == "a" })
		write(t, dir, map[string]string{"clusters.yaml": staticCluster("b")})
		p.until("both clusters", func() bool { return p.names(ads.ClusterType) == "cluster a, cluster b" })
		if !strings.Contains(log.String(), "served until nothing refers to them") {
			t.Error("the log does not say so")
		}
		write(t, dir, map[string]string{"routes.yaml": routes("b")})
		p.until("the end of the first", func() bool { return p.names(ads.ClusterType) == "cluster b" && p.refs["routes"] == "b" })
		if len(p.lost) > 0 {
			t.Error(p.lost)
		}
	})
}
