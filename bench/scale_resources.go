package main

import (
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"                     // for the listener
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3" // for the listener
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

// What a mesh sends to every one of its proxies: clusters that most of them never use.

func scaleName(i int) string {
	return fmt.Sprintf("outbound|8080||service-%05d.some-namespace.svc.cluster.local", i)
}

func scalePort(changed bool) uint32 {
	if changed {
		return 8081
	}
	return 8080
}

func scaleEndpoints(i int, port uint32) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: scaleName(i), Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: fmt.Sprintf("10.1.%d.%d", i/250%250, i%250+1), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
			}}},
		}}}},
	}}}
}

func scaleCluster(i int, port uint32) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: scaleName(i), ConnectTimeout: durationpb.New(time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, LoadAssignment: scaleEndpoints(i, port),
	}
}

func scaleRoutes(n int) *routev3.RouteConfiguration {
	out := &routev3.RouteConfiguration{Name: "routes"}
	for i := range n {
		out.VirtualHosts = append(out.VirtualHosts, &routev3.VirtualHost{
			Name: scaleName(i), Domains: []string{fmt.Sprintf("service-%05d.some-namespace.svc.cluster.local", i)},
			Routes: []*routev3.Route{{
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: scaleName(i)},
				}},
			}},
		})
	}
	return out
}

// scaleListener is a listener whose routes come from a source, in YAML.
func scaleListener(port int, from string) (*listenerv3.Listener, error) {
	l := &listenerv3.Listener{}
	_, err := bootstrap.Decode(bootstrap.Source{Name: "listener", Format: bootstrap.FormatYAML, Data: fmt.Appendf(nil, `
name: all
address: {socket_address: {address: 127.0.0.1, port_value: %d}}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: all
      rds: {route_config_name: routes, config_source: {%s}}
      http_filters:
      - name: envoy.filters.http.router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`, port, from)}, l, bootstrap.Options{})
	return l, err
}

// packed is a message in an Any with bytes that are the same each time.
func packed(m proto.Message) (*anypb.Any, error) {
	a := &anypb.Any{}
	return a, anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true})
}
