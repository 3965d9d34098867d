package xds_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// variants is how many good bodies there are of a resource; the next one is broken.
const variants = 8

// bodies are all resources that histories are made of.
type bodies struct {
	names map[string][]string // by type
	all   map[string]*anypb.Any
	whose map[string]string // by the bytes
}

func newBodies(t *testing.T) bodies {
	b := bodies{all: map[string]*anypb.Any{}, whose: map[string]string{}}
	b.names = map[string][]string{
		ads.ClusterType: {"c0", "c1", "c2"}, ads.EndpointType: {"s0", "s1", "s2"},
		ads.ListenerType: {"l0", "l1", "l2"}, ads.RouteType: {"r0", "r1", "r2"},
		ads.ScopedRouteType: {"p0", "p1"}, ads.VirtualHostType: {"r0/h0", "r0/h1", "r1/h0"}, ads.RuntimeType: {"rt"},
	}
	for _, url := range pastTypes {
		for i, name := range b.names[url] {
			for v := range variants + 1 {
				body := xdstest.Pack(t, bodyOf(t, url, name, i, v))
				key := fmt.Sprintf("%s %s %d", url, name, v)
				b.all[key], b.whose[string(body.Value)] = body, fmt.Sprint("variant ", v)
			}
		}
	}
	return b
}

func (b *bodies) of(url, name string, variant int) *anypb.Any {
	return b.all[fmt.Sprintf("%s %s %d", url, name, variant)]
}

// what names a body.
func (b *bodies) what(body *anypb.Any) string { return b.whose[string(body.GetValue())] }

// broken reports whether a body is to be refused: virtual hosts that come one by one need
// the delta protocol.
func (b *bodies) broken(body *anypb.Any, v ads.Variant) bool {
	what := b.what(body)
	return what == fmt.Sprint("variant ", variants) || v == ads.SotW && body.GetTypeUrl() == ads.RouteType && what == fmt.Sprint("variant ", withVHDS)
}

// withVHDS is the variant of route tables whose virtual hosts come one by one.
const withVHDS = 5

func bodyOf(t *testing.T, url, name string, i, variant int) proto.Message {
	port := uint32(1000 + 10*i + variant)
	switch url {
	case ads.ClusterType:
		c := xdstest.StaticCluster(name, "127.0.0.1", port)
		if variant < 4 {
			c = message(t, &clusterv3.Cluster{}, fmt.Sprintf(`{name: %s, type: EDS, eds_cluster_config: {service_name: s%d,
  eds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}}}`, name, variant%3))
		}
		c.ConnectTimeout = durationpb.New(time.Duration(variants-variant) * time.Second) // of the broken one 0
		return c
	case ads.EndpointType:
		a := xdstest.Endpoints(name, xdstest.SocketAddress("127.0.0.1", port))
		if variant == variants {
			a.Endpoints[0].Priority = 200
		}
		return a
	case ads.RouteType:
		r := xdstest.Route(name, fmt.Sprint("c", variant%3))
		r.InternalOnlyHeaders = []string{fmt.Sprint("x-variant-", variant)} // to be seen in the table
		switch variant {
		case withVHDS:
			r.Vhds = message(t, &routev3.Vhds{}, "{config_source: {ads: {}, resource_api_version: V3}}")
		case variants:
			r.VirtualHosts = append(r.VirtualHosts, r.VirtualHosts[0])
		}
		return r
	case ads.ScopedRouteType:
		to := fmt.Sprint("route_configuration_name: r", variant%3)
		if variant == variants {
			to = "on_demand: true"
		}
		return message(t, &routev3.ScopedRouteConfiguration{}, scopeOf(name, "key-"+name, to))
	case ads.VirtualHostType:
		_, host, _ := strings.Cut(name, "/")
		route := fmt.Sprintf(`{name: v%d, match: {prefix: "/"}, direct_response: {status: 200}}`, variant)
		if variant == variants {
			host += ", " + host
		}
		return message(t, &routev3.VirtualHost{}, fmt.Sprintf(`{name: %q, domains: [%s], routes: [%s]}`, name, host, route))
	case ads.RuntimeType:
		value := fmt.Sprint(variant)
		if variant == variants {
			value = "[1]"
		}
		return message(t, &runtimev3.Runtime{}, "{name: rt, layer: {key: "+value+"}}")
	}
	l := pastListener(t, name, uint32(2000+i), variant)
	l.StatPrefix = fmt.Sprint("v", variant)
	return l
}

// pastListener is one with a table over RDS, two of them, a table of its own, or none.
func pastListener(t *testing.T, name string, port uint32, variant int) *listenerv3.Listener {
	over := func(table string) *listenerv3.Listener {
		l := httpListener(t, name, "rds: {route_config_name: "+table+", config_source: {ads: {}, resource_api_version: V3}}"+routerFilter)
		l.Address = xdstest.SocketAddress("127.0.0.1", port)
		return l
	}
	switch variant {
	case 0, 1, 2:
		return over(fmt.Sprint("r", variant))
	case 3:
		l, more := over("r0"), over("r1").FilterChains[0]
		more.FilterChainMatch = &listenerv3.FilterChainMatch{SourcePorts: []uint32{7}}
		l.FilterChains = append(l.FilterChains, more)
		return l
	case 4:
		l := httpListener(t, name, "route_config: "+answers("own", "yes")+routerFilter)
		l.Address = xdstest.SocketAddress("127.0.0.1", port)
		return l
	case 5, 6:
		from := "{ads: {}, resource_api_version: V3}"
		l := httpListener(t, name, strings.Replace(scoped(from, from), "name: s\n", fmt.Sprintf("name: s%d\n", variant), 1))
		l.Address = xdstest.SocketAddress("127.0.0.1", port)
		return l
	}
	l := xdstest.TCPListener(t, name, "127.0.0.1", port, "c0")
	if variant == variants {
		l.FilterChains[0].Filters[0].GetTypedConfig().TypeUrl = "type.googleapis.com/nowhere.Filter"
	}
	return l
}
