package xds_test

import (
	"encoding/json"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// versions is what of a dump the test below is about.
type versions struct {
	Configs []struct {
		Active []struct {
			Version string `json:"version_info"`
		} `json:"dynamic_active_clusters"`
		Warming []struct {
			Version string `json:"version_info"`
		} `json:"dynamic_warming_clusters"`
		Listeners []struct {
			Active struct {
				Version string `json:"version_info"`
			} `json:"active_state"`
			Warming struct {
				Version string `json:"version_info"`
			} `json:"warming_state"`
		} `json:"dynamic_listeners"`
	}
}

// shown is the versions that config_dump shows: of clusters active and warming, of the
// listener active and warming.
func shown(t *testing.T, k *kit) (out [4]string) {
	t.Helper()
	active, warming := k.server.Clusters.All()
	text, err := k.manager.Dump(&bootstrapv3.Bootstrap{}, xds.DumpOptions{Active: active, Warming: warming, WarmingListeners: waiting(k.server)})
	if err != nil {
		t.Fatal(err)
	}
	var v versions
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	for _, c := range v.Configs {
		for _, a := range c.Active {
			out[0] += a.Version
		}
		for _, w := range c.Warming {
			out[1] += w.Version
		}
		for _, l := range c.Listeners {
			out[2] += l.Active.Version
			out[3] += l.Warming.Version
		}
	}
	return out
}

func waiting(s *server.Server) (names []string) {
	for n := range s.Waiting() {
		names = append(names, n)
	}
	return names
}

// While a new version of a cluster or listener waits, config_dump shows it beside the one
// that is in use, as Envoy does.
func TestDumpShowsWhatWarms(t *testing.T) {
	k := proxyOf(t, xdstest.New(t), `
static_resources: {clusters: [XDS]}
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}`)
	apply := func(version, name string, m proto.Message) {
		t.Helper()
		body, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		refused := k.manager.Apply(ads.Update{TypeURL: body.TypeUrl, Changed: []ads.Resource{{Name: name, Version: version, Body: body}}})
		if len(refused) > 0 {
			t.Fatal(refused[0].Err)
		}
	}
	check := func(when string, want ...string) {
		t.Helper()
		if got := shown(t, k); !slices.Equal(got[:], want) {
			t.Errorf("%s: active and warming clusters, active and warming listener: %q, want %q", when, got, want)
		}
	}
	ready := `{name: c, connect_timeout: 1s, type: STATIC, load_assignment: {cluster_name: c, endpoints: []}}`
	waits := `{name: c, connect_timeout: 1s, type: EDS, eds_cluster_config: {service_name: s, eds_config: {ads: {}, resource_api_version: V3}}}`
	apply("1", "c", message(t, &clusterv3.Cluster{}, ready))
	apply("1", "l", httpListener(t, "l", "route_config: "+answers("r", "1")+routerFilter))
	check("first", "1", "", "1", "")
	rds := "rds: {route_config_name: r, config_source: {ads: {}, resource_api_version: V3}}" + routerFilter
	for _, version := range []string{"2", "3"} {
		apply(version, "c", message(t, &clusterv3.Cluster{}, waits))
		apply(version, "l", httpListener(t, "l", "server_name: v"+version+"\n"+rds))
		check("while waiting", "1", version, "1", version)
	}
	apply("9", "s", xdstest.Endpoints("s", xdstest.SocketAddress("127.0.0.1", 1)))
	apply("9", "r", message(t, &routev3.RouteConfiguration{}, answers("r", "2")))
	check("in the end", "3", "", "3", "")
}
