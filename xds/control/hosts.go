package control

import (
	"maps"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// Virtual hosts that come one by one (VHDS) go by the name of their route configuration,
// a slash and one of their own. Who asks for the name of the route configuration gets all
// of them; who asks for one by a domain gets the one that has it, with what was asked for
// among its aliases.

// hostTables are the virtual hosts of a set, by route configuration.
type hostTables map[string][]*Resource

func newHostTables(s Set) hostTables {
	var t hostTables
	for _, r := range s {
		if table, _ := cutHost(r.Name); r.TypeURL == ads.VirtualHostType && table != "" {
			if t == nil {
				t = hostTables{}
			}
			t[table] = append(t[table], r)
		}
	}
	for _, list := range t {
		slices.SortFunc(list, func(a, b *Resource) int { return strings.Compare(a.Name, b.Name) })
	}
	return t
}

// cutHost separates the name of a route configuration, "" without, from that of a host in
// it.
func cutHost(name string) (table, host string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// find returns the virtual host that is meant by a name, nil if there is none.
func (t hostTables) find(name string) (found *Resource) {
	table, host := cutHost(name)
	best := 0
	for _, r := range t[table] {
		if r.Name == name {
			return r
		}
		for _, d := range r.Message.(*routev3.VirtualHost).GetDomains() {
			if n := covers(strings.ToLower(d), strings.ToLower(host)); n > best {
				best, found = n, r
			}
		}
	}
	return found
}

// nameOf returns the name of the virtual host that is meant by a name: the same if there is
// none.
func (t hostTables) nameOf(name string) string {
	if r := t.find(name); r != nil {
		return r.Name
	}
	return name
}

// covers tells how well a domain of a virtual host fits a host: 0 is not at all. Whole
// names come before suffixes, those before prefixes, longer before shorter ones.
func covers(domain, host string) int {
	const whole, suffix, prefix = 3 << 16, 2 << 16, 1 << 16
	switch {
	case domain == host:
		return whole
	case domain == "*":
		return 1
	case strings.HasPrefix(domain, "*") && len(host) >= len(domain) && strings.HasSuffix(host, domain[1:]):
		return suffix + len(domain)
	case strings.HasSuffix(domain, "*") && len(host) >= len(domain) && strings.HasPrefix(host, domain[:len(domain)-1]):
		return prefix + len(domain)
	}
	return 0
}

// hostSubscription is a subscription to virtual hosts in which names mean what they mean
// in the set that is served at the moment.
type hostSubscription struct {
	cachev3.Subscription
	node *node
}

// SubscribedResources is part of cachev3.Subscription. It must not wait for the hub.
func (h hostSubscription) SubscribedResources() map[string]struct{} {
	asked := h.Subscription.SubscribedResources()
	all := h.node.served.Load().hosts
	out := maps.Clone(asked)
	for name := range asked {
		if len(all[name]) > 0 {
			delete(out, name)
		}
		for _, r := range all[name] {
			out[r.Name] = struct{}{}
		}
		if r := all.find(name); r != nil && r.Name != name {
			delete(out, name)
			out[r.Name] = struct{}{}
		}
	}
	tables := map[string]bool{}
	for name := range asked {
		table, _ := cutHost(name)
		tables[name], tables[table] = true, true
	}
	for name := range h.ReturnedResources() { // so that what is gone is said to be
		if table, _ := cutHost(name); tables[table] {
			out[name] = struct{}{}
		}
	}
	return out
}

// alias adds to the virtual hosts of a response the names by which its stream has asked
// for them. The lock is held.
func (st *stream) alias(r *discoveryv3.DeltaDiscoveryResponse) {
	all := st.node.served.Load().hosts
	names := map[string][]string{}
	for name := range st.hosts {
		if found := all.find(name); found != nil && found.Name != name {
			names[found.Name] = append(names[found.Name], name)
		}
	}
	for _, res := range r.GetResources() {
		res.Aliases = names[res.GetName()]
		slices.Sort(res.Aliases)
	}
}

// askHosts notes what a stream asks of virtual hosts. The lock is held.
func (st *stream) askHosts(r *discoveryv3.DeltaDiscoveryRequest) {
	if st.hosts == nil {
		st.hosts = map[string]bool{}
	}
	for _, name := range r.GetResourceNamesSubscribe() {
		st.hosts[name] = true
	}
	for _, name := range r.GetResourceNamesUnsubscribe() {
		delete(st.hosts, name)
	}
}
