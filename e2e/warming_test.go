package e2e

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// asks matches a first request for a type.
func asks(typeURL string) func(xdstest.Request) bool {
	return func(r xdstest.Request) bool { return r.TypeURL == typeURL && r.Nonce == "" }
}

// TestWarming holds back one resource after the other: clusters wait for their
// endpoints, listeners are asked for when the clusters are warm and take connections
// when their routes have come; then, and only then, mecha is ready.
func TestWarming(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, delta bool) {
		b := startBackend(t, "a")
		plane, port := xdstest.New(t), freePort(t)
		plane.Set(xdstest.EDSCluster("shop"), xdstest.StaticCluster("other", "127.0.0.1", b.port),
			xdstest.HTTPListener(t, "web", "127.0.0.1", port, "shop"))
		m := startMecha(t, overADS(plane.Address(), delta))

		plane.Await("a request for endpoints", asks(ads.EndpointType))
		m.until("cluster_manager.warming_clusters", 1)
		notReady(t, m, local(port))
		if slices.ContainsFunc(plane.Requests(), func(r xdstest.Request) bool { return r.TypeURL == ads.ListenerType }) {
			t.Error("listeners were asked for before the clusters were warm")
		}

		plane.Set(xdstest.Endpoints("shop", xdstest.SocketAddress("127.0.0.1", b.port)))
		plane.Await("a request for routes", asks(ads.RouteType))
		m.until("cluster_manager.warming_clusters", 0)
		notReady(t, m, local(port))

		plane.Set(xdstest.Route("shop", "shop"))
		m.ready()
		k := newKept(t, from("127.0.0.1", local(port)))

		order := []string{ads.ClusterType, ads.EndpointType, ads.ListenerType, ads.RouteType}
		var first []string
		for _, r := range plane.Requests() {
			if !slices.Contains(first, r.TypeURL) {
				first = append(first, r.TypeURL)
			}
		}
		if !slices.Equal(first, order) {
			t.Errorf("asked in the order %v, want %v", first, order)
		}
		if opened, most := plane.Streams(); opened != 1 || most != 1 {
			t.Errorf("%d streams, %d at once: ADS is one", opened, most)
		}

		// A new version of the listener that needs other routes waits for them, too;
		// the one before serves meanwhile.
		before := count(plane, ads.ListenerType)
		plane.Set(xdstest.HTTPListener(t, "web", "127.0.0.1", port, "new"))
		plane.Await("the new listener to be accepted", acks(ads.ListenerType, before+1))
		wait(50 * time.Millisecond)
		k.get()
		newKept(t, from("127.0.0.1", local(port)))
		plane.Set(xdstest.Route("new", "other"))
		m.until("listener_manager.listener_modified", 1)
		newKept(t, from("127.0.0.1", local(port)))
	})
}

// notReady checks that mecha does not claim to be ready and takes no connections.
func notReady(t *testing.T, m *sidecar, addr string) {
	t.Helper()
	if code, _ := m.get("/ready"); code != 503 {
		t.Errorf("/ready says %d, want 503", code)
	}
	if n := m.stat("server.state"); n != 3 {
		t.Errorf("server.state is %d, want 3 (initializing)", n)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("the listener takes connections already")
	}
}

// TestInitialFetchTimeout: what never comes holds nothing up for longer than it may.
func TestInitialFetchTimeout(t *testing.T) {
	t.Parallel()
	plane, port := xdstest.New(t), freePort(t)
	c := xdstest.EDSCluster("shop")
	c.EdsClusterConfig.EdsConfig.InitialFetchTimeout = durationpb.New(200 * time.Millisecond)
	l := xdstest.HTTPListener(t, "web", "127.0.0.1", port, "shop")
	hcm := &hcmv3.HttpConnectionManager{}
	if err := l.FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(hcm); err != nil {
		t.Fatal(err)
	}
	hcm.GetRds().ConfigSource.InitialFetchTimeout = durationpb.New(200 * time.Millisecond)
	l.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: xdstest.Pack(t, hcm)}
	plane.Set(c, l)
	begun := time.Now()
	m := startMecha(t, overADS(plane.Address(), true))
	m.ready()
	if d := time.Since(begun); d < 400*time.Millisecond || d > 10*time.Second {
		t.Errorf("ready after %v, want a little more than twice 200 ms", d)
	}
	if n := m.stat("cluster.shop.init_fetch_timeout"); n != 1 {
		t.Errorf("init_fetch_timeout is %d", n)
	}
	answers(t, local(port), 404)
	plane.Set(xdstest.Route("shop", "shop")) // late, and still welcome
	eventually(t, "the late routes", func() string { return answer(local(port), 503) })
	b := startBackend(t, "a")
	plane.Set(xdstest.Endpoints("shop", xdstest.SocketAddress("127.0.0.1", b.port)))
	eventually(t, "the late endpoints", func() string { return answer(local(port), 200) })
}

// answer makes a request and says what is wrong with the code of the answer.
func answer(addr string, code int) string {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	got, err := ask(c, "GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n")
	if err != nil {
		return err.Error()
	}
	if got != code {
		return fmt.Sprintf("the answer is %d, want %d", got, code)
	}
	return ""
}

func answers(t *testing.T, addr string, code int) {
	t.Helper()
	if bad := answer(addr, code); bad != "" {
		t.Error(bad)
	}
}

// TestListenersAreTakenBack: what came with listeners and clusters goes with them.
func TestListenersAreTakenBack(t *testing.T) {
	t.Parallel()
	b := startBackend(t, "a")
	plane, port := xdstest.New(t), freePort(t)
	plane.Set(xdstest.StaticCluster("a", "127.0.0.1", b.port), xdstest.Route("r0", "a"), xdstest.HTTPListener(t, "l0", "127.0.0.1", port, "r0"))
	m := startMecha(t, overADS(plane.Address(), true), "--drain-time-s", "1", "--drain-strategy", "immediate")
	m.ready()
	answers(t, local(port), 200)
	goroutines, sockets := m.stat("server.goroutines"), m.sockets()
	for i := range 100 {
		l, r := fmt.Sprintf("l%d", i+1), fmt.Sprintf("r%d", i+1)
		plane.Remove(ads.ListenerType, fmt.Sprintf("l%d", i))
		m.until("listener_manager.listener_removed", i+1)
		refused(t, local(port))
		plane.Set(xdstest.Route(r, "a"), xdstest.HTTPListener(t, l, "127.0.0.1", port, r))
		m.until("listener_manager.listener_added", i+2)
		answers(t, local(port), 200)
	}
	m.until("listener_manager.total_listeners_draining", 0)
	m.until("listener_manager.total_listeners_active", 1)
	eventually(t, "goroutines and sockets to go", func() string {
		g, s := m.stat("server.goroutines"), m.sockets()
		if g > goroutines+3 || s > sockets+2 {
			return fmt.Sprintf("%d goroutines (%d at first), %d sockets (%d at first)", g, goroutines, s, sockets)
		}
		return ""
	})
}
