package xds_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"

	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// message reads a message from YAML.
func message[M proto.Message](t *testing.T, m M, text string) M {
	t.Helper()
	src := bootstrap.Source{Name: "test", Data: []byte(text), Format: bootstrap.FormatYAML}
	if _, err := bootstrap.Decode(src, m, bootstrap.Options{}); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return m
}

// httpListener is a listener on a free port; more is added to its connection manager.
func httpListener(t *testing.T, name, more string) *listenerv3.Listener {
	return message(t, &listenerv3.Listener{}, `
name: `+name+`
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: `+name+`
`+indent(more))
}

const routerFilter = `
http_filters:
- name: envoy.filters.http.router
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}`

func indent(s string) string {
	return "      " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n      ") + "\n"
}

// TestStreamsOfTheirOwn: every type may come over a stream of its own, in either
// protocol, beside or without ADS.
func TestStreamsOfTheirOwn(t *testing.T) {
	for _, variant := range []string{"GRPC", "DELTA_GRPC"} {
		t.Run(variant, func(t *testing.T) {
			plane := xdstest.New(t)
			from := `{resource_api_version: V3, api_config_source: {api_type: ` + variant + `, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}, initial_metadata: [{key: x-team, value: blue}]}]}}`
			plane.Set(
				message(t, &clusterv3.Cluster{}, `{name: c, connect_timeout: 1s, type: EDS, eds_cluster_config: {service_name: svc, eds_config: `+from+`}}`),
				xdstest.Endpoints("svc", xdstest.SocketAddress("127.0.0.1", 1)),
				httpListener(t, "l", `rds: {route_config_name: r, config_source: `+from+"}\n"+routerFilter),
				message(t, &routev3.RouteConfiguration{}, answers("r", "hello")),
			)
			k := proxyOf(t, plane, "node: {id: me}\ndynamic_resources: {cds_config: "+from+", lds_config: "+from+"}\nstatic_resources: {clusters: [XDS]}\n")
			if got := k.get("l", "/"); got != "200 hello" {
				t.Errorf("got %s", got)
			}
			verb := map[string]string{"GRPC": "Stream", "DELTA_GRPC": "Delta"}[variant]
			for _, method := range []string{"cluster.v3.ClusterDiscoveryService/" + verb + "Clusters", "endpoint.v3.EndpointDiscoveryService/" + verb + "Endpoints", "listener.v3.ListenerDiscoveryService/" + verb + "Listeners", "route.v3.RouteDiscoveryService/" + verb + "Routes"} {
				r := plane.Await(method, func(r xdstest.Request) bool { return r.Method == "/envoy.service."+method })
				if r.NodeID != "me" || len(r.Header["x-team"]) != 1 || r.Header["x-team"][0] != "blue" {
					t.Errorf("%s: node %q, metadata %v", method, r.NodeID, r.Header)
				}
			}
			if opened, _ := plane.Streams(); opened != 4 {
				t.Errorf("%d streams for four types", opened)
			}
			for name, want := range map[string]int64{
				"cluster_manager.cds.update_success": 1, "listener_manager.lds.update_success": 1, "cluster_manager.cds.config_reload": 1,
				"http.l.rds.r.update_success": 1, "http.l.rds.r.config_reload": 1, "control_plane.connected_state": 1,
			} {
				until(t, name, func() bool { return k.stat(name) == want })
			}

			// What goes takes its stream with it; what changes reaches the next request.
			plane.Set(message(t, &routev3.RouteConfiguration{}, answers("r", "again")))
			until(t, "the new route", func() bool { return k.get("l", "/") == "200 again" })
			plane.Remove(ads.ListenerType, "l")
			until(t, "the end of the listener", func() bool { return len(k.server.Listeners.Listeners()) == 0 })
			until(t, "the end of its stream of routes", func() bool { return plane.Open() == 3 })
			plane.Set(httpListener(t, "l", `rds: {route_config_name: r, config_source: `+from+"}\n"+routerFilter))
			if got := k.get("l", "/"); got != "200 again" {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestSourcesThatCannotBe: what is not supported is refused by name, in the bootstrap and
// in resources.
func TestSourcesThatCannotBe(t *testing.T) {
	plane := xdstest.New(t)
	const good = `{ads: {}, initial_fetch_timeout: 0s}`
	k := proxyOf(t, plane, "dynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}, cds_config: "+good+", lds_config: "+good+"}\nstatic_resources: {clusters: [XDS]}\n")
	for from, want := range map[string]string{
		`{api_config_source: {api_type: REST, cluster_names: [xds]}}`:                                                                                           "api_config_source.",
		`{api_config_source: {api_type: REST}}`:                                                                                                                 "api_config_source.api_type: this build does not support REST",
		`{api_config_source: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: nobody}}]}}`:                                                          `api_config_source.grpc_services[0].envoy_grpc.cluster_name: there is no static cluster "nobody"`,
		`{api_config_source: {api_type: AGGREGATED_GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}}`:                                                  "xdstp",
		`{api_config_source: {api_type: GRPC, grpc_services: [{google_grpc: {target_uri: "a:1", stat_prefix: a, channel_credentials: {google_default: {}}}}]}}`: "google_grpc.channel_credentials: this build does not support",
	} {
		plane.Set(
			message(t, &clusterv3.Cluster{}, `{name: c, connect_timeout: 1s, type: EDS, eds_cluster_config: {eds_config: `+from+`}}`),
			httpListener(t, "l", `rds: {route_config_name: r, config_source: `+from+"}\n"+routerFilter),
		)
		for _, url := range []string{ads.ClusterType, ads.ListenerType} {
			plane.Await("a refusal of "+from, func(r xdstest.Request) bool { return r.TypeURL == url && strings.Contains(r.Error, want) })
		}
	}
	if n := len(k.server.Clusters.Names()); n != 0 {
		t.Errorf("%d clusters", n)
	}
}

// TestCallCredentials: the token of each stream is what the file holds when it begins.
func TestCallCredentials(t *testing.T) {
	plane := xdstest.New(t)
	token := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		if err := os.WriteFile(token, []byte(s+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	proxyOf(t, plane, `
node: {id: me, metadata: {a: {b: 1}}}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    grpc_services:
    - google_grpc:
        target_uri: dns:///`+plane.Address()+`
        stat_prefix: ads
        credentials_factory_name: envoy.grpc_credentials.file_based_metadata
        channel_args: {args: {grpc.keepalive_time_ms: {int_value: 30000}}}
        call_credentials:
        - from_plugin:
            name: envoy.grpc_credentials.file_based_metadata
            typed_config: {"@type": type.googleapis.com/envoy.config.grpc_credential.v3.FileBasedMetadataConfig, secret_data: {filename: `+token+`}, header_prefix: "Bearer "}
  cds_config: {ads: {}}
`)
	seen := func(want string) func(xdstest.Request) bool {
		return func(r xdstest.Request) bool {
			return len(r.Header["authorization"]) == 1 && r.Header["authorization"][0] == want
		}
	}
	r := plane.Await("the first token", seen("Bearer one"))
	if r.Node.GetMetadata().GetFields()["a"].GetStructValue().GetFields()["b"].GetNumberValue() != 1 {
		t.Errorf("node %v", r.Node)
	}
	write("two")
	plane.DropStreams()
	plane.Await("the second token", seen("Bearer two"))
}

// TestRuntimeLayersComeFirst: RTDS is asked for before anything else, and what it says
// is in effect.
func TestRuntimeLayersComeFirst(t *testing.T) {
	plane := xdstest.New(t)
	release := plane.Hold()
	k := proxyOf(t, plane, `
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {ads: {}, initial_fetch_timeout: 0s}
layered_runtime: {layers: [{name: base, static_layer: {k: 1}}, {name: dyn, rtds_layer: {name: values, rtds_config: {ads: {}, initial_fetch_timeout: 0s}}}]}
static_resources: {clusters: [XDS]}
`)
	n := runtime.UintSetting{Key: "k"}.On(k.runtime)
	plane.Await("the request for the layer", func(r xdstest.Request) bool {
		return r.TypeURL == ads.RuntimeType && len(r.Names) == 1 && r.Names[0] == "values"
	})
	plane.Set(message(t, &runtimev3.Runtime{}, `{name: values, layer: {k: 2, x: {y: true}}}`))
	for _, r := range plane.Requests() {
		if r.TypeURL == ads.ClusterType {
			t.Error("clusters were asked for before the runtime was there")
		}
	}
	release()
	plane.Await("the request for clusters", func(r xdstest.Request) bool { return r.TypeURL == ads.ClusterType })
	if n.Get() != 2 {
		t.Errorf("k is %d", n.Get())
	}
	plane.Set(message(t, &runtimev3.Runtime{}, `{name: values, layer: {k: 3}}`))
	until(t, "the new value", func() bool { return n.Get() == 3 })
	plane.Remove(ads.RuntimeType, "values")
	until(t, "the value below", func() bool { return n.Get() == 1 })
}

// TestRuntimeTimesOut: a layer that never comes holds nothing up for ever.
func TestRuntimeTimesOut(t *testing.T) {
	plane := xdstest.New(t)
	proxyOf(t, plane, `
dynamic_resources:
  ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {ads: {}}
layered_runtime: {layers: [{name: dyn, rtds_layer: {name: values, rtds_config: {ads: {}, initial_fetch_timeout: 0.05s}}}]}
static_resources: {clusters: [XDS]}
`)
	plane.Await("the request for clusters", func(r xdstest.Request) bool { return r.TypeURL == ads.ClusterType })
}
