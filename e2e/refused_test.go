package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// TestBadResourceAmongGoodOnes: in one response, what is good applies, what is bad is
// refused by name with the path into it, and what it was before stays.
func TestBadResourceAmongGoodOnes(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, delta bool) {
		a, b := startBackend(t, "a"), startBackend(t, "b")
		plane, port, port2 := xdstest.New(t), freePort(t), freePort(t)
		release := plane.Hold()
		web, web2 := xdstest.HTTPListener(t, "web", "127.0.0.1", port, "shop"), xdstest.HTTPListener(t, "web2", "127.0.0.1", port2, "other")
		cluster := xdstest.EDSCluster("eds")
		plane.Set(xdstest.StaticCluster("a", "127.0.0.1", a.port), xdstest.StaticCluster("b", "127.0.0.1", b.port),
			xdstest.Route("shop", "a"), xdstest.Route("other", "eds"), web, web2, cluster,
			xdstest.Endpoints("eds", xdstest.SocketAddress("127.0.0.1", a.port)), xdstest.EDSCluster("eds2"), xdstest.Endpoints("eds2"))
		release()
		m := startMecha(t, overADS(plane.Address(), delta))
		m.ready()
		answers(t, local(port), 200)

		badListener := proto.Clone(web).(*listenerv3.Listener)
		badListener.FilterChains[0].Filters[0].ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/nobody.knows.v1.This"}}
		badRoute := xdstest.Route("shop", "b")
		badRoute.VirtualHosts[0].Routes[0].Match.PathSpecifier = &routev3.RouteMatch_SafeRegex{}
		badCluster := xdstest.StaticCluster("a", "127.0.0.1", b.port)
		badCluster.ConnectTimeout = durationpb.New(-1)
		badEndpoints := xdstest.Endpoints("eds", xdstest.SocketAddress("127.0.0.1", b.port))
		badEndpoints.Endpoints[0].Priority = 1000
		goodListener := proto.Clone(web2).(*listenerv3.Listener)
		goodListener.ListenerFiltersTimeout = durationpb.New(3e9)

		goodCluster := xdstest.StaticCluster("b", "127.0.0.1", b.port)
		goodCluster.ConnectTimeout = durationpb.New(3e9)

		for _, c := range []struct {
			typeURL, name, path string
			bad, good, again    proto.Message // again is the bad one, put right
			counter, section    string
		}{
			{ads.ListenerType, "web", "filter_chains[0].filters[0].typed_config", badListener, goodListener, web, "listener_manager.lds.update_rejected", "dynamic_listeners"},
			{ads.RouteType, "shop", "virtual_hosts[0].routes[0].match.safe_regex", badRoute, xdstest.Route("other", "b"), xdstest.Route("shop", "a"), "", "dynamic_route_configs"},
			{ads.ClusterType, "a", "connect_timeout", badCluster, goodCluster, xdstest.StaticCluster("a", "127.0.0.1", a.port), "cluster_manager.cds.update_rejected", "dynamic_active_clusters"},
			{ads.EndpointType, "eds", "endpoints[0].priority", badEndpoints, xdstest.Endpoints("eds2", xdstest.SocketAddress("127.0.0.1", b.port)), xdstest.Endpoints("eds", xdstest.SocketAddress("127.0.0.1", a.port)), "", "dynamic_endpoint_configs"},
		} {
			short := ads.ShortType(c.typeURL)
			release := plane.Hold()
			plane.Set(c.bad, c.good)
			release()
			nack := plane.Await("a NACK of "+short, func(r xdstest.Request) bool { return r.TypeURL == c.typeURL && r.Error != "" })
			if !strings.Contains(nack.Error, c.name) || !strings.Contains(nack.Error, c.path) {
				t.Errorf("%s: the NACK should name %q and the path %q: %s", short, c.name, c.path, nack.Error)
			}
			if c.counter != "" {
				m.until(c.counter, 1)
			}
			states := m.errorStates(c.section)
			if len(states) != 1 || !strings.Contains(states[c.name], c.path) {
				t.Errorf("%s: error states %q, want one, of %q with the path %q", short, states, c.name, c.path)
			}
			answers(t, local(port), 200)
			if by := whoAnswers(t, local(port)); by != "a" {
				t.Errorf("%s: answered by %q: the last good version should be in use", short, by)
			}
			plane.Set(c.again)
			eventually(t, short+" to recover", func() string {
				if s := m.errorStates(c.section); len(s) > 0 {
					return fmt.Sprintf("error states %q", s)
				}
				return ""
			})
		}
		// What was good has applied beside what was bad.
		if n := m.stat("cluster_manager.cluster_modified"); n != 1 {
			t.Errorf("cluster_modified is %d, want 1 (b)", n)
		}
		if n := m.stat("listener_manager.listener_modified"); n != 1 {
			t.Errorf("listener_modified is %d, want 1 (web2)", n)
		}
		if by := whoAnswers(t, local(port2)); by != "b" {
			t.Errorf("the good route leads to %q, want b", by)
		}
	})
}

// errorStates returns the error_state of each resource of a section of config_dump.
func (s *sidecar) errorStates(section string) map[string]string {
	s.t.Helper()
	code, body := s.get("/config_dump?include_eds&resource=" + url.QueryEscape(section))
	var dump struct {
		Configs []map[string]any `json:"configs"`
	}
	if err := json.Unmarshal([]byte(body), &dump); code != 200 || err != nil {
		s.t.Fatalf("config_dump: %d %v %s", code, err, body)
	}
	out := map[string]string{}
	for _, c := range dump.Configs {
		state, ok := c["error_state"].(map[string]any)
		if !ok {
			continue
		}
		failed, _ := state["failed_configuration"].(map[string]any)
		name, _ := failed["name"].(string)
		if name == "" {
			name, _ = failed["cluster_name"].(string)
		}
		if name == "" {
			s.t.Errorf("config_dump: an error_state without the resource: %v", c)
		}
		out[name] = fmt.Sprint(state["details"])
	}
	return out
}

// TestGarbage: bytes that are no message at all are refused like any other mistake.
func TestGarbage(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, delta bool) {
		a := startBackend(t, "a")
		plane, port := xdstest.New(t), freePort(t)
		plane.Set(xdstest.StaticCluster("a", "127.0.0.1", a.port), xdstest.Route("shop", "a"), xdstest.HTTPListener(t, "web", "127.0.0.1", port, "shop"))
		m := startMecha(t, overADS(plane.Address(), delta))
		m.ready()
		for _, bad := range []*anypb.Any{
			{TypeUrl: xdstest.Pack(t, &clusterv3.Cluster{}).TypeUrl, Value: []byte("\xff\xff\xff\xff")},
			{TypeUrl: xdstest.Pack(t, &listenerv3.Listener{}).TypeUrl, Value: []byte("\x0a\x05ab")},
			{TypeUrl: xdstest.Pack(t, &routev3.RouteConfiguration{}).TypeUrl, Value: []byte("\x0a\x04shop\x12\x7f")},
			{TypeUrl: xdstest.Pack(t, &endpointv3.ClusterLoadAssignment{}).TypeUrl, Value: []byte("\x00")},
		} {
			if strings.HasSuffix(bad.TypeUrl, "ClusterLoadAssignment") {
				continue // nobody has asked for any
			}
			name := map[bool]string{true: "shop", false: "junk"}[bad.TypeUrl == ads.RouteType]
			plane.SetRaw(name, bad)
			plane.Await("a NACK of "+bad.TypeUrl, func(r xdstest.Request) bool { return r.TypeURL == bad.TypeUrl && r.Error != "" })
			answers(t, local(port), 200)
		}
	})
}
