package cluster

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// SubClusters makes a dynamic forward proxy have a cluster of its own for each name, with
// all addresses of the name as hosts (sub_clusters_config).
type SubClusters struct {
	Policy Policy
	Max    int           // max_sub_clusters, 1024 unless set
	TTL    time.Duration // sub_cluster_ttl, 5 min unless set: how long one stays that nobody asks for
	// Preresolve are names whose clusters are there from the beginning.
	Preresolve []dnscache.Key
	DNS        DNS  // of dns_cluster_config, or else of the cluster
	Logical    bool // all addresses are those of one host (all_addresses_in_single_endpoint)
}

// Errors of Cluster.AwaitSub.
var (
	ErrSubClusters = errors.New("cluster: there are max_sub_clusters already")
	ErrSubLate     = errors.New("cluster: the sub cluster was not ready in time")
)

// subClusters are the clusters that a dynamic forward proxy has made.
type subClusters struct {
	shownElsewhere

	m      *Manager
	spec   *Spec // of the dynamic forward proxy
	expire event

	mu     sync.Mutex
	by     map[dnscache.Key]*subCluster
	closed bool
}

// subCluster is one of them.
type subCluster struct {
	name  string
	ready chan struct{}
	used  atomic.Int64 // when somebody asked for it last, since the manager's start
}

func newSubClusters(m *Manager, s *Spec) *subClusters {
	subs := &subClusters{m: m, spec: s, by: map[dnscache.Key]*subCluster{}}
	subs.expire.run = subs.forget
	if len(s.Sub.Preresolve) > 0 {
		m.goWork(func() { // which needs the lock that who makes us holds
			for _, key := range s.Sub.Preresolve {
				_, _ = subs.get(key) // what is too much is made when somebody asks
			}
		})
	}
	return subs
}

// AwaitSub makes sure that a dynamic forward proxy with SubClusters has the cluster for
// where an attempt leads, and waits until its name was looked up, within timeout. Its
// errors are ErrSubClusters, ErrSubLate and the cause of ctx; a name without addresses is
// none.
func (c *Cluster) AwaitSub(ctx context.Context, key dnscache.Key, timeout time.Duration) error {
	subs, ok := c.running().own.(*subClusters)
	if !ok {
		return nil
	}
	sub, err := subs.get(key)
	if err != nil {
		return err
	}
	select {
	case <-sub.ready:
		return nil
	default:
	}
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case <-sub.ready:
		return nil
	case <-late.C:
		return ErrSubLate
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// get returns the cluster for a name, making it if there is none.
func (s *subClusters) get(key dnscache.Key) (*subCluster, error) {
	now := s.m.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub := s.by[key]; sub != nil {
		sub.used.Store(int64(now))
		return sub, nil
	}
	if s.closed || len(s.by) >= s.spec.Sub.Max {
		return nil, ErrSubClusters
	}
	key.Host = strings.Clone(key.Host) // of a request
	sub := &subCluster{ready: make(chan struct{})}
	spec := s.spec.sub(key)
	spec.Warmed = sync.OnceFunc(func() { close(sub.ready) })
	sub.name = spec.Name
	sub.used.Store(int64(now))
	if err := s.m.Set(spec); err != nil {
		return nil, err
	}
	if len(s.by) == 0 {
		s.m.agenda.set(&s.expire, s.m.start.Add(now+s.spec.Sub.TTL))
	}
	s.by[key] = sub
	return sub, nil
}

// sub is the configuration of the cluster for a name.
func (s *Spec) sub(key dnscache.Key) *Spec {
	n := *s
	n.Name = "DFPCluster:" + key.Host + ":" + strconv.Itoa(int(key.Port)) // without brackets, as in Envoy
	n.StatName, n.ServiceName = n.Name, n.Name
	n.Type, n.DNS, n.Policy = StrictDNS, s.Sub.DNS, s.Sub.Policy
	if s.Sub.Logical {
		n.Type = LogicalDNS
	}
	n.Sub, n.Thaw, n.Awaits, n.OnDemand = nil, nil, nil, false
	one := HostSpec{DNSName: key.Host, Port: key.Port, Weight: 1}
	if ip, err := netip.ParseAddr(key.Host); err == nil {
		one.DNSName, one.Hostname, one.Addr = "", key.Host, meta.Addr{AddrPort: netip.AddrPortFrom(ip, key.Port)}
	}
	n.Assignment = &Assignment{Cluster: n.Name, Localities: []Locality{{Hosts: []HostSpec{one}}}, Overprovisioning: 140}
	return &n
}

// pick implements ownHosts: a host of the cluster for where the attempt leads. Who asks has
// awaited it.
func (s *subClusters) pick(c *Cluster, a *Attempt) *Host {
	key, ok := a.ForwardKey(c.Spec().forwardPort())
	if !ok {
		return nil
	}
	s.mu.Lock()
	sub := s.by[key]
	s.mu.Unlock()
	if sub == nil {
		return nil
	}
	sub.used.Store(int64(s.m.now()))
	of := s.m.Cluster(sub.name)
	if of == nil {
		return nil
	}
	h, err := of.Pick(a)
	if err != nil {
		return nil
	}
	return h
}

// forwardPort is where a request goes that names no port.
func (s *Spec) forwardPort() uint16 {
	if t, ok := s.Socket.(interface{ Secure() bool }); ok && t.Secure() {
		return 443
	}
	return 80
}

// forget removes the clusters that nobody has asked for during the TTL. It runs on the agenda.
func (s *subClusters) forget() {
	now, ttl := s.m.now(), s.spec.Sub.TTL
	var gone []string
	s.mu.Lock()
	next := never
	for key, sub := range s.by {
		until := time.Duration(sub.used.Load()) + ttl
		if until <= now {
			gone = append(gone, sub.name)
			delete(s.by, key)
			continue
		}
		next = min(next, until)
	}
	if next != never && !s.closed {
		s.m.agenda.set(&s.expire, s.m.start.Add(next))
	}
	s.mu.Unlock()
	for _, name := range gone {
		s.m.removeVersion(name, s.spec.Hash)
	}
}

// close ends all of them, in the background: whoever calls may hold the manager's lock.
func (s *subClusters) close() {
	s.m.agenda.cancel(&s.expire)
	s.mu.Lock()
	s.closed = true
	var gone []string
	for _, sub := range s.by {
		gone = append(gone, sub.name)
	}
	clear(s.by)
	s.mu.Unlock()
	s.m.goWork(func() {
		for _, name := range gone {
			s.m.removeVersion(name, s.spec.Hash)
		}
	})
}
