package xds_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// onDemand is a chain with the filter on_demand.
func onDemand(config string) string {
	return `
http_filters:
- name: envoy.filters.http.on_demand
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand, ` + config + `}
- name: envoy.filters.http.router
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}`
}

// asks tells of requests for a name.
func asks(typeURL, name string) func(xdstest.Request) bool {
	return func(r xdstest.Request) bool {
		return r.TypeURL == typeURL && strings.Contains(" "+strings.Join(r.Names, " ")+" ", " "+name+" ")
	}
}

// TestClustersOnDemand: a request to a cluster that is not there waits for it, as long as
// the filter, or the route, says.
func TestClustersOnDemand(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "upstream") }))
	t.Cleanup(upstream.Close)
	host, p, _ := strings.Cut(strings.TrimPrefix(upstream.URL, "http://"), ":")
	port, _ := strconv.Atoi(p)
	for _, variant := range []string{"GRPC", "DELTA_GRPC"} {
		for name, from := range map[string]string{
			"ads": "{ads: {}}",
			"own": "{api_config_source: {api_type: " + variant + ", grpc_services: [{envoy_grpc: {cluster_name: xds}}]}}",
		} {
			t.Run(variant+"/"+name, func(t *testing.T) {
				plane := xdstest.New(t)
				plane.Set(httpListener(t, "l", `
route_config:
  name: r
  validate_clusters: false
  virtual_hosts:
  - name: v
    domains: ["*"]
    routes:
    - match: {prefix: /off}
      route: {cluster_header: x-to}
      typed_per_filter_config:
        envoy.filters.http.on_demand: {"@type": type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.PerRouteConfig}
    - match: {prefix: /short}
      route: {cluster_header: x-to}
      typed_per_filter_config:
        envoy.filters.http.on_demand: {"@type": type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.PerRouteConfig, odcds: {source: `+from+`, timeout: 0.05s}}
    - match: {prefix: /}
      route: {cluster_header: x-to}
`+onDemand("odcds: {source: "+from+", timeout: 60s}")))
				k := proxyOf(t, plane, fmt.Sprintf(overADS, variant))
				if got := k.get("l", "/off", "x-to", "c"); got != "503 " {
					t.Errorf("without odcds: %s", got)
				}
				if got := k.get("l", "/short", "x-to", "slow"); got != "503 " {
					t.Errorf("a cluster that does not exist: %s", got)
				}
				if got := k.get("l", "/"); got != "503 " {
					t.Errorf("without a name: %s", got)
				}
				release := plane.Hold()
				plane.Set(xdstest.StaticCluster("c", host, uint32(port)), xdstest.StaticCluster("other", host, uint32(port)))
				var all sync.WaitGroup
				for range 3 {
					all.Go(func() {
						if got := k.get("l", "/", "x-to", "c"); got != "200 upstream" {
							t.Errorf("got %s", got)
						}
					})
				}
				until(t, "all to wait", func() bool { return k.stat("on_demand.waiting") == 3 })
				plane.Await("the question", asks(ads.ClusterType, "c"))
				release()
				all.Wait()
				if names := k.server.Clusters.Names(); len(names) != 1 {
					t.Errorf("clusters %v: only c was asked for", names)
				}
				if n := k.stat("on_demand.found"); n != 3 {
					t.Errorf("found is %d", n)
				}
				k.manager.Idle("c") // nobody has used it for long
				if names := k.server.Clusters.Names(); len(names) != 0 {
					t.Errorf("clusters %v: nobody uses c any more", names)
				}
				if got := k.get("l", "/", "x-to", "c"); got != "200 upstream" {
					t.Errorf("asked for once more: %s", got)
				}
				if variant == "DELTA_GRPC" { // a cluster that goes is asked for again
					plane.Remove(ads.ClusterType, "c")
					until(t, "the cluster to go", func() bool { return len(k.server.Clusters.Names()) == 0 })
					if got := k.get("l", "/", "x-to", "c"); got != "503 " {
						t.Errorf("a cluster that is known to be gone: %s", got)
					}
					plane.Set(xdstest.StaticCluster("c", host, uint32(port)))
					until(t, "the cluster to be back", func() bool { return k.get("l", "/", "x-to", "c") == "200 upstream" })
				}
			})
		}
	}
}

// TestOnDemandSourcesThatCannotBe: they are refused by name.
func TestOnDemandSourcesThatCannotBe(t *testing.T) {
	plane := xdstest.New(t)
	proxyOf(t, plane, fmt.Sprintf(overADS, "DELTA_GRPC"))
	for config, want := range map[string]string{
		`odcds: {source: {ads: {}}, resources_locator: "xdstp://a/b"}`:                                                  "resources_locator",
		`odcds: {source: {api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: nobody}}]}}}`: `there is no static cluster "nobody"`,
		`odcds: {source: {path_config_source: {path: /dev/null}}}`:                                                      "odcds.source: a file cannot be asked",
		`odcds: {}`: "odcds.source",
	} {
		plane.Set(httpListener(t, "l", "route_config: "+answers("r", "x")+"\n"+onDemand(config)))
		plane.Await("a refusal of "+config, func(r xdstest.Request) bool { return strings.Contains(r.Error, want) })
	}
}

// TestVirtualHostsOnDemand: a table with vhds gets its virtual hosts one by one, when
// requests ask for them or when the control plane wants; they change and go.
func TestVirtualHostsOnDemand(t *testing.T) {
	for name, from := range map[string]string{
		"ads": "{ads: {}, initial_fetch_timeout: 0s}",
		"own": "{initial_fetch_timeout: 0s, api_config_source: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}}",
	} {
		t.Run(name, func(t *testing.T) {
			plane := xdstest.New(t)
			vhost := func(host, domain, body string) {
				vh := message(t, &routev3.VirtualHost{}, fmt.Sprintf(`{name: %s, domains: [%q], routes: [{match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: %q}}}]}`, host, domain, body))
				plane.SetRaw("r/"+host, xdstest.Pack(t, vh))
			}
			table := func(fixed string) *routev3.RouteConfiguration {
				return message(t, &routev3.RouteConfiguration{}, fmt.Sprintf(`{name: r, vhds: {config_source: %s}, virtual_hosts: [{name: fixed, domains: [fixed], routes: [{match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: %q}}}]}]}`, from, fixed))
			}
			plane.Set(
				httpListener(t, "l", "rds: {route_config_name: r, config_source: {ads: {}, initial_fetch_timeout: 0s}}\n"+onDemand("")),
				table("one"),
			)
			k := proxyOf(t, plane, fmt.Sprintf(overADS, "DELTA_GRPC"))
			if got := k.get("l", "/", "host", "fixed"); got != "200 one" {
				t.Errorf("got %s", got)
			}
			if got := k.get("l", "/", "host", "nobody"); got != "404 " {
				t.Errorf("a host that does not exist: %s", got)
			}
			plane.Await("the end of interest in it", func(r xdstest.Request) bool {
				return r.TypeURL == ads.VirtualHostType && len(r.Unsubscribe) == 1 && r.Unsubscribe[0] == "r/nobody"
			})
			vhost("a", "a", "first")
			if got := k.get("l", "/", "host", "a"); got != "200 first" {
				t.Errorf("got %s", got)
			}
			vhost("a", "a", "second")
			until(t, "the changed virtual host", func() bool { return k.get("l", "/", "host", "a") == "200 second" })
			plane.Set(table("two"))
			until(t, "the changed table", func() bool { return k.get("l", "/", "host", "fixed") == "200 two" })
			if got := k.get("l", "/", "host", "a"); got != "200 second" {
				t.Errorf("after a change of the table: %s", got)
			}
			// One with a name of its own, that goes by others.
			vh := message(t, &routev3.VirtualHost{}, `{name: many, domains: [b, c], routes: [{match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: many}}}]}`)
			plane.SetRaw("r/many", xdstest.Pack(t, vh), "r/b", "r/c")
			for _, host := range []string{"b", "c"} {
				if got := k.get("l", "/", "host", host); got != "200 many" {
					t.Errorf("%s: got %s", host, got)
				}
			}
			plane.Remove(ads.VirtualHostType, "r/many")
			until(t, "it to go", func() bool { return k.get("l", "/", "host", "b") == "404 " })
			plane.SetRaw("r/many", xdstest.Pack(t, vh), "r/b", "r/c")
			until(t, "it to be back", func() bool { return k.get("l", "/", "host", "b") == "200 many" })
			// One that cannot be used changes nothing, and nobody waits for it.
			vhost("bad", "fixed", "x")
			if got := k.get("l", "/", "host", "bad"); got != "404 " {
				t.Errorf("a virtual host that is refused: %s", got)
			}
			plane.Await("a refusal", func(r xdstest.Request) bool {
				return r.TypeURL == ads.VirtualHostType && strings.Contains(r.Error, "r/bad: domains: ")
			})
			plane.Remove(ads.VirtualHostType, "r/a")
			until(t, "the virtual host to go", func() bool { return k.get("l", "/", "host", "a") == "404 " })
			vhost("a", "a", "third")
			until(t, "the virtual host to be back", func() bool { return k.get("l", "/", "host", "a") == "200 third" })
			// The table is one like others again.
			plane.Set(message(t, &routev3.RouteConfiguration{}, answers("r", "plain")))
			until(t, "the plain table", func() bool { return k.get("l", "/", "host", "a") == "200 plain" })
		})
	}
}

// TestVirtualHostsNeedDelta: they cannot be had otherwise.
func TestVirtualHostsNeedDelta(t *testing.T) {
	plane := xdstest.New(t)
	plane.Set(
		httpListener(t, "l", "rds: {route_config_name: r, config_source: {ads: {}, initial_fetch_timeout: 0s}}\n"+onDemand("")),
		message(t, &routev3.RouteConfiguration{}, `{name: r, vhds: {config_source: {ads: {}}}}`),
	)
	proxyOf(t, plane, fmt.Sprintf(overADS, "GRPC"))
	plane.Await("a refusal", func(r xdstest.Request) bool {
		return strings.Contains(r.Error, "r: vhds.config_source: virtual hosts come over DELTA_GRPC only")
	})
}

// TestScopesOnDemand: the table of an on-demand scope is asked for by the first request
// that needs it, which waits.
func TestScopesOnDemand(t *testing.T) {
	plane := xdstest.New(t)
	from := "{ads: {}, initial_fetch_timeout: 0s}"
	plane.Set(
		httpListener(t, "l", strings.Replace(scoped(from, from), routerFilter, onDemand(""), 1)),
		message(t, &routev3.ScopedRouteConfiguration{}, scopeOf("a", "blue", "on_demand: true, route_configuration_name: ra")),
		message(t, &routev3.RouteConfiguration{}, answers("ra", "hello")),
	)
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "DELTA_GRPC"))
	if got := k.get("l", "/", "x-scope", "green"); got != "404 " {
		t.Errorf("no scope: %s", got)
	}
	for _, r := range plane.Requests() {
		if r.TypeURL == ads.RouteType {
			t.Error("the table was asked for before a request needed it")
		}
	}
	if got := k.get("l", "/", "x-scope", "blue"); got != "200 hello" {
		t.Errorf("got %s", got)
	}
	for name, want := range map[string]int64{"all_scopes": 1, "active_scopes": 1, "on_demand_scopes": 1} {
		if got := k.stat("http.l.scoped_rds.s." + name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// TestConnectionsWaitForClusters: a connection of tcp_proxy to a cluster that is not there
// waits for it, too; what the client has sent meanwhile is not lost.
func TestConnectionsWaitForClusters(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "upstream") }))
	t.Cleanup(upstream.Close)
	host, p, _ := strings.Cut(strings.TrimPrefix(upstream.URL, "http://"), ":")
	port, _ := strconv.Atoi(p)
	plane := xdstest.New(t)
	tcp := func(name, cluster, timeout string) *listenerv3.Listener {
		return message(t, &listenerv3.Listener{}, `{name: `+name+`, address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: [{name: tcp, typed_config: {
  "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: `+name+`, cluster: `+cluster+`,
  on_demand: {odcds_config: {ads: {}, resource_api_version: V3}, timeout: `+timeout+`}}}]}]}`)
	}
	plane.Set(tcp("l", "c", "60s"), tcp("short", "nowhere", "0.05s"))
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "DELTA_GRPC"))
	if got := k.get("short", "/"); !strings.Contains(got, "EOF") && !strings.Contains(got, "reset") {
		t.Errorf("a cluster that does not exist: %s", got)
	}
	release := plane.Hold()
	plane.Set(xdstest.StaticCluster("c", host, uint32(port)))
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if got := k.get("l", "/"); got != "200 upstream" {
				t.Errorf("got %s", got)
			}
		})
	}
	until(t, "all to wait", func() bool { return k.stat("on_demand.waiting") == 3 })
	release()
	all.Wait()
	for name, want := range map[string]int64{"l.on_demand_cluster_attempt": 3, "l.on_demand_cluster_success": 3, "short.on_demand_cluster_success": 0} {
		if got := k.stat("tcp." + name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	if n := k.stat("tcp.short.on_demand_cluster_missing") + k.stat("tcp.short.on_demand_cluster_timeout"); n < 1 {
		t.Errorf("%d connections did not get their cluster", n)
	}
}

// TestClustersOnDemandBesideAll: where the same stream brings all clusters, one that was asked
// for may be among those, and stays.
func TestClustersOnDemandBesideAll(t *testing.T) {
	plane := xdstest.New(t)
	plane.Set(xdstest.StaticCluster("c", "127.0.0.1", 1), httpListener(t, "l", "route_config: "+answers("r", "x")+"\n"+onDemand("odcds: {source: {ads: {}}}")))
	k := proxyOf(t, plane, strings.Replace(fmt.Sprintf(overADS, "DELTA_GRPC"), "lds_config", "cds_config: {ads: {}}, lds_config", 1))
	k.port("l")
	k.manager.Ask(filter.Wanted{Kind: filter.WantedCluster, Name: "c"})
	k.manager.Idle("c")
	if names := k.server.Clusters.Names(); len(names) != 1 {
		t.Errorf("clusters %v", names)
	}
}
