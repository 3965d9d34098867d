package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Forward is a dynamic forward proxy: its hosts are what requests ask for
// (envoy.clusters.dynamic_forward_proxy with dns_cache_config).
type Forward struct {
	Cache    dnscache.Spec
	Family   Family
	Resolver *dns.Options // nil is the process's
}

// DNSCaches gives the caches that clusters and filters share by name.
type DNSCaches interface {
	// DNSCache returns the cache with the name of f, making it if there is none. release
	// gives it up. Two configurations of one name must be the same.
	DNSCache(f *Forward) (c *dnscache.Cache, release func(), err error)
}

// cacheUse is a cache and who uses it.
type cacheUse struct {
	cache *dnscache.Cache
	of    *Forward
	users int
}

// DNSCache implements DNSCaches.
func (m *Manager) DNSCache(f *Forward) (*dnscache.Cache, func(), error) {
	m.cacheMu.Lock()
	defer m.cacheMu.Unlock()
	u := m.caches[f.Cache.Name]
	if u != nil && (!u.of.Cache.Equal(&f.Cache) || u.of.Family != f.Family || !u.of.Resolver.Equal(f.Resolver)) {
		return nil, nil, fmt.Errorf("the DNS cache %q is configured in another way elsewhere", f.Cache.Name)
	}
	if u == nil {
		r, family := m.resolverFor(f.Resolver), f.Family
		lookup := func(ctx context.Context, name string) ([]netip.Addr, time.Duration, error) {
			a, err := r.Lookup(ctx, name, family.want())
			return family.choose(a), a.TTL, err
		}
		u = &cacheUse{cache: dnscache.New(&f.Cache, lookup, m.options.Stats), of: f}
		if m.caches == nil {
			m.caches = map[string]*cacheUse{}
		}
		m.caches[f.Cache.Name] = u
	}
	u.users++
	var once sync.Once
	return u.cache, func() { once.Do(func() { m.leaveCache(u) }) }, nil
}

func (m *Manager) leaveCache(u *cacheUse) {
	m.cacheMu.Lock()
	u.users--
	last := u.users == 0
	if last {
		delete(m.caches, u.of.Cache.Name)
	}
	m.cacheMu.Unlock()
	if last {
		u.cache.Close()
	}
}

// forwardHosts are the hosts of a dynamic forward proxy: one for each name that the
// cache knows and somebody asked for.
type forwardHosts struct {
	g     *group
	cache *dnscache.Cache
	leave func()

	mu     sync.RWMutex
	hosts  map[dnscache.Key]forwardHost
	health askedHosts
}

// forwardHost is a host, and the answer of the cache that it was made of.
type forwardHost struct {
	*Host
	of *netip.Addr
}

func newForwardHosts(g *group, f *Forward) (*forwardHosts, error) {
	cache, release, err := g.m.DNSCache(f)
	if err != nil {
		return nil, err
	}
	h := &forwardHosts{g: g, cache: cache, hosts: map[dnscache.Key]forwardHost{}, health: askedHosts{core: g.core}}
	stop := cache.OnRemove(h.forget)
	h.leave = func() {
		stop()
		release()
	}
	return h, nil
}

// pick implements ownHosts: a host that the cache knows. Who asks has resolved it.
func (f *forwardHosts) pick(_ *Cluster, a *Attempt) *Host {
	key, ok := a.ForwardKey(80)
	if !ok {
		return nil
	}
	addrs := f.cache.Get(key)
	if len(addrs) == 0 {
		return nil
	}
	f.mu.RLock()
	h := f.hosts[key]
	f.mu.RUnlock()
	if h.Host == nil || h.of != &addrs[0] {
		h.Host = f.make(key, addrs)
	}
	if h.Flags().unhealthy() {
		return nil
	}
	return h.Host
}

func (f *forwardHosts) make(key dnscache.Key, addrs []netip.Addr) *Host {
	f.mu.Lock()
	old := f.hosts[key]
	if old.Host != nil && old.of == &addrs[0] {
		f.mu.Unlock()
		return old.Host
	}
	h := &Host{
		Addr:     meta.Addr{AddrPort: netip.AddrPortFrom(addrs[0], key.Port)},
		Hostname: key.Host, Weight: 1, ep: f.g.endpoint(forwardAddr(key)),
	}
	for _, ip := range addrs[1:] {
		h.extra = append(h.extra, meta.Addr{AddrPort: netip.AddrPortFrom(ip, key.Port)})
	}
	f.hosts[key] = forwardHost{h, &addrs[0]}
	if old.Host == nil {
		f.health.changed(len(f.hosts))
	}
	f.mu.Unlock()
	if old.Host == nil {
		f.g.core.asked(h)
	}
	return h
}

// forwardAddr is what the endpoint of a name is known by: its addresses may change.
func forwardAddr(key dnscache.Key) meta.Addr {
	return meta.Addr{Path: "name:" + key.Host + ":" + strconv.Itoa(int(key.Port))}
}

// forget is called by the cache.
func (f *forwardHosts) forget(key dnscache.Key) {
	f.mu.Lock()
	h := f.hosts[key].Host
	if h != nil {
		delete(f.hosts, key)
		f.health.changed(len(f.hosts), h)
	}
	f.mu.Unlock()
	if h != nil {
		f.g.dropEndpoint(forwardAddr(key))
		f.g.core.asked(h)
	}
}

// has implements ownHosts.
func (f *forwardHosts) has(h *Host) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	there := f.hosts[dnscache.Key{Host: h.Hostname, Port: h.Addr.AddrPort.Port()}].Host
	return there != nil && there.ep == h.ep
}

// recount implements ownHosts.
func (f *forwardHosts) recount() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.health.count(f.each)
}

// list implements ownHosts.
func (f *forwardHosts) list() []*Host {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.AppendSeq(make([]*Host, 0, len(f.hosts)), f.each)
}

// each goes over the hosts. The lock is held.
func (f *forwardHosts) each(yield func(*Host) bool) {
	for _, h := range f.hosts {
		if !yield(h.Host) {
			return
		}
	}
}

// The filter state by which filters say where a dynamic forward proxy leads.
const (
	DynamicHostKey = "envoy.upstream.dynamic_host"
	DynamicPortKey = "envoy.upstream.dynamic_port"
)

// ForwardKey returns where an attempt leads: what filter state says, or else the
// authority of the request, or the server name of the connection. port is for what says
// none.
func (a *Attempt) ForwardKey(port uint16) (dnscache.Key, bool) {
	if a == nil {
		return dnscache.Key{}, false
	}
	if a.State != nil {
		if host, ok := a.State.FilterState(DynamicHostKey).(string); ok && host != "" {
			if p, ok := a.State.FilterState(DynamicPortKey).(string); ok {
				if n, err := strconv.ParseUint(p, 10, 16); err == nil {
					port = uint16(n)
				}
			}
			return dnscache.Key{Host: host, Port: port}, true
		}
	}
	switch {
	case a.Headers != nil:
		return dnscache.ParseKey(a.Headers.Get(":authority"), port)
	case a.Conn != nil && a.Conn.ServerName != "":
		return dnscache.ParseKey(a.Conn.ServerName, port)
	}
	return dnscache.Key{}, false
}
