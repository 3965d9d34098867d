package e2e

import (
	"fmt"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// overADS is a bootstrap whose resources come from plane.
func overADS(plane string, delta bool) string {
	api := "GRPC"
	if delta {
		api = "DELTA_GRPC"
	}
	return fmt.Sprintf(`
node: {id: shop-1, cluster: shop}
dynamic_resources:
  ads_config: {api_type: %s, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [{google_grpc: {target_uri: "%s", stat_prefix: ads}}]}
  cds_config: {ads: {}, resource_api_version: V3}
  lds_config: {ads: {}, resource_api_version: V3}
`, api, plane)
}

// variants runs a test over both variants of ADS.
func variants(t *testing.T, test func(t *testing.T, delta bool)) {
	for _, delta := range []bool{true, false} {
		name := "sotw"
		if delta {
			name = "delta"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, delta)
		})
	}
}

// acks returns how many responses of a type the clients of plane have accepted.
func acks(typeURL string, n int) func(xdstest.Request) bool {
	return func(r xdstest.Request) bool {
		if r.TypeURL == typeURL && r.ACK() {
			n--
		}
		return n <= 0
	}
}

// weighted is a route configuration that splits between clusters.
func weighted(name string, weights map[string]uint32) *routev3.RouteConfiguration {
	rc := xdstest.Route(name, "")
	split := &routev3.WeightedCluster{}
	for _, cluster := range []string{"a", "b", "c", "d"} {
		if w, ok := weights[cluster]; ok {
			split.Clusters = append(split.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: cluster, Weight: wrapperspb.UInt32(w)})
		}
	}
	rc.VirtualHosts[0].Routes[0].GetRoute().ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: split}
	return rc
}

// TestRouteUpdatesUnderLoad changes where requests go, a thousand times.
func TestRouteUpdatesUnderLoad(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, delta bool) {
		a, b := startBackend(t, "a"), startBackend(t, "b")
		plane := xdstest.New(t)
		port := freePort(t)
		plane.Set(xdstest.StaticCluster("a", "127.0.0.1", a.port), xdstest.StaticCluster("b", "127.0.0.1", b.port))
		plane.Set(xdstest.Route("shop", "a"), xdstest.HTTPListener(t, "web", "127.0.0.1", port, "shop"))
		m := startMecha(t, overADS(plane.Address(), delta))
		m.ready()
		l := startLoad(t, local(port))
		l.answered(100)
		for i := range 1000 {
			switch i % 3 {
			case 0:
				plane.Set(xdstest.Route("shop", "b"))
			case 1:
				plane.Set(weighted("shop", map[string]uint32{"a": 30, "b": 70}))
			default:
				plane.Set(xdstest.Route("shop", "a"))
			}
			plane.Await("an update of the routes", acks(ads.RouteType, i+1))
		}
		l.answered(100)
		l.stop()
		if l.by["a"] == 0 || l.by["b"] == 0 {
			t.Errorf("only one cluster was used: %v", l.by)
		}
	})
}
