package xds

import (
	"fmt"
	"slices"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/translate"
)

// uses is what a listener refers to.
type uses struct {
	spec            *l4.Spec // the version that does
	routes, configs []ref
	scopes          []string // keys
	extensions      []filter.ExtensionKey
}

// and returns what either of two refers to, once each.
func (u uses) and(v uses) uses {
	return uses{
		routes: union(u.routes, v.routes), configs: union(u.configs, v.configs),
		scopes: union(u.scopes, v.scopes), extensions: union(u.extensions, v.extensions),
	}
}

func union[T comparable](a, b []T) []T {
	out := slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func (m *Manager) setListener(name string, raw []byte) error {
	named := m.askedBy(listenerUser(name))
	err := m.putListener(name, raw, named)
	if err != nil {
		named.giveBack()
	}
	return err
}

func (m *Manager) putListener(name string, raw []byte, named *asked) error {
	p := named.parser()
	spec, err := translate.Listener(raw, p)
	if err != nil {
		return err
	}
	if err := m.checkClusters(p); err != nil {
		return err
	}
	m.warn("listener", name, p.Warnings)
	slices.Sort(p.RDS)
	needs := server.Needs{Routes: slices.Compact(p.RDS), Secrets: named.missing()}
	for _, n := range needs.Routes {
		if err := m.streams.check(ads.RouteType, p.RDSFrom[n].API); err != nil {
			return fmt.Errorf("route configuration %q: %w", n, err)
		}
	}
	for key, from := range p.SRDS {
		needs.Scopes = append(needs.Scopes, key)
		err := m.streams.check(ads.ScopedRouteType, from.Scopes.API)
		if err == nil {
			err = m.streams.check(ads.RouteType, from.Routes.API)
		}
		if err != nil {
			return fmt.Errorf("scoped routes %q: %w", from.Name, err)
		}
	}
	for _, x := range p.Extensions {
		if err := m.streams.check(ads.ExtensionConfigType, x.From.API); err != nil {
			return fmt.Errorf("extension configuration %q: %w", x.Name, err)
		}
		if x.NoWarming {
			needs.Later = append(needs.Later, x.ExtensionKey)
		} else {
			needs.Extensions = append(needs.Extensions, x.ExtensionKey)
		}
	}
	active := m.usesInEffect(name)
	if err := m.engine.SetListener(spec, needs); err != nil {
		return err
	}
	m.refer(name, active, spec, needs.Routes, p)
	named.keep()
	return nil
}

func (m *Manager) removeListener(name string) {
	held := m.uses(name)
	m.engine.RemoveListener(name)
	delete(m.listeners, name)
	delete(m.before.listeners, name)
	m.letGo(name, held)
	m.keepSecrets(listenerUser(name), nil, nil)
}

// refer keeps the subscriptions in step with what a listener refers to whose version before
// refers to active, which stays as long as that version is in use.
func (m *Manager) refer(listener string, active uses, spec *l4.Spec, routes []string, p *filter.Parser) {
	held, now := m.uses(listener), uses{spec: spec}
	for _, x := range p.Extensions {
		r := refTo(x.Name, x.From)
		now.extensions = append(now.extensions, x.ExtensionKey)
		m.discovers[x.ExtensionKey] = x
		if slices.Contains(now.configs, r) {
			continue
		}
		now.configs = append(now.configs, r)
		if !slices.Contains(held.configs, r) {
			m.use(m.configs, r, listener, x.From.Timeout, x.From.StatPrefix)
		}
	}
	for _, n := range routes {
		r := refTo(n, p.RDSFrom[n])
		now.routes = append(now.routes, r)
		if !slices.Contains(held.routes, r) {
			m.use(m.routes, r, listener, p.RDSFrom[n].Timeout, p.RDSFrom[n].StatPrefix)
		}
	}
	for key, from := range p.SRDS {
		now.scopes = append(now.scopes, key)
		if !slices.Contains(held.scopes, key) {
			m.useScopes(key, from, listener)
		}
	}
	m.listeners[listener] = now
	if m.engine.ListenerWarming(listener) {
		m.before.listeners[listener] = active
	} else {
		delete(m.before.listeners, listener)
	}
	m.letGo(listener, held)
	m.reuseExtensions(now.extensions)
}

// uses is what all versions of a listener refer to. The lock is held.
func (m *Manager) uses(listener string) uses {
	return m.listeners[listener].and(m.before.listeners[listener])
}

// letGo drops what a listener has referred to and does no more. The lock is held.
func (m *Manager) letGo(listener string, held uses) {
	now := m.uses(listener)
	for _, key := range held.scopes {
		if !slices.Contains(now.scopes, key) {
			m.dropScopes(key, listener)
		}
	}
	for _, r := range held.routes {
		if !slices.Contains(now.routes, r) {
			m.drop(m.routes, r, listener)
		}
	}
	for _, r := range held.configs {
		if !slices.Contains(now.configs, r) {
			m.drop(m.configs, r, listener)
		}
	}
	for _, key := range held.extensions {
		if !m.discovered(key) {
			delete(m.discovers, key)
		}
	}
}

// discovered reports whether a listener refers to an extension.
func (m *Manager) discovered(key filter.ExtensionKey) bool {
	for name := range m.listeners {
		if slices.Contains(m.uses(name).extensions, key) {
			return true
		}
	}
	return false
}

// reuseExtensions gives those that came before to a listener that is new.
func (m *Manager) reuseExtensions(keys []filter.ExtensionKey) {
	for _, key := range keys {
		if r := m.inUse.types[ads.ExtensionConfigType][key.Name]; r != nil && r.Body != nil {
			if err := m.setExtension(key.Name, r.Body.GetValue()); err != nil {
				m.log.Warn("an extension configuration that others use is not good for this one", "name", key.Name, "error", err)
			}
		}
	}
}

// setExtension gives a configuration to all kinds of filters that go by its name.
func (m *Manager) setExtension(name string, raw []byte) error {
	type parsed struct {
		key     filter.ExtensionKey
		factory any
	}
	var all []parsed
	for key, x := range m.discovers {
		if key.Name != name {
			continue
		}
		factory, err := fromproto.ExtensionConfig(raw, x, m.parser())
		if err != nil {
			return err
		}
		all = append(all, parsed{key, factory})
	}
	for _, one := range all {
		if err := m.engine.SetExtension(one.key, one.factory, false); err != nil {
			return err
		}
	}
	return nil
}

// removeExtension takes a configuration away: the filter falls back to its default.
func (m *Manager) removeExtension(name string) {
	r := m.inUse.types[ads.ExtensionConfigType][name]
	for key := range m.discovers {
		if key.Name != name {
			continue
		}
		// What was never there is still waited for, as long as initial_fetch_timeout says.
		if err := m.engine.SetExtension(key, nil, r == nil); err != nil {
			m.log.Warn("an extension configuration cannot be taken away", "name", name, "error", err)
		}
	}
}

// extensionMissing ends the wait for a configuration. The lock is held.
func (m *Manager) extensionMissing(name string) {
	for key := range m.discovers {
		if key.Name == name {
			if err := m.engine.SetExtension(key, nil, false); err != nil {
				m.log.Warn("a listener cannot go on without an extension configuration", "name", name, "error", err)
			}
		}
	}
}
