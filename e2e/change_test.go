package e2e

import (
	"fmt"
	"net"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
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

// shop is a mecha with one HTTP listener under load, and the control plane that
// changes it.
type shop struct {
	t        *testing.T
	plane    *xdstest.Server
	mecha    *sidecar
	load     *load
	port     uint32
	backends []*backend
	pushed   map[string]int // updates, by type

	goroutines, sockets, rss int // before and, for rss, with the load
}

// openShop starts backends a, b, c and d, and mecha with the resources that made
// returns for them. They must include the listener "web" on s.port.
func openShop(t *testing.T, delta bool, make func(s *shop) []proto.Message) *shop {
	t.Helper()
	s := &shop{t: t, plane: xdstest.New(t), port: freePort(t), pushed: map[string]int{}}
	for _, name := range []string{"a", "b", "c", "d"} {
		s.backends = append(s.backends, startBackend(t, name))
	}
	release := s.plane.Hold()
	s.plane.Set(make(s)...)
	release()
	s.mecha = startMecha(t, overADS(s.plane.Address(), delta), "--drain-time-s", "1", "--drain-strategy", "immediate")
	s.mecha.ready()
	listening(t, local(s.port))
	s.goroutines, s.sockets = s.mecha.stat("server.goroutines"), s.mecha.sockets()
	s.load = startLoad(t, local(s.port))
	s.load.answered(200)
	s.rss = s.mecha.rss()
	return s
}

// push changes one resource and waits until mecha has accepted it.
func (s *shop) push(m proto.Message) {
	s.t.Helper()
	typeURL := xdstest.Pack(s.t, m).TypeUrl
	if s.pushed[typeURL] == 0 {
		s.pushed[typeURL] = count(s.plane, typeURL)
	}
	s.pushed[typeURL]++
	s.plane.Set(m)
	s.plane.Await("an update of "+typeURL, acks(typeURL, s.pushed[typeURL]))
}

// acks matches the nth response of a type that a client has accepted.
func acks(typeURL string, n int) func(xdstest.Request) bool {
	return func(r xdstest.Request) bool {
		if r.TypeURL == typeURL && r.ACK() {
			n--
		}
		return n <= 0
	}
}

func count(plane *xdstest.Server, typeURL string) (n int) {
	for _, r := range plane.Requests() {
		if r.TypeURL == typeURL && r.ACK() {
			n++
		}
	}
	return n
}

// close ends the load and checks that no request was lost and nothing is left.
func (s *shop) close() {
	s.t.Helper()
	s.load.answered(100)
	rss := s.mecha.rss()
	s.load.stop()
	for typeURL, n := range s.pushed {
		s.t.Logf("%d updates of %s", n, ads.ShortType(typeURL))
	}
	s.t.Logf("RSS %d KiB under load at first, %d KiB at the end", s.rss, rss)
	if rss > s.rss+32<<10 {
		s.t.Errorf("RSS has grown from %d to %d KiB", s.rss, rss)
	}
	// Connections to the backends may stay open, one goroutine may watch each.
	s.mecha.until("server.total_connections", 0)
	kept := s.mecha.sockets() - s.sockets
	eventually(s.t, "goroutines to end", func() string {
		if n := s.mecha.stat("server.goroutines"); n > s.goroutines+10 {
			return fmt.Sprintf("%d, and %d before the load", n, s.goroutines)
		}
		return ""
	})
	if kept > 30 {
		s.t.Errorf("%d sockets are still open", kept)
	}
}

// only checks that from now on just these backends answer.
func (s *shop) only(names ...string) {
	s.t.Helper()
	want := map[string]bool{}
	for _, n := range names {
		want[n] = true
	}
	c := client{path: "/get"}
	for range 20 {
		conn, err := net.DialTimeout("tcp", local(s.port), patience)
		if err != nil {
			s.t.Fatal(err)
		}
		by, _, err := c.exchange(conn, newReader(conn))
		conn.Close()
		if err != nil || !want[by] {
			s.t.Fatalf("answered by %q (%v), want one of %v", by, err, names)
		}
	}
}

// static returns a STATIC cluster of each backend, under its name.
func (s *shop) static() (out []proto.Message) {
	for _, b := range s.backends {
		out = append(out, xdstest.StaticCluster(b.name, "127.0.0.1", b.port))
	}
	return out
}

// endpoints is the assignment of a service to some of the backends, as a bit set.
func (s *shop) endpoints(service string, set int) proto.Message {
	var to []*corev3.Address
	for i, b := range s.backends {
		if set&(1<<i) != 0 {
			to = append(to, xdstest.SocketAddress("127.0.0.1", b.port))
		}
	}
	return xdstest.Endpoints(service, to...)
}

func (s *shop) web() *listenerv3.Listener {
	return xdstest.HTTPListener(s.t, "web", "127.0.0.1", s.port, "shop")
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
		s := openShop(t, delta, func(s *shop) []proto.Message {
			return append(s.static(), xdstest.Route("shop", "a"), s.web())
		})
		for i := range 1000 {
			switch i % 3 {
			case 0:
				s.push(xdstest.Route("shop", "b"))
			case 1:
				s.push(weighted("shop", map[string]uint32{"a": 30, "b": 70, "c": 1}))
			default:
				s.push(xdstest.Route("shop", "a"))
			}
		}
		s.only("b")
		s.close()
		if s.load.by["a"] == 0 || s.load.by["b"] == 0 || s.load.closes > 0 {
			t.Errorf("answers by %v, %d connections drained: want both clusters, and none", s.load.by, s.load.closes)
		}
	})
}

// TestEndpointUpdatesUnderLoad adds and removes hosts, which go on serving what they
// have begun.
func TestEndpointUpdatesUnderLoad(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, delta bool) {
		s := openShop(t, delta, func(s *shop) []proto.Message {
			return []proto.Message{xdstest.EDSCluster("shop"), s.endpoints("shop", 15), xdstest.Route("shop", "shop"), s.web()}
		})
		for i := range 1000 {
			s.push(s.endpoints("shop", i*7%15+1))
		}
		s.push(s.endpoints("shop", 0b1010))
		s.only("b", "d")
		if n := s.mecha.stat("cluster.shop.membership_total"); n != 2 {
			t.Errorf("membership_total is %d, want 2", n)
		}
		s.close()
		if len(s.load.by) != 4 || s.load.closes > 0 {
			t.Errorf("answers by %v, %d connections drained: want all four backends, and none", s.load.by, s.load.closes)
		}
	})
}

// TestClusterUpdatesUnderLoad replaces clusters: those whose hosts are known at once,
// and those that have to wait for them. Some changes make other connections
// necessary, some do not.
func TestClusterUpdatesUnderLoad(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, delta bool) {
		eds := func(i int) *clusterv3.Cluster {
			c := xdstest.EDSCluster("shop")
			c.ConnectTimeout = durationpb.New(time.Second + time.Duration(i)*time.Millisecond)
			c.EdsClusterConfig.ServiceName = "svc"
			if i%2 == 1 {
				c.PerConnectionBufferLimitBytes = wrapperspb.UInt32(uint32(100000 + i))
			}
			return c
		}
		s := openShop(t, delta, func(s *shop) []proto.Message {
			return append(s.static(), eds(0), s.endpoints("svc", 3), weighted2("shop", "shop", "c"), s.web())
		})
		for i := range 100 {
			s.push(eds(i + 1))
			c := xdstest.StaticCluster("c", "127.0.0.1", s.backends[2+i%2].port)
			c.ConnectTimeout = durationpb.New(time.Duration(i+1) * time.Second)
			s.push(c)
			s.push(s.endpoints("svc", i%3+1))
		}
		s.push(s.endpoints("svc", 1))
		s.only("a", "d")
		s.close()
	})
}

// weighted2 splits evenly between two clusters.
func weighted2(name, a, b string) *routev3.RouteConfiguration {
	rc := xdstest.Route(name, "")
	rc.VirtualHosts[0].Routes[0].GetRoute().ClusterSpecifier = &routev3.RouteAction_WeightedClusters{
		WeightedClusters: &routev3.WeightedCluster{Clusters: []*routev3.WeightedCluster_ClusterWeight{
			{Name: a, Weight: wrapperspb.UInt32(1)}, {Name: b, Weight: wrapperspb.UInt32(1)},
		}},
	}
	return rc
}

// TestClustersComeAndGo moves traffic to a new cluster before the old one is removed,
// as a control plane does when a service is renamed.
func TestClustersComeAndGo(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, delta bool) {
		s := openShop(t, delta, func(s *shop) []proto.Message {
			return []proto.Message{xdstest.StaticCluster("v0", "127.0.0.1", s.backends[0].port), xdstest.Route("shop", "v0"), s.web()}
		})
		for i := range 100 {
			name := fmt.Sprintf("v%d", i+1)
			s.push(xdstest.StaticCluster(name, "127.0.0.1", s.backends[(i+1)%4].port))
			s.push(xdstest.Route("shop", name))
			s.pushed[ads.ClusterType]++
			s.plane.Remove(ads.ClusterType, fmt.Sprintf("v%d", i))
			s.plane.Await("the removal", acks(ads.ClusterType, s.pushed[ads.ClusterType]))
		}
		s.only("a")
		s.mecha.until("cluster_manager.active_clusters", 1)
		s.close()
	})
}
