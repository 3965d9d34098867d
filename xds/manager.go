// Package xds brings configuration to the engine: it subscribes to resources, turns
// them into specs (xds/translate), hands those to the engine in the order in which they
// depend on each other, and remembers what is in effect.
//
// The protocol is in xds/ads, files are in xds/source, the bootstrap in xds/bootstrap.
package xds

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/translate"
)

// Engine is what resources configure. proxy/server implements it. Errors refuse the
// resource and leave the version before in place.
type Engine interface {
	SetCluster(spec *cluster.Spec) error
	RemoveCluster(name string)
	SetAssignment(a *cluster.Assignment) error
	// NoAssignment tells that the first endpoints of a service were refused, or, late, did
	// not come in time: who waits for them goes on without.
	NoAssignment(service string, late bool)
	// SetListener adds or replaces a listener. It takes connections once what it needs
	// has arrived.
	SetListener(spec *l4.Spec, needs server.Needs) error
	RemoveListener(name string)
	// OnListenerError is told of a listener that was taken and could not be put in use once
	// its route tables had come. It is called once, before any listener is set; f is
	// called on a goroutine of its own, and until it returns the listener counts as one that
	// warms.
	OnListenerError(f func(spec *l4.Spec, err error))
	// SetRoutes gives the route table of an RDS name; nil tells that none will come.
	SetRoutes(name string, table filter.RouteTable)
	// SetScopes gives all routing scopes of a key of filter.Parser.SRDS; nil tells that
	// none will come.
	SetScopes(key string, list []route.Scope) error
	// OnDemand tells who is asked for what requests wait for. It is called once, before
	// any listener is set.
	OnDemand(a server.Asker)
	// Arrived ends the wait for something, which is there now or is known not to be.
	Arrived(w filter.Wanted, found bool)
	// SetExtension gives a configuration that came over ECDS; nil tells that there is none,
	// and wait that one is to be waited for.
	SetExtension(key filter.ExtensionKey, factory any, wait bool) error
	// SecretArrived ends the wait for a secret, which has come or will not. Clusters and
	// listeners name those that they wait for in Spec.Awaits and Needs.Secrets.
	SecretArrived(key server.SecretKey)
	// ClusterWarming and ListenerWarming report whether the newest version is not in use yet.
	ClusterWarming(name string) bool
	ListenerWarming(name string) bool
	// WhenWarm calls f once, when no cluster waits for its hosts any more.
	WhenWarm(f func())
	// WhenListening calls f once, when no listener waits for its route tables any more.
	WhenListening(f func())
}

// Subscriber asks for resources. *ads.Client implements it.
type Subscriber interface {
	Subscribe(typeURL string, fetchTimeout time.Duration, names ...string)
	Unsubscribe(typeURL string, names ...string)
}

// Manager is the handler of all sources of resources. It is safe for concurrent use.
type Manager struct {
	engine   Engine
	registry *filter.Registry
	runtime  *runtime.Runtime
	stats    *stats.Store
	applied  func(bytes int)
	log      *slog.Logger
	sources  Sources

	mu        sync.Mutex
	ads       Subscriber      // for what refers to ADS, nil without
	streams   streams         // to what refers to sources of its own
	known     map[string]bool // clusters that the engine has
	clusters  map[string]ref  // cluster to its EDS service, those without EDS left out
	before    before
	services  *references     // EDS services, used by clusters
	listeners map[string]uses // listener to what it uses
	routes    *references     // RDS names, used by listeners
	values    *references     // RTDS layers, used by the runtime
	configs   *references     // ECDS names, used by listeners
	scopes    *references     // sources of scopes, used by keys of scoped
	scoped    map[string]*scopedRoutes
	vhosts    *references // route tables with vhds, used by themselves
	hosts     map[string]*hosts
	onDemand  map[string]filter.Wanted // clusters that requests have asked for
	adsDelta  bool
	scopeSets map[ref]*scopeSet
	discovers map[filter.ExtensionKey]filter.Extension
	secrets   *references // used by clusters and listeners
	// secretTable are the secrets that are subscribed, secretsOf those of each user,
	// staticSecrets those of the bootstrap by name.
	secretTable   map[ref]*namedSecret
	secretsOf     map[string][]*namedSecret
	staticSecrets map[string]*namedSecret
	secretNumber  uint64
	secretDirs    func() // tells watchSecrets that other files are to be watched

	asked   bool     // Start was called
	begun   bool     // listeners were asked for
	running bool     // Run was called
	later   []func() // to be started by Run
	inUse   Inventory

	runtimeMissing map[string]bool // RTDS layers that have not come
	afterRuntime   func()          // called when there are none any more

	unknown  unknownFields
	lastGood lastGood
	heard    atomic.Bool // the control plane has answered

	took struct{ clusters, listeners *stats.Histogram } // how long updates take; not nil

	answered atomic.Bool // listeners came and are used, or the wait for them is over
	complete sync.Once   // sets answered
	started  func()      // Options.Started
}

// Sources says where each type comes from; nil is nowhere.
type Sources struct {
	Clusters, Listeners *Source
}

// Source is one source of a type, with initial_fetch_timeout.
type Source struct {
	Subscriber
	Timeout time.Duration
}

// Options are what a manager is made with. Runtime and Started may be nil.
type Options struct {
	Engine   Engine
	Registry *filter.Registry
	Log      *slog.Logger
	Runtime  *runtime.Runtime
	Stats    *stats.Store // nil: subscriptions are not counted one by one
	// Applied, if not nil, is called after an update with how many bytes were read for
	// it: most of that is garbage now.
	Applied func(bytes int)
	// Unknown is for fields that no schema here knows.
	Unknown UnknownFields
	// LastGood keeps the last accepted configuration on disk.
	LastGood LastGood
	// Started is called once, when the first configuration is complete: now listeners may
	// accept connections.
	Started func()
}

// NewManager returns a manager that has not asked for anything yet.
func NewManager(o Options) *Manager {
	m := &Manager{
		engine: o.Engine, registry: o.Registry, log: o.Log, runtime: o.Runtime, stats: o.Stats, applied: o.Applied,
		started: o.Started, known: map[string]bool{},
		clusters: map[string]ref{}, services: newReferences(ads.EndpointType),
		before:    before{map[string]ref{}, map[string]uses{}, map[string][]*namedSecret{}},
		listeners: map[string]uses{}, routes: newReferences(ads.RouteType),
		values: newReferences(ads.RuntimeType), configs: newReferences(ads.ExtensionConfigType),
		scopes: newReferences(ads.ScopedRouteType), scoped: map[string]*scopedRoutes{}, scopeSets: map[ref]*scopeSet{},
		vhosts: newReferences(ads.VirtualHostType), hosts: map[string]*hosts{}, onDemand: map[string]filter.Wanted{},
		secrets: newReferences(ads.SecretType), secretTable: map[ref]*namedSecret{},
		secretsOf: map[string][]*namedSecret{}, staticSecrets: map[string]*namedSecret{},
		discovers: map[filter.ExtensionKey]filter.Extension{}, runtimeMissing: map[string]bool{},
		inUse: Inventory{types: map[string]map[string]*Record{}},
	}
	m.streams.log = o.Log
	m.streams.handler = func(typeURL, api string) ads.Handler {
		return m.handlerFor(typeURL, ref{name: ads.Wildcard, api: api})
	}
	m.lastGood.LastGood = o.LastGood
	if m.unknown.policy = o.Unknown; o.Stats != nil {
		o.Stats.Scope("server").Bind(&m.unknown.counter)
	}
	if o.LastGood.Dir != "" && o.Stats != nil {
		o.Stats.Scope("last_known_good").Bind(&m.lastGood.counters)
		o.Stats.BeforeRead(m.showAge)
	}
	m.took.clusters, m.took.listeners = new(stats.Histogram), new(stats.Histogram)
	if o.Engine == nil { // whoever looks at runtime layers only
		return m
	}
	o.Engine.OnDemand(m)
	o.Engine.OnListenerError(m.listenerFailed)
	return m
}

// references are those of all types. The lock is held.
func (m *Manager) references() []*references {
	return []*references{m.services, m.routes, m.values, m.configs, m.scopes, m.vhosts, m.secrets}
}

// Start asks for clusters, and for listeners once the clusters are there; without a
// source of clusters for listeners at once.
func (m *Manager) Start(s Sources) {
	m.mu.Lock()
	m.sources, m.asked = s, true
	m.mu.Unlock()
	if s.Clusters != nil {
		s.Clusters.Subscribe(ads.ClusterType, s.Clusters.Timeout)
		return
	}
	m.begin()
}

// begin asks for listeners when the clusters that came first are warm: listeners that
// send to clusters which are not there yet would answer 503.
func (m *Manager) begin() {
	m.mu.Lock()
	begun, s := m.begun, m.sources.Listeners
	m.begun = begun || m.asked // before, it is a cluster that came on demand
	begin := m.begun && !begun
	m.mu.Unlock()
	if !begin {
		return
	}
	m.engine.WhenWarm(func() {
		if s != nil {
			s.Subscribe(ads.ListenerType, s.Timeout)
			return
		}
		m.finish() // those of the bootstrap are all there are
	})
}

// Apply implements ads.Handler.
func (m *Manager) Apply(u ads.Update) []ads.Refusal { return m.applyFrom(u, scopesOverADS()) }

// applyFrom is Apply; of scopes it matters where they come from.
func (m *Manager) applyFrom(u ads.Update, source ref) []ads.Refusal {
	refused := m.apply(u, source)
	if u.TypeURL != ads.SecretType || source == scopesOverADS() { // an agent beside the proxy is no control plane
		m.heard.Store(true)
	}
	if m.applied != nil {
		m.applied(u.Bytes)
	}
	for _, r := range refused {
		m.log.Warn("configuration refused", "type", ads.ShortType(u.TypeURL), "name", r.Name, "error", r.Err)
	}
	switch u.TypeURL {
	case ads.ClusterType:
		m.begin()
	case ads.ListenerType:
		m.finish()
	case ads.RuntimeType:
		for _, r := range u.Changed {
			m.runtimeReady(r.Name)
		}
	}
	return refused
}

// finish notes that the listeners of the first configuration have come, once their
// route tables have.
func (m *Manager) finish() {
	if !m.answered.Load() {
		m.engine.WhenListening(func() {
			m.complete.Do(func() {
				if m.started != nil {
					m.started()
				}
				m.answered.Store(true) // not before listeners accept
			})
		})
	}
}

// Initialized reports whether the first configuration is complete: listeners have
// come and take connections, or will not come.
func (m *Manager) Initialized() bool { return m.answered.Load() }

func (m *Manager) apply(u ads.Update, source ref) (refused []ads.Refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u.TypeURL == ads.SecretType {
		return m.applySecrets(&u, source)
	}
	set, remove := m.verbs(u.TypeURL)
	if remove == nil {
		return nil
	}
	start := time.Now()
	defer func() {
		took := time.Since(start)
		m.answer(u)
		m.keepLater()
		m.countUpdate(u, refused, took)
		switch u.TypeURL {
		case ads.ScopedRouteType:
			m.countScopes(&u, source, len(refused) > 0, took)
		case ads.ClusterType:
			m.took.clusters.Record(uint64(took.Milliseconds()))
		case ads.ListenerType:
			m.took.listeners.Record(uint64(took.Milliseconds()))
		}
	}()
	if u.TypeURL == ads.ScopedRouteType {
		refused = m.applyScopes(&u, source)
		m.settle()
		return refused
	}
	for i := range u.Changed {
		r := &u.Changed[i]
		if !m.wanted(u.TypeURL, r.Name) {
			continue
		}
		err := m.unknown.check(r.Body, func(kind string) { m.log.Warn("Unknown field: "+kind, "name", r.Name) })
		was, wasWarming := m.inUse.get(u.TypeURL, r.Name), m.warming(u.TypeURL, r.Name)
		if err == nil {
			err = set(r.Name, r.Body.GetValue())
		}
		if err == nil {
			m.inUse.keepBefore(u.TypeURL, was, wasWarming, m.warming(u.TypeURL, r.Name))
		}
		m.inUse.note(u.TypeURL, r, err)
		if err != nil {
			refused = append(refused, ads.Refusal{Name: r.Name, Err: err})
			if was.Body == nil {
				m.waitOver(u.TypeURL, r.Name, false)
			}
		}
	}
	if u.TypeURL == ads.VirtualHostType {
		m.hostsAnswered(&u, refused)
	}
	for _, name := range u.Removed {
		remove(name)
		if !m.stays(u.TypeURL, name) {
			m.inUse.forget(u.TypeURL, name)
		}
	}
	m.settle()
	return refused
}

// stays reports whether a resource goes on being in effect although the control plane has none of that
// name any more: endpoints and route tables go with who refers to them.
func (m *Manager) stays(typeURL, name string) bool {
	r := m.inUse.types[typeURL][name]
	if r == nil || r.Body == nil || typeURL != ads.EndpointType && typeURL != ads.RouteType {
		return false
	}
	r.Stale = false // the control plane has spoken of it
	return true
}

// verbs are what to do with a resource of a type.
func (m *Manager) verbs(typeURL string) (set func(name string, raw []byte) error, remove func(name string)) {
	switch typeURL {
	case ads.ClusterType:
		return m.setCluster, m.removeCluster
	case ads.EndpointType:
		return m.setEndpoints, func(string) {} // endpoints go with their cluster
	case ads.ListenerType:
		return m.setListener, m.removeListener
	case ads.ExtensionConfigType:
		return m.setExtension, m.removeExtension
	case ads.RuntimeType:
		return m.setRuntime, m.removeRuntime
	case ads.ScopedRouteType: // they are set all at once
		return nil, func(name string) {
			m.applyScopes(&ads.Update{TypeURL: typeURL, Removed: []string{name}}, scopesOverADS())
		}
	case ads.VirtualHostType:
		return m.setHost, m.removeHost
	case ads.RouteType:
		return m.setRoutes, func(string) {} // route tables go with their listener
	}
	return nil, nil
}

// FetchTimedOut implements ads.Handler.
func (m *Manager) FetchTimedOut(typeURL, name string) {
	m.log.Warn("initial_fetch_timeout", "type", ads.ShortType(typeURL), "name", name)
	m.mu.Lock()
	if typeURL != ads.SecretType {
		m.watches(typeURL, name, (*watch).timedOut)
	}
	m.waitOver(typeURL, name, true)
	m.settle()
	m.mu.Unlock()
	switch typeURL {
	case ads.ClusterType:
		m.begin()
	case ads.ListenerType:
		m.finish()
	case ads.RuntimeType:
		m.runtimeReady(name)
	case ads.ScopedRouteType:
		m.scopesTimedOut(scopesOverADS())
	case ads.SecretType:
		m.secretTimedOut(scopesOverADS(), name)
	}
}

// waitOver lets go on without something who waits for it: it is late, or its first version
// was refused, which is an answer, so no timer runs any more. The lock is held.
func (m *Manager) waitOver(typeURL, name string, late bool) {
	switch typeURL {
	case ads.ExtensionConfigType:
		m.extensionMissing(name)
	case ads.RouteType:
		m.engine.SetRoutes(name, nil)
	case ads.EndpointType:
		m.engine.NoAssignment(name, late)
	case ads.ClusterType:
		if w, asked := m.onDemand[name]; asked {
			m.engine.Arrived(w, false)
		}
	}
}

func (m *Manager) setCluster(name string, raw []byte) error {
	named := m.askedBy(name)
	spec, warnings, err := translate.Cluster(raw, finder(named.ask), m.registry)
	if err != nil {
		named.giveBack()
		return err
	}
	m.warn("cluster", name, warnings)
	oneString(name, &spec.Name, &spec.StatName, &spec.ServiceName)
	found := named.found()
	spec.Thaw = func() (*cluster.Spec, error) { // raw is kept anyway, for config_dump
		s, _, err := translate.Cluster(raw, again(found), m.registry)
		return s, err
	}
	for _, key := range named.missing() {
		spec.Awaits = append(spec.Awaits, key.Number)
	}
	spec.OnDemand = m.fleeting(name)
	service, timeout := ref{}, spec.InitialFetchTimeout // spec is the engine's from here on
	if spec.Type == cluster.EDS {
		service = ref{name: spec.ServiceName, path: spec.EDS, watched: spec.EDSWatched, api: spec.EDSAPI}
		if err := m.streams.check(ads.EndpointType, service.api); err != nil {
			named.giveBack()
			return filter.At("eds_cluster_config.eds_config", err)
		}
	}
	active := m.serviceInEffect(name)
	if err := m.engine.SetCluster(spec); err != nil {
		named.giveBack()
		return err
	}
	m.known[name] = true
	named.keep()
	m.useService(name, active, service, timeout)
	return nil
}

func (m *Manager) removeCluster(name string) {
	m.engine.RemoveCluster(name)
	delete(m.known, name)
	m.dropCluster(name)
	m.keepSecrets(name, nil, nil)
	m.useService(name, ref{}, ref{}, 0)
}

// oneString lets the same name be the same bytes, of which there are many.
func oneString(name string, same ...*string) {
	for _, s := range same {
		if *s == name {
			*s = name
		}
	}
}

func (m *Manager) setEndpoints(name string, raw []byte) error {
	a, err := translate.Assignment(raw)
	if err != nil {
		return err
	}
	oneString(name, &a.Cluster)
	return m.engine.SetAssignment(a)
}

func (m *Manager) setRoutes(name string, raw []byte) error {
	p := m.parser()
	if fromproto.HasVHDS(raw) {
		table, err := fromproto.RoutesOnDemand(raw, p)
		if err == nil {
			err = m.checkClusters(p)
		}
		if err != nil {
			return err
		}
		m.warn("route configuration", name, p.Warnings)
		return m.setHosts(name, table)
	}
	table, err := fromproto.Routes(raw, p)
	if err == nil {
		err = m.checkClusters(p)
	}
	if err != nil {
		return err
	}
	m.warn("route configuration", name, p.Warnings)
	m.dropHosts(name) // it had some before
	m.engine.SetRoutes(name, table)
	return nil
}

func (m *Manager) parser() *filter.Parser {
	return &filter.Parser{
		Registry: m.registry, Routes: fromproto.InlineRoutes, Runtime: m.runtime, Stats: m.stats, HasCluster: m.hasCluster,
	}
}

// hasCluster is asked while a resource is applied.
func (m *Manager) hasCluster(name string) bool {
	return m.known[name]
}

func (m *Manager) warn(kind, name string, warnings []string) {
	for _, w := range warnings {
		m.log.Debug("configuration without effect", "resource", kind, "name", name, "detail", w)
	}
}

// Static applies a resource of the bootstrap. Its error refuses the whole bootstrap.
func (m *Manager) Static(r ads.Resource) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	set, _ := m.verbs(r.Body.GetTypeUrl())
	err := set(r.Name, r.Body.GetValue())
	m.inUse.note(r.Body.GetTypeUrl(), &r, err)
	if rec := m.inUse.types[r.Body.GetTypeUrl()][r.Name]; rec != nil {
		rec.Static = true
	}
	return err
}

// IsStatic reports whether a cluster comes from the bootstrap.
func (m *Manager) IsStatic(clusterName string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.inUse.types[ads.ClusterType][clusterName]
	return r != nil && r.Static
}
