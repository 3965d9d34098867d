package l4

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Prepared is a new listener, or a new version of one, that is built, has its addresses
// and is not in use yet: it may still wait for its routes. The sockets do not listen.
type Prepared struct {
	spec        *Spec
	l, old      *Listener // old is nil for a new listener, else l
	cfg         *config
	fresh, kept []*acceptor
	gone        bool  // used, or replaced by a newer version
	err         error // why it cannot be used although it is the newest
}

// Prepare does everything for a listener that can fail, so that whoever configures it
// hears of it at once. It replaces what was prepared under that name before. The
// version in use goes on; on an error that is all.
func (m *Manager) Prepare(spec *Spec) (*Prepared, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing.Load() {
		return nil, errors.New("l4: the listener manager is closed")
	}
	before := m.warming[spec.Name]
	m.discard(before) // also for its sockets
	old := m.listeners[spec.Name]
	if spec.UDP != nil || m.udp[spec.Name] != nil {
		p, err := m.prepareUDP(spec)
		if err != nil {
			m.renew(before, old)
		}
		return p, err
	}
	if old != nil && old.Spec().Hash == spec.Hash && spec.Hash != 0 {
		delete(m.failed, spec.Name) // what was in use before is wanted again
		return &Prepared{gone: true}, nil
	}
	p, err := m.prepare(old, spec)
	if err != nil {
		m.renew(before, old)
		return nil, m.fail(spec.Name, err)
	}
	m.keep(p)
	return p, nil
}

// keep notes a version that waits.
func (m *Manager) keep(p *Prepared) {
	m.warming[p.spec.Name] = p
	m.stats.Warming.Inc()
}

// renew prepares a version again that was discarded for one that is refused; p may be nil.
func (m *Manager) renew(p *Prepared, old *Listener) {
	if p == nil {
		return
	}
	again, err := m.prepare(old, p.spec)
	if err != nil { // somebody was quicker with its address
		p.err = m.fail(p.spec.Name, err)
		return
	}
	*p = *again
	m.keep(p)
}

// prepareUDP puts a UDP listener in use at once: it has no routes to wait for.
func (m *Manager) prepareUDP(spec *Spec) (*Prepared, error) {
	done := &Prepared{gone: true}
	switch old := m.udp[spec.Name]; {
	case spec.UDP == nil:
		return nil, m.fail(spec.Name, filter.At("address", errSocketType))
	case old != nil && old.Spec().Hash == spec.Hash && spec.Hash != 0:
		delete(m.failed, spec.Name)
		return done, nil
	}
	if err := m.setUDP(spec); err != nil {
		return nil, m.fail(spec.Name, err)
	}
	delete(m.failed, spec.Name)
	m.stats.CreateSuccess.Inc()
	return done, nil
}

// fail notes that a listener could not be made or changed.
func (m *Manager) fail(name string, err error) error {
	m.stats.CreateFailure.Inc()
	err = fmt.Errorf("listener %q: %w", name, err)
	m.failed[name] = err
	return err
}

func (m *Manager) prepare(old *Listener, spec *Spec) (*Prepared, error) {
	if err := m.check(old, spec); err != nil {
		return nil, err
	}
	p := &Prepared{spec: spec, l: old, old: old}
	if old == nil {
		p.l = m.newListener(spec)
	}
	var err error
	if p.cfg, err = p.l.compile(spec); err != nil {
		p.l.dropScope(old)
		return nil, err
	}
	if p.fresh, p.kept, err = p.l.bind(spec); err != nil {
		p.cfg.endExcept(p.l.cfg.Load())
		p.l.dropScope(old)
		return nil, err
	}
	return p, nil
}

func (m *Manager) newListener(spec *Spec) *Listener {
	l := &Listener{m: m, name: spec.Name}
	l.scope = m.o.Env.Stats.Scope("listener").Tag("envoy_listener_address", spec.statPrefix())
	l.stats, l.unbind = stats.Shared[listenerStats](m.o.Env.Stats, "listener", "envoy_listener_address", spec.statPrefix())
	l.limit = runtime.UintSetting{Key: "envoy.resource_limits.listener." + spec.Name + ".connection_limit"}.On(m.o.Env.Runtime)
	return l
}

// discard gives back what a version holds that will never be in use; p may be nil.
func (m *Manager) discard(p *Prepared) {
	if p == nil {
		return
	}
	m.warmed(p)
	closeAll(p.fresh)
	p.cfg.endExcept(p.l.cfg.Load())
	p.l.dropScope(p.old)
}

func (m *Manager) warmed(p *Prepared) {
	p.gone = true
	delete(m.warming, p.spec.Name)
	m.stats.Warming.Dec()
}

// Use puts in use what was prepared, unless something newer has taken its place.
func (m *Manager) Use(p *Prepared) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.gone || m.closing.Load() {
		return p.err
	}
	name := p.spec.Name
	if err := m.ready(p); err != nil {
		m.warmed(p)
		p.cfg.endExcept(p.l.cfg.Load())
		p.l.dropScope(p.old)
		return m.fail(name, err)
	}
	m.warmed(p)
	m.swap(p)
	delete(m.failed, name)
	m.stats.CreateSuccess.Inc()
	return nil
}

// ready makes the sockets of p listen, if listeners do.
func (m *Manager) ready(p *Prepared) error {
	if slices.ContainsFunc(p.kept, func(a *acceptor) bool { return !slices.Contains(p.l.socks, a) }) {
		closeAll(p.fresh) // a drain has closed sockets meanwhile
		var err error
		if p.fresh, p.kept, err = p.l.bind(p.spec); err != nil {
			return err
		}
	}
	if m.started {
		return listen(p.fresh)
	}
	return nil
}

// swap puts the new version in use.
func (m *Manager) swap(p *Prepared) {
	l := p.l
	before := l.cfg.Swap(p.cfg)
	gone := slices.DeleteFunc(slices.Clone(l.socks), func(a *acceptor) bool { return slices.Contains(p.kept, a) })
	l.socks = append(p.kept, p.fresh...)
	if p.old == nil {
		m.listeners[l.name] = l
		m.stats.Added.Inc()
		m.stats.Active.Inc()
	} else {
		m.stats.Modified.Inc()
		if len(p.fresh)+len(gone) == 0 {
			m.stats.InPlace.Inc()
		}
	}
	m.reroute()
	if m.started {
		m.accept(p.fresh)
	}
	closeAll(gone) // what was accepted goes on
	if before != nil {
		l.retire(before, p.cfg)
	}
}

// check refuses what cannot work beside the other listeners.
func (m *Manager) check(old *Listener, spec *Spec) error {
	if spec.Name == "" {
		return filter.At("name", errors.New("a listener needs a name"))
	}
	if spec.Multipath && !netio.HasMultipath() {
		return filter.At("enable_mptcp", errors.New("the kernel has no MPTCP"))
	}
	if len(spec.Addresses) == 0 {
		return filter.At("address", errors.New("a listener needs an address"))
	}
	for i, a := range spec.Addresses {
		if !a.Addr.Known() {
			return filter.At(addressPath(i), errors.New("no address"))
		}
		if a.Addr.AddrPort.IsValid() && a.Addr.Port() == 0 {
			continue // the kernel chooses
		}
		if other := m.owner(a.Addr, spec); other != "" {
			return filter.At(addressPath(i), fmt.Errorf("listener %q has the address %s already", other, a.Addr))
		}
	}
	return nil
}

// owner returns the name of another listener with that address, "" if there is none.
func (m *Manager) owner(a meta.Addr, spec *Spec) string {
	for name, l := range m.listeners {
		if name != spec.Name && l.Spec().Unbound == spec.Unbound && l.Spec().has(a) {
			return name
		}
	}
	for name, p := range m.warming {
		if name != spec.Name && p.spec.Unbound == spec.Unbound && p.spec.has(a) {
			return name
		}
	}
	return ""
}

func (s *Spec) has(a meta.Addr) bool {
	return slices.ContainsFunc(s.Addresses, func(b Address) bool { return b.Addr == a })
}
