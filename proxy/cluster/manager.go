package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Options configure a Manager. The zero value works for raw connections.
type Options struct {
	Stats    *stats.Store // nil: counters are not shown
	Log      *slog.Logger // nil: slog.Default
	Resolver Resolver     // looks up every name; nil: the system's resolv.conf and hosts file, as DNS changes it
	DNS      dns.Options  // for clusters that say nothing else
	// HTTP begins HTTP on a connection to a host, which it takes over: HTTP/1, or HTTP/2
	// which is a codec.Multiplexed. Nil: packages h1 and h2.
	HTTP func(c *netio.Conn, s *Spec, p meta.Protocol) codec.ClientConn
	// Ready is called, without a lock, each time that a cluster, or a new version of
	// it, has become usable.
	Ready func(name string)
	// Idle is called, without a lock, with the name of a cluster of Spec.OnDemand that
	// nobody has used for half an hour or more: it may be removed. Nil: they stay.
	Idle func(name string)
	// Built is called when a cluster is used that was not used before, or was given back: its
	// hosts, pools and counters are made. It must neither wait nor call the manager. Nil: nobody
	// wants to know.
	Built func()
	// Bind is where connections come from whose cluster says nothing else; nil is none. A
	// mark among its options is for lookups, and for clusters that have other options, too.
	Bind *Bind
	// Rand is the source of chance in load balancing, safe for concurrent use. Nil:
	// math/rand/v2.
	Rand func() uint64
	// Runtime overrides numbers of load balancing (upstream.healthy_panic_threshold,
	// upstream.zone_routing.*, the keys of the configuration). Nil: none.
	Runtime *runtime.Runtime
	// LocalCluster is the cluster that this proxy belongs to
	// (cluster_manager.local_cluster_name) and Locality where it is (node.locality), for zone
	// aware routing. "" is not known.
	LocalCluster string
	Locality     LocalityName
	// OutlierLog takes a line of JSON for each ejection of a host and for its end
	// (outlier_detection.event_log_path). It must not wait. Nil: nobody wants them.
	OutlierLog func(line []byte)
	// HealthLog opens a file of the event log of health checks and returns what writes a
	// line to it, without waiting, and what closes it. Nil: there are no such files.
	HealthLog func(path string) (write func(line []byte), shut func(), err error)
	// Internal connects to an internal listener. Nil: there is none.
	Internal func(ctx context.Context, to meta.Addr, with meta.Passed) (*netio.Conn, error)
}

// Manager holds the clusters. It is safe for concurrent use.
type Manager struct {
	options Options
	log     *slog.Logger
	rnd     func() uint64
	dial    dialFunc
	start   time.Time
	scope   *stats.Scope // "cluster"
	stats   managerStats
	agenda  agenda
	watch   watcher
	ends    *netio.Parker // watches busy connections for their ends
	waiters waiters
	lastID  atomic.Uint64

	resolver Resolver

	ctx    context.Context // of dials and lookups
	cancel context.CancelCauseFunc
	work   work
	ready  sync.Map // name to *Cluster: what Cluster returns

	cacheMu sync.Mutex
	caches  map[string]*cacheUse // of dynamic forward proxies, by name

	mu       sync.Mutex
	closed   bool
	slots    map[string]*slot
	services map[string]*service
	called   []string // for Options.Ready, when the lock is released
	idled    []string // for Options.Idle, likewise
	changed  []*core  // whose watchers are then to be told
	active   int      // slots with an active version
	warming  int      // slots with a warming one
	checking int      // slots that are unchecked
	idle     event    // looks for clusters that are idle
	idleDue  bool
}

// slot is a name and what goes on under it across versions.
type slot struct {
	name            string
	active, warming *Cluster
	unchecked       bool // nobody may use active yet: the first health checks are under way
	core            *core
	group           *group // of the newest version in use
}

// service is an assignment, and who wants it.
type service struct {
	assignment *Assignment // nil before it came
	users      []*Cluster
	stale      *event // endpoint_stale_after
}

// Dialer returns a dialer for what the process sends on its own account, lookups above
// all: capture rules know it by its mark.
func (m *Manager) Dialer() *net.Dialer { return netio.MarkedDialer(m.options.Bind.mark()) }

// ErrClosed is what is asked of a Manager after Close.
var ErrClosed = errors.New("cluster: the manager is closed")

// NewManager returns a Manager without clusters.
func NewManager(o Options) *Manager {
	mark := o.Bind.mark()
	m := &Manager{
		options: o, log: o.Log, rnd: o.Rand, resolver: o.Resolver, dial: dialSocket(o.Bind, mark), start: time.Now(), ends: netio.NewParker(),
		slots: map[string]*slot{}, services: map[string]*service{},
	}
	m.ctx, m.cancel = context.WithCancelCause(context.Background())
	if m.log == nil {
		m.log = slog.Default()
	}
	if m.rnd == nil {
		m.rnd = rand.Uint64
	}
	if m.resolver == nil {
		m.resolver = dns.With(o.DNS, netio.MarkedDialer(mark).DialContext)
	}
	if o.Stats != nil {
		m.scope = o.Stats.Scope("cluster")
		o.Stats.Scope("cluster_manager").Bind(&m.stats)
		o.Stats.AddSource(m.endpointStats)
	}
	return m
}

func (m *Manager) now() time.Duration { return time.Since(m.start) }
func (m *Manager) connID() uint64     { return m.lastID.Add(1) }

// Cluster implements Source. It takes no lock.
func (m *Manager) Cluster(name string) *Cluster {
	c, ok := m.ready.Load(name)
	if !ok {
		return nil
	}
	return c.(*Cluster)
}

// Ready reports whether the cluster exists and is usable.
func (m *Manager) Ready(name string) bool { return m.Cluster(name) != nil }

// All returns the clusters that can be used, and those that wait for their hosts: new
// ones, and new versions of the others. Both are sorted by name.
func (m *Manager) All() (active, warming []*Cluster) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.slots {
		switch {
		case s.active == nil:
		case s.unchecked:
			warming = append(warming, s.active)
		default:
			active = append(active, s.active)
		}
		if s.warming != nil {
			warming = append(warming, s.warming)
		}
	}
	byName := func(a, b *Cluster) int {
		switch {
		case a.name < b.name:
			return -1
		case a.name > b.name:
			return 1
		}
		return 0
	}
	slices.SortFunc(active, byName)
	slices.SortFunc(warming, byName)
	return active, warming
}

// IsWarming reports whether the newest version of a cluster waits for its hosts.
func (m *Manager) IsWarming(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.slots[name]
	return s != nil && (s.warming != nil || s.unchecked)
}

// Warming returns how many clusters, or new versions of clusters, wait for their hosts.
func (m *Manager) Warming() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.warming + m.checking
}

// Names returns the names of all clusters, warming ones included, sorted.
func (m *Manager) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, 0, len(m.slots))
	for n := range m.slots {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Assignment returns the assignment of a service, nil if none has come (admin).
func (m *Manager) Assignment(service string) *Assignment {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.services[service]; s != nil && s.assignment != nil {
		return m.melted(s.assignment)
	}
	return nil
}

// Set adds a cluster, or replaces it if its Hash is another one. The new version is
// used once it knows its hosts; until then the old one is. The spec is moved to the
// manager. An error leaves everything as it was.
func (m *Manager) Set(spec *Spec) error {
	if err := spec.check(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.unlock()
	if m.closed {
		return ErrClosed
	}
	s := m.slots[spec.Name]
	switch {
	case s == nil:
		s = &slot{name: spec.Name}
		m.slots[spec.Name] = s
		m.stats.Added.Inc()
	case spec.Hash == s.newest().hash:
		return nil
	default:
		m.stats.Modified.Inc()
	}
	c, before := newCluster(m, s, spec), s.warming
	s.warming = c
	if s.core != nil {
		s.core.stats.WarmingState.Set(1)
	}
	if before == nil {
		m.warming++
	}
	m.begin(c)
	if before != nil {
		m.end(before)
	}
	m.count()
	return nil
}

func (s *slot) newest() *Cluster {
	if s.warming != nil {
		return s.warming
	}
	return s.active
}

// check refuses what nothing here could work with.
func (s *Spec) check() error {
	if s.Name == "" {
		return errors.New("name: a cluster needs one")
	}
	if s.ConnectTimeout <= 0 {
		return fmt.Errorf("cluster %q: connect_timeout: must be more than 0", s.Name)
	}
	if s.Assignment == nil {
		return nil
	}
	if s.Type == LogicalDNS && (len(s.Assignment.Localities) != 1 || len(s.Assignment.Localities[0].Hosts) != 1) {
		return fmt.Errorf("cluster %q: load_assignment: LOGICAL_DNS needs exactly one locality with one endpoint", s.Name)
	}
	if err := s.Assignment.check(); err != nil {
		return fmt.Errorf("cluster %q: load_assignment.%w", s.Name, err)
	}
	return nil
}

// maxPriority is that of LocalityLbEndpoints.
const maxPriority = 128

func (a *Assignment) check() error {
	var localities [maxPriority + 1]uint64
	for i := range a.Localities {
		l := &a.Localities[i]
		if l.Priority > maxPriority {
			return fmt.Errorf("endpoints[%d].priority: %d is more than %d", i, l.Priority, maxPriority)
		}
		hosts := uint64(0)
		for j := range l.Hosts {
			hosts += uint64(l.Hosts[j].Weight)
		}
		localities[l.Priority] += uint64(l.Weight)
		if hosts > math.MaxUint32 || localities[l.Priority] > math.MaxUint32 {
			return fmt.Errorf("endpoints[%d]: the sum of load_balancing_weight is more than %d", i, uint32(math.MaxUint32))
		}
	}
	return nil
}

// Remove removes a cluster. Its idle connections are closed; who uses it finishes.
func (m *Manager) Remove(name string) {
	m.mu.Lock()
	defer m.unlock()
	if s := m.slots[name]; s != nil {
		m.remove(s)
	}
}

// removeVersion removes a cluster unless its newest version has another hash.
func (m *Manager) removeVersion(name string, hash uint64) {
	m.mu.Lock()
	defer m.unlock()
	if s := m.slots[name]; s != nil && s.newest().hash == hash {
		m.remove(s)
	}
}

func (m *Manager) remove(s *slot) {
	name := s.name
	delete(m.slots, name)
	m.ready.Delete(name)
	if s.active != nil {
		m.active--
		m.end(s.active)
	}
	if s.warming != nil {
		m.warming--
		m.end(s.warming)
	}
	if s.unchecked {
		m.checking--
	}
	if s.group != nil {
		s.group.drain()
	}
	if s.core != nil {
		s.core.stopOutliers(m)
		s.core.stopChecks(m)
		s.core.watches.mu.Lock()
		s.core.watches.gone = true
		s.core.watches.mu.Unlock()
		m.changed = append(m.changed, s.core)
		if s.core.scope != nil {
			s.core.scope.Close()
		}
	}
	m.stats.Removed.Inc()
	m.count()
}

// SetAssignment sets the hosts of the EDS clusters of a service. The assignment is
// moved to the manager, which keeps it when clusters are replaced.
func (m *Manager) SetAssignment(a *Assignment) error {
	if err := a.check(); err != nil {
		return fmt.Errorf("assignment %q: %w", a.Cluster, err)
	}
	m.mu.Lock()
	defer m.unlock()
	if m.closed {
		return ErrClosed
	}
	s := m.service(a.Cluster)
	same := s.assignment != nil && s.assignment.Hash == a.Hash && a.Hash != 0
	if !same {
		s.assignment = a
	}
	m.expect(s, a)
	for _, c := range slices.Clone(s.users) {
		m.updated(c, a, same)
	}
	s.freeze()
	return nil
}

// NoAssignment ends the wait of clusters for the first assignment of a service: none came
// in time, or what came was refused.
func (m *Manager) NoAssignment(service string, late bool) {
	m.mu.Lock()
	defer m.unlock()
	s := m.services[service]
	if s == nil || s.assignment != nil || m.closed {
		return
	}
	for _, c := range slices.Clone(s.users) {
		if c.slot.warming == c && c.assigned == nil {
			c.goOnWithout(late)
		}
	}
}

func (m *Manager) updated(c *Cluster, a *Assignment, same bool) {
	if r := c.run.Load(); r != nil {
		r.core.stats.UpdateSuccess.Inc()
		switch {
		case len(a.Localities) == 0:
			r.core.stats.UpdateEmpty.Inc()
		case same:
			r.core.stats.UpdateNoRebuild.Inc()
		}
	}
	if !same || c.slot.warming == c {
		m.assign(c, a)
	}
}

func (m *Manager) service(name string) *service {
	s := m.services[name]
	if s == nil {
		s = &service{}
		m.services[name] = s
	}
	return s
}

// Close closes all connections that are idle and ends dials and lookups. Connections
// in use are closed when they are given back.
func (m *Manager) Close() {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.closed = true
	m.cancel(ErrClosed)
	var groups []*group
	for name, s := range m.slots {
		m.ready.Delete(name)
		for _, c := range []*Cluster{s.active, s.warming} {
			if c != nil {
				m.end(c)
			}
		}
		if s.group != nil {
			groups = append(groups, s.group)
		}
		if s.core != nil {
			s.core.stopChecks(m)
		}
	}
	m.mu.Unlock()
	m.work.wait()
	for _, g := range groups {
		g.drain()
		g.fail(ErrClosed)
	}
	m.agenda.close()
	m.watch.close()
	m.ends.Close()
}

// unlock releases the lock and makes the calls that had to wait for that.
func (m *Manager) unlock() {
	names, idled, changed := m.called, m.idled, m.changed
	m.called, m.idled, m.changed = nil, nil, nil
	m.mu.Unlock()
	for _, co := range changed {
		co.tell()
	}
	if ready := m.options.Ready; ready != nil {
		for _, n := range names {
			ready(n)
		}
	}
	if idle := m.options.Idle; idle != nil {
		for _, n := range idled {
			idle(n)
		}
	}
}
