package control

import (
	"fmt"
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// check looks for references that lead nowhere, and for what nothing in the set
// refers to. These are warnings: the proxy's own bootstrap may hold what is missing
// here.
func check(s Set) (dangling []string, unused []orphan) {
	c := newChecker(s)
	all := c.references()
	for _, r := range all {
		c.at = r
		if r.TypeURL == ads.EndpointType && !c.usedEndpoints[r.Name] {
			unused = append(unused, orphan{r, "no cluster of type EDS uses them"})
		}
		if r.TypeURL == ads.RouteType && !c.usedRoutes[r.Name] {
			unused = append(unused, orphan{r, "no listener uses them"})
		}
		if r.TypeURL == ads.ExtensionConfigType && !c.usedConfigs[r.Name] {
			unused = append(unused, orphan{r, "no listener uses it"})
		}
	}
	return c.out, unused
}

// references follows every reference of the set.
func (c *checker) references() []*Resource {
	all := c.set.sorted()
	for _, r := range all {
		c.at = r
		switch m := r.Message.(type) {
		case *clusterv3.Cluster:
			c.cluster(m)
		case *listenerv3.Listener:
			c.listener(m)
		case *routev3.RouteConfiguration:
			c.routes(m, "")
		case *routev3.ScopedRouteConfiguration:
			c.scope(m)
		case *routev3.VirtualHost:
			if table, _ := cutHost(m.GetName()); !c.has(ads.RouteType, table) {
				c.warn("name", "it is not the name of routes, a slash and one of its own")
			}
			c.virtualHost(m, "")
		}
	}
	return all
}

func (c *checker) scope(m *routev3.ScopedRouteConfiguration) {
	if rc := m.GetRouteConfiguration(); rc != nil {
		c.routes(rc, "route_configuration.")
	} else if name := m.GetRouteConfigurationName(); !c.has(ads.RouteType, name) {
		c.warn("route_configuration_name", "there are no routes %q here", name)
	}
}

// orphan is a resource that nothing in a set refers to.
type orphan struct {
	*Resource
	why string
}

// warnings checks every set. What is unused in some sets only, such as routes that
// the listeners of one node need, is no reason to warn.
func warnings(sets map[string]Set) (out []string) {
	var orphans []orphan
	idle, holders := map[*Resource]int{}, map[*Resource]int{}
	for _, group := range slices.Sorted(maps.Keys(sets)) {
		dangling, unused := check(sets[group])
		for _, w := range dangling {
			if !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
		for _, o := range unused {
			if idle[o.Resource]++; idle[o.Resource] == 1 {
				orphans = append(orphans, o)
			}
		}
		for _, r := range sets[group] {
			holders[r]++
		}
	}
	for _, o := range orphans {
		if idle[o.Resource] == holders[o.Resource] {
			out = append(out, fmt.Sprintf("%s: %s: %s", o.where(), o.Resource, o.why))
		}
	}
	return out
}

type checker struct {
	set           Set
	at            *Resource
	usedEndpoints map[string]bool
	usedRoutes    map[string]bool
	usedConfigs   map[string]bool
	addresses     map[string]*Resource
	missing       map[string]bool // clusters that something refers to; nil: not wanted
	out           []string
}

func newChecker(s Set) *checker {
	return &checker{
		set: s, usedEndpoints: map[string]bool{}, usedRoutes: map[string]bool{}, usedConfigs: map[string]bool{},
		addresses: map[string]*Resource{},
	}
}

func (c *checker) warn(path, format string, args ...any) {
	if path != "" {
		path = ": " + path
	}
	w := fmt.Sprintf("%s: %s%s: %s", c.at.where(), c.at, path, fmt.Sprintf(format, args...))
	if !slices.Contains(c.out, w) {
		c.out = append(c.out, w)
	}
}

func (c *checker) has(typeURL, name string) bool {
	_, ok := c.set[key{typeURL, name}]
	return ok
}

func (c *checker) cluster(m *clusterv3.Cluster) {
	if m.GetType() != clusterv3.Cluster_EDS || m.GetClusterType() != nil {
		return
	}
	name := m.GetEdsClusterConfig().GetServiceName()
	if name == "" {
		name = m.GetName()
	}
	c.usedEndpoints[name] = true
	if overADS(m.GetEdsClusterConfig().GetEdsConfig()) && !c.has(ads.EndpointType, name) {
		c.warn("eds_cluster_config", "there are no endpoints %q; the cluster stays without hosts", name)
	}
}

func (c *checker) listener(m *listenerv3.Listener) {
	if a := m.GetAddress().GetSocketAddress(); a.GetPortValue() != 0 && (m.GetBindToPort() == nil || m.GetBindToPort().GetValue()) {
		where := fmt.Sprintf("%s %s:%d", a.GetProtocol(), a.GetAddress(), a.GetPortValue())
		if other, taken := c.addresses[where]; taken {
			c.warn("address", "%s has the address %s:%d already; a proxy refuses the second one", other, a.GetAddress(), a.GetPortValue())
		}
		c.addresses[where] = c.at
	}
	for i, f := range m.GetListenerFilters() {
		c.discovery(fmt.Sprintf("listener_filters[%d]", i), f.GetName(), f.GetConfigDiscovery())
	}
	chains := m.GetFilterChains()
	for i, fc := range chains {
		c.filters(fc, fmt.Sprintf("filter_chains[%d]", i))
	}
	if fc := m.GetDefaultFilterChain(); fc != nil {
		c.filters(fc, "default_filter_chain")
	}
}

func (c *checker) filters(fc *listenerv3.FilterChain, path string) {
	for i, f := range fc.GetFilters() {
		path := fmt.Sprintf("%s.filters[%d]", path, i)
		c.discovery(path, f.GetName(), f.GetConfigDiscovery())
		var hcm hcmv3.HttpConnectionManager
		var tcp tcpv3.TcpProxy
		switch body := f.GetTypedConfig(); {
		case body.MessageIs(&hcm) && body.UnmarshalTo(&hcm) == nil:
			c.connectionManager(&hcm, path)
		case body.MessageIs(&tcp) && body.UnmarshalTo(&tcp) == nil:
			c.reference(path+".cluster", tcp.GetCluster())
			for j, w := range tcp.GetWeightedClusters().GetClusters() {
				c.reference(fmt.Sprintf("%s.weighted_clusters.clusters[%d]", path, j), w.GetName())
			}
		}
	}
}

// discovery follows the reference of a filter to its configuration (ECDS).
func (c *checker) discovery(path, name string, d *corev3.ExtensionConfigSource) {
	if d == nil {
		return
	}
	c.usedConfigs[name] = true
	if overADS(d.GetConfigSource()) && d.GetDefaultConfig() == nil && !c.has(ads.ExtensionConfigType, name) {
		c.warn(path+".config_discovery", "there is no extension config %q; the listener waits for it", name)
	}
}

func (c *checker) connectionManager(m *hcmv3.HttpConnectionManager, path string) {
	for i, f := range m.GetHttpFilters() {
		c.discovery(fmt.Sprintf("%s.http_filters[%d]", path, i), f.GetName(), f.GetConfigDiscovery())
	}
	if rds := m.GetRds(); rds != nil {
		c.usedRoutes[rds.GetRouteConfigName()] = true
		if overADS(rds.GetConfigSource()) && !c.has(ads.RouteType, rds.GetRouteConfigName()) {
			c.warn(path+".rds", "there are no routes %q; the listener waits for them", rds.GetRouteConfigName())
		}
	}
	for _, r := range c.set {
		if sr, ok := r.Message.(*routev3.ScopedRouteConfiguration); ok && m.GetScopedRoutes() != nil {
			c.usedRoutes[sr.GetRouteConfigurationName()] = true
		}
	}
	if rc := m.GetRouteConfig(); rc != nil {
		c.routes(rc, path+".route_config.")
	}
}

func (c *checker) routes(m *routev3.RouteConfiguration, path string) {
	for i, vh := range m.GetVirtualHosts() {
		c.virtualHost(vh, fmt.Sprintf("%svirtual_hosts[%d].", path, i))
	}
}

func (c *checker) virtualHost(m *routev3.VirtualHost, path string) {
	for j, r := range m.GetRoutes() {
		p := fmt.Sprintf("%sroutes[%d].route", path, j)
		a := r.GetRoute()
		c.reference(p+".cluster", a.GetCluster())
		for k, w := range a.GetWeightedClusters().GetClusters() {
			c.reference(fmt.Sprintf("%s.weighted_clusters.clusters[%d]", p, k), w.GetName())
		}
		for k, mirror := range a.GetRequestMirrorPolicies() {
			c.reference(fmt.Sprintf("%s.request_mirror_policies[%d]", p, k), mirror.GetCluster())
		}
	}
}

func (c *checker) reference(path, cluster string) {
	if cluster != "" && !c.has(ads.ClusterType, cluster) {
		if c.missing != nil {
			c.missing[cluster] = true
		}
		c.warn(path, "there is no cluster %q here", cluster)
	}
}

func overADS(s *corev3.ConfigSource) bool { return s.GetAds() != nil }
