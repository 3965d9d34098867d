package l4

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// UDP is what a listener has that takes datagrams in place of connections.
type UDP struct {
	Filters []UDPFilter
	// MaxDatagram is how long datagrams may be; longer ones are dropped.
	MaxDatagram int
}

// UDPFilter is one filter of a UDP listener.
type UDPFilter struct {
	Name    string
	Factory filter.UDPFactory
	Hash    uint64 // of the serialised configuration: equal means unchanged
}

// udpStats is listener.<address>.udp.*.
type udpStats struct {
	Dropped stats.Counter `stat:"downstream_rx_datagram_dropped" help:"datagrams that were too long, or for which the kernel had no room"`
	Errors  stats.Counter `stat:"mecha_downstream_rx_errors" help:"errors of receiving datagrams"`
	Panics  stats.Counter `stat:"mecha_datagram_panics" help:"batches of datagrams lost because a filter panicked"`
}

// UDPListener is a running UDP listener. Each of its sockets has a goroutine.
type UDPListener struct {
	m     *Manager
	name  string
	cfg   atomic.Pointer[udpConfig]
	scope *stats.Scope
	stats udpStats
	pool  atomic.Pointer[netio.UDPPool]
	socks []*udpSocket // guarded by m.mu
}

// udpConfig is one version of a UDP listener.
type udpConfig struct {
	spec    *Spec
	filters []*udpFilter
}

// udpFilter is a filter with what is to be done when nobody uses it any more: the
// versions that have it, and the sockets that have not gone on to another one.
type udpFilter struct {
	filter.UDP
	hash   uint64
	users  atomic.Int64
	retire []func()
}

// hold makes the caller a user. It fails when the last one has gone.
func (f *udpFilter) hold() bool {
	for n := f.users.Load(); n > 0; n = f.users.Load() {
		if f.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

func (f *udpFilter) release() {
	if f.users.Add(-1) == 0 {
		for _, r := range slices.Backward(f.retire) {
			r()
		}
	}
}

// hold is for each filter of cfg, release for the same ones later. It fails, and holds
// nothing, when the version has been given up.
func (cfg *udpConfig) hold() bool {
	for i, f := range cfg.filters {
		if !f.hold() {
			for _, f := range cfg.filters[:i] {
				f.release()
			}
			return false
		}
	}
	return true
}

func (cfg *udpConfig) release() {
	for _, f := range cfg.filters {
		f.release()
	}
}

// Name returns the listener's name.
func (l *UDPListener) Name() string { return l.name }

// Spec returns the configuration in use.
func (l *UDPListener) Spec() *Spec { return l.cfg.Load().spec }

// Bound returns the addresses of its sockets, each once.
func (l *UDPListener) Bound() []meta.Addr {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	var out []meta.Addr
	for _, a := range l.socks {
		if addr := a.sock.Addr(); !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// UDPListeners returns the UDP listeners in use, by name.
func (m *Manager) UDPListeners() []*UDPListener {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*UDPListener
	for _, l := range m.udp {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *UDPListener) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return out
}

var errSocketType = errors.New("a listener cannot change between TCP and UDP: remove it first, or give it another name")

// setUDP is Set for a UDP listener. The lock is held.
func (m *Manager) setUDP(spec *Spec) error {
	if m.listeners[spec.Name] != nil {
		return filter.At("address", errSocketType)
	}
	old := m.udp[spec.Name]
	if err := m.checkUDP(old, spec); err != nil {
		return err
	}
	l := old
	if l == nil {
		l = &UDPListener{m: m, name: spec.Name}
		l.scope = m.o.Env.Stats.Scope("listener").Tag("envoy_listener_address", spec.statPrefix())
		l.scope.Child("udp").Bind(&l.stats)
	}
	cfg, err := l.compile(spec)
	if err == nil {
		var fresh, kept []*udpSocket
		if fresh, kept, err = l.bind(spec); err == nil {
			m.swapUDP(l, cfg, fresh, kept)
			return nil
		}
		cfg.release()
	}
	if old == nil {
		l.scope.Close()
	}
	return err
}

// compile builds the filters that the version in use does not have already.
func (l *UDPListener) compile(spec *Spec) (*udpConfig, error) {
	before := l.cfg.Load()
	cfg := &udpConfig{spec: spec}
	for i, f := range spec.UDP.Filters {
		if before != nil && i < len(before.filters) && before.filters[i].hash == f.Hash && f.Hash != 0 {
			before.filters[i].users.Add(1)
			cfg.filters = append(cfg.filters, before.filters[i])
			continue
		}
		u := &udpFilter{hash: f.Hash}
		u.users.Add(1)
		env := l.m.o.Env
		env.Name, env.Parent = f.Name, l.scope
		env.Retire = func(f func()) { u.retire = append(u.retire, f) }
		made, err := f.Factory(env)
		u.UDP = made
		if err != nil {
			u.release()
			cfg.release()
			return nil, filter.AtIndex("listener_filters", i, err)
		}
		cfg.filters = append(cfg.filters, u)
	}
	return cfg, nil
}

func (m *Manager) swapUDP(l *UDPListener, cfg *udpConfig, fresh, kept []*udpSocket) {
	if p := l.pool.Load(); p == nil || l.Spec().UDP.MaxDatagram != cfg.spec.UDP.MaxDatagram {
		l.pool.Store(netio.NewUDPPool(cfg.spec.UDP.MaxDatagram))
	}
	before := l.cfg.Swap(cfg)
	gone := slices.DeleteFunc(slices.Clone(l.socks), func(a *udpSocket) bool { return slices.Contains(kept, a) })
	l.socks = append(slices.Clone(kept), fresh...)
	if before == nil {
		m.udp[l.name] = l
		m.stats.Added.Inc()
		m.stats.Active.Inc()
	} else {
		m.stats.Modified.Inc()
		if len(fresh)+len(gone) == 0 {
			m.stats.InPlace.Inc()
		}
		before.release()
		for _, a := range kept {
			a.wake() // to take over the new version, also if nothing comes
		}
	}
	if m.started {
		m.receive(fresh)
	}
	closeUDP(gone)
}

func (m *Manager) receive(socks []*udpSocket) {
	for _, a := range socks {
		m.wg.Go(a.loop)
	}
}

// checkUDP refuses what cannot work beside the other UDP listeners.
func (m *Manager) checkUDP(old *UDPListener, spec *Spec) error {
	if spec.Name == "" {
		return filter.At("name", errors.New("a listener needs a name"))
	}
	for i, a := range spec.Addresses {
		if !a.Addr.AddrPort.IsValid() {
			return filter.At(addressPath(i), errors.New("a UDP listener needs an IP address"))
		}
		if a.Addr.Port() == 0 {
			continue // the kernel chooses
		}
		for _, other := range m.udp {
			if other != old && slices.ContainsFunc(other.Spec().Addresses, func(b Address) bool { return b.Addr == a.Addr }) {
				return filter.At(addressPath(i), fmt.Errorf("listener %q has the address %s already", other.name, a.Addr))
			}
		}
	}
	return nil
}

// removeUDP ends a UDP listener with its sessions. The lock is held.
func (m *Manager) removeUDP(name string) bool {
	l := m.udp[name]
	if l == nil {
		return false
	}
	delete(m.udp, name)
	m.closeUDPSockets(l)
	m.stats.Removed.Inc()
	m.stats.Active.Dec()
	l.cfg.Load().release()
	l.scope.Close()
	return true
}

func (m *Manager) closeUDPSockets(l *UDPListener) {
	if len(l.socks) > 0 {
		m.stats.Stopped.Inc()
	}
	closeUDP(l.socks)
	l.socks = nil
}

// stopUDP closes the sockets of all UDP listeners, or of those with traffic direction
// INBOUND. The lock is held.
func (m *Manager) stopUDP(inbound bool) {
	for _, l := range m.udp {
		if !inbound || l.Spec().Direction == Inbound {
			m.closeUDPSockets(l)
		}
	}
}

// closeAllUDP is the end of the manager. The lock is not held; nothing runs any more.
func (m *Manager) closeAllUDP() {
	for _, l := range m.udp {
		l.cfg.Load().release()
		l.scope.Close()
	}
}

// udpSocket is one bound socket, and the goroutine that reads it.
type udpSocket struct {
	key  sockKey
	sock *netio.UDPSocket
	l    *UDPListener

	// Of the goroutine.
	cfg       *udpConfig
	receivers []filter.UDPReceiver
}

func closeUDP(socks []*udpSocket) {
	for _, a := range socks {
		_ = a.sock.Close() // what was sent has left
	}
}

// wake ends the wait of the goroutine.
func (a *udpSocket) wake() {
	_ = a.sock.SetReadDeadline(time.Unix(1, 0)) // of a closed socket nobody waits
}

// loop reads until the socket is closed.
func (a *udpSocket) loop() {
	defer a.end()
	var rd netio.UDPReader
	var pool *netio.UDPPool
	a.follow()
	for {
		if p := a.l.pool.Load(); p != pool {
			rd.Release()
			pool = p
			rd.Init(a.sock, pool)
		}
		batch, err := rd.Read()
		if n := rd.Lost(); n > 0 {
			a.l.stats.Dropped.Add(n)
		}
		if errors.Is(err, net.ErrClosed) {
			rd.Release()
			return
		}
		a.take(batch, err)
	}
}

// take is the end of a wait. What was sent after a version had been set is for that
// version, whatever it was that ended the wait, so the newest one is looked for here.
func (a *udpSocket) take(batch []netio.Datagram, err error) {
	woken := err != nil && netio.IsTimeout(err) // which allocates
	if woken {
		_ = a.sock.SetReadDeadline(time.Time{}) // fails where it was closed, as the next read will
	}
	a.follow()
	switch {
	case err == nil:
		a.handle(batch)
	case !woken: // about a datagram sent earlier
		a.l.stats.Errors.Inc()
	}
}

// handle shows datagrams to the filters.
func (a *udpSocket) handle(batch []netio.Datagram) {
	defer func() {
		if p := recover(); p != nil {
			a.l.stats.Panics.Inc()
			a.l.m.o.Env.Log.Error("a filter panicked; its datagrams are lost", "listener", a.l.name, "panic", p)
		}
	}()
	for _, r := range a.receivers {
		if batch = r.Receive(batch); len(batch) == 0 {
			return
		}
	}
}

// follow takes over the newest version of the listener.
func (a *udpSocket) follow() {
	cfg := a.l.cfg.Load()
	for cfg != a.cfg && !cfg.hold() {
		given := cfg
		if cfg = a.l.cfg.Load(); cfg == given {
			return // the listener has been removed
		}
	}
	if cfg == a.cfg {
		return
	}
	before, old := a.cfg, a.receivers
	a.cfg, a.receivers = cfg, nil
	for _, f := range cfg.filters {
		if before != nil {
			if i := slices.Index(before.filters, f); i >= 0 && old[i] != nil {
				a.receivers = append(a.receivers, old[i])
				old[i] = nil
				continue
			}
		}
		r := f.Open(filter.UDPSocket{UDPSocket: a.sock, Listener: a.l.name, NextID: func() uint64 { return a.l.m.nextID.Add(1) }})
		if heir, ok := r.(filter.UDPHeir); ok {
			for _, o := range old {
				if o != nil {
					heir.Inherit(o)
				}
			}
		}
		a.receivers = append(a.receivers, r)
	}
	for _, o := range old {
		if o != nil {
			o.Close()
		}
	}
	if before != nil {
		before.release()
	}
}

// end closes what the socket has begun.
func (a *udpSocket) end() {
	for _, r := range a.receivers {
		r.Close()
	}
	if a.cfg != nil {
		a.cfg.release()
	}
}
