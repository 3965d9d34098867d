package xds_test

import (
	"fmt"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// apply gives one resource to the manager, which must take it.
func (c *changing) apply(name string, m proto.Message) {
	c.t.Helper()
	body := xdstest.Pack(c.t, m)
	for _, r := range c.manager.Apply(ads.Update{TypeURL: body.TypeUrl, Changed: []ads.Resource{{Name: name, Version: "1", Body: body}}}) {
		c.t.Fatal(r.Err)
	}
}

const overRDS = "rds: {route_config_name: r, config_source: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}}" + routerFilter

const refusedExtension = `{name: ext, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}`

func overECDS(t *testing.T) string {
	return discovering(t, "l", "config_source: {ads: {}, initial_fetch_timeout: 0s}")
}

// What was on its way when its last user went is not in effect, and whoever refers to that
// name later waits for the version of then.
func TestLateResourcesLeaveNoTrace(t *testing.T) {
	c := newChanging(t)
	c.apply("s", xdstest.Endpoints("s", xdstest.SocketAddress("127.0.0.1", 1)))
	c.apply("r", message(t, &routev3.RouteConfiguration{}, answers("r", "late")))
	for _, url := range []string{ads.EndpointType, ads.RouteType} {
		if got := c.manager.Records(url); len(got) > 0 {
			t.Errorf("%s: %q is in effect, nobody uses it", ads.ShortType(url), got[0].Name)
		}
	}
	c.apply("c", message(t, &clusterv3.Cluster{}, `{name: c, connect_timeout: 1s, type: EDS, eds_cluster_config: {service_name: s, eds_config: {ads: {}, resource_api_version: V3}}}`))
	if !c.server.ClusterWarming("c") {
		t.Error("a cluster uses endpoints that came before anybody asked for them")
	}
}

// A route table that the control plane takes away stays in effect until its listener goes,
// and config_dump says so.
func TestRemovedTablesStayInEffect(t *testing.T) {
	c := newChanging(t)
	c.apply("rds", httpListener(t, "rds", overRDS))
	c.apply("r", message(t, &routev3.RouteConfiguration{}, answers("r", "here")))
	c.manager.Apply(ads.Update{TypeURL: ads.RouteType, Removed: []string{"r", "never"}})
	if got := c.manager.Records(ads.RouteType); len(got) != 1 || got[0].Name != "r" || got[0].Body == nil {
		t.Errorf("in effect are %v, want r", got)
	}
	c.manager.Apply(ads.Update{TypeURL: ads.ListenerType, Removed: []string{"rds"}})
	if got := c.manager.Records(ads.RouteType); len(got) != 0 {
		t.Errorf("%v is in effect, its listener has gone", got)
	}
}

// A listener whose first route table is refused goes on without, as if none had come:
// nothing else would end its wait. So does one with a filter from ECDS.
func TestRefusedTablesEndTheWait(t *testing.T) {
	broken := strings.Replace(answers("r", "broken"), `domains: ["*"]`, `domains: ["*", "*"]`, 1)
	for _, variant := range []string{"GRPC", "DELTA_GRPC"} {
		t.Run(variant, func(t *testing.T) {
			plane := xdstest.New(t)
			plane.Set(
				httpListener(t, "l", overRDS), message(t, &routev3.RouteConfiguration{}, broken),
				httpListener(t, "ecds", overECDS(t)), message(t, &corev3.TypedExtensionConfig{}, refusedExtension),
			)
			k := proxyOf(t, plane, fmt.Sprintf(overADS, variant))
			if got := k.get("ecds", "/"); got != "500 " {
				t.Errorf("without a filter: %s", got)
			}
			if got := k.get("l", "/"); got != "404 " {
				t.Errorf("without a table: %s", got)
			}
			until(t, "the end of the start", k.manager.Initialized)
			plane.Set(message(t, &routev3.RouteConfiguration{}, answers("r", "good")))
			until(t, "the good table", func() bool { return k.get("l", "/") == "200 good" })
			plane.Set(message(t, &routev3.RouteConfiguration{}, strings.Replace(broken, "broken", "again", 1)))
			plane.Await("a second refusal", func(r xdstest.Request) bool { return r.Error != "" && r.Version != "" || r.Delta && r.Error != "" })
			if got := k.get("l", "/"); got != "200 good" {
				t.Errorf("after a refusal: %s", got)
			}
		})
	}
}

// When listeners come in use together, one gives up a route table that another needs: it
// stays, and who needs it later does not wait.
func TestListenersGiveUpTablesTogether(t *testing.T) {
	of := func(table string) string {
		return strings.Replace(overRDS, "route_config_name: r", "route_config_name: "+table, 1)
	}
	for range 20 { // in which order the two come is not fixed
		c := newChanging(t)
		c.apply("old", httpListener(t, "old", of("r1")))
		c.apply("r1", message(t, &routev3.RouteConfiguration{}, answers("r1", "1")))
		c.apply("old", httpListener(t, "old", of("r0")))
		both := httpListener(t, "both", of("r0"))
		more := httpListener(t, "both", of("r1")).FilterChains[0]
		more.FilterChainMatch = &listenerv3.FilterChainMatch{SourcePorts: []uint32{7}}
		both.FilterChains = append(both.FilterChains, more)
		c.apply("both", both)
		c.apply("r1", message(t, &routev3.RouteConfiguration{}, answers("r1", "2")))
		c.apply("r0", message(t, &routev3.RouteConfiguration{}, answers("r0", "1")))
		c.apply("late", httpListener(t, "late", of("r1")))
		if c.server.ListenerWarming("late") {
			t.Fatal("a listener waits for a route table that is in use")
		}
	}
}
