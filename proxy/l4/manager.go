package l4

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Options is what a Manager is made with.
type Options struct {
	// Env is what network and listener filters are built with; Name, Prefix and Retire
	// are set for each. Stats and Log must be set.
	Env filter.Env
	// DrainTime is how long connections of what was removed may go on (--drain-time-s).
	DrainTime time.Duration
	// Gradual lets a growing share of what connections send be the last that they send,
	// over DrainTime (--drain-strategy gradual), instead of telling all of them at once.
	Gradual bool
	// MaxConnections limits all listeners together (the resource monitor
	// global_downstream_max_connections); 0 leaves it to the runtime key
	// overload.global_downstream_max_connections, which may say nothing either.
	MaxConnections int64
	// Parked, if not nil, is called whenever an idle connection was parked, on the
	// goroutine that has served it.
	Parked func()
	// NoSockets builds listeners without binding them, to find out whether they work.
	NoSockets bool
}

// Manager owns the listeners of a process.
type Manager struct {
	o        Options
	parker   *netio.Parker
	stats    managerStats
	scope    *stats.Scope
	nextID   atomic.Uint64
	active   atomic.Int64
	limit    runtime.UintValue // of the runtime, 0 where it has none
	routing  atomic.Pointer[routing]
	internal atomic.Pointer[map[string]*Listener] // internal listeners, by name
	wg       sync.WaitGroup                       // accept loops and connections
	closing  atomic.Bool
	gate     sync.Mutex    // held while closing is set, and while a connection comes from inside
	done     chan struct{} // closed by Close

	mu        sync.Mutex
	listeners map[string]*Listener
	udp       map[string]*UDPListener
	leaving   map[*Listener]struct{} // removed, with connections
	warming   map[string]*Prepared   // not in use yet
	started   bool
	unhealthy bool                // see SetHealthy
	failed    map[string]error    // the last Set of these names failed
	retired   map[*chain]struct{} // chains of no version in use, with connections
}

// NewManager returns a manager without listeners. They accept from Start on.
func NewManager(o Options) *Manager {
	m := &Manager{
		o: o, parker: netio.NewParker(), scope: o.Env.Stats.Scope("listener_manager"),
		listeners: map[string]*Listener{}, udp: map[string]*UDPListener{}, leaving: map[*Listener]struct{}{}, warming: map[string]*Prepared{},
		failed: map[string]error{}, retired: map[*chain]struct{}{}, done: make(chan struct{}),
	}
	m.scope.Bind(&m.stats)
	m.limit = runtime.UintSetting{Key: "overload.global_downstream_max_connections"}.On(o.Env.Runtime)
	m.routing.Store(&routing{})
	return m
}

// Start makes all listeners accept, those to come included.
func (m *Manager) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started || m.closing.Load() {
		return
	}
	m.started = true
	m.stats.Started.Set(1)
	for _, l := range m.listeners {
		if err := listen(l.socks); err != nil { // somebody else was faster
			l.socks = nil
			_ = m.fail(l.name, err)
			m.o.Env.Log.Error("listener cannot be used", "name", l.name, "error", err)
			continue
		}
		m.accept(l.socks)
	}
	for _, l := range m.udp {
		m.receive(l.socks)
	}
}

func (m *Manager) accept(as []*acceptor) {
	for _, a := range as {
		m.wg.Go(a.loop)
	}
}

// Ready reports whether Start was called and every listener of the last Sets is in use.
func (m *Manager) Ready() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.started && len(m.failed) == 0
}

// Set adds a listener or replaces the one of its name. On an error, which names the
// listener and the field, the one in use goes on unchanged. A listener is replaced
// without touching its sockets as far as its addresses and socket options stay;
// connections of chains with the same hash are not touched, those of other chains
// are told to drain and cut after the drain time only if the new version has no
// chain for them.
func (m *Manager) Set(spec *Spec) error {
	p, err := m.Prepare(spec)
	if err != nil {
		return err
	}
	return m.Use(p)
}

// dropScope gives back the statistics of a listener that has come to nothing.
func (l *Listener) dropScope(old *Listener) {
	if old == nil {
		l.closeScope()
	}
}

func (l *Listener) closeScope() {
	l.scope.Close()
	l.unbind()
}

// reroute makes the table of original destinations anew.
func (m *Manager) reroute() {
	r := &routing{exact: map[netip.AddrPort]*Listener{}}
	names := slices.Sorted(maps.Keys(m.listeners))
	for _, compat := range []bool{false, true} {
		for _, n := range names {
			r.add(m.listeners[n], compat)
		}
	}
	m.routing.Store(r)
	internal := map[string]*Listener{}
	for name, l := range m.listeners {
		if l.Spec().Internal {
			internal[name] = l
		}
	}
	m.internal.Store(&internal)
}

func addressPath(i int) string {
	if i == 0 {
		return "address"
	}
	return fmt.Sprintf("additional_addresses[%d]", i-1)
}

func (s *Spec) statPrefix() string {
	if s.Internal && s.StatPrefix == "" {
		return "envoy_internal_" + s.Name
	}
	if s.StatPrefix != "" {
		return strings.ReplaceAll(s.StatPrefix, ":", "_")
	}
	return statName(s.Addresses[0].Addr)
}

// Listeners returns the listeners in use, by name.
func (m *Manager) Listeners() []*Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Listener, 0, len(m.listeners))
	for _, n := range slices.Sorted(maps.Keys(m.listeners)) {
		out = append(out, m.listeners[n])
	}
	return out
}

// Failed returns why the last Set of each listener failed that is not in use in its
// last version, by name.
func (m *Manager) Failed() map[string]error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.failed)
}

// Name returns the listener's name.
func (l *Listener) Name() string { return l.name }
