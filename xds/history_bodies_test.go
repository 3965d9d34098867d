package xds_test

import (
	"fmt"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// variants is how many good bodies there are of a resource; the next one is broken.
const variants = 6

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

func (b *bodies) broken(body *anypb.Any) bool {
	return b.what(body) == fmt.Sprint("variant ", variants)
}

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
		if variant == variants {
			r.VirtualHosts = append(r.VirtualHosts, r.VirtualHosts[0])
		}
		return r
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
	}
	l := xdstest.TCPListener(t, name, "127.0.0.1", port, "c0")
	if variant == variants {
		l.FilterChains[0].Filters[0].GetTypedConfig().TypeUrl = "type.googleapis.com/nowhere.Filter"
	}
	return l
}
