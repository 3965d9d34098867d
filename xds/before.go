package xds

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// before is what the versions of clusters and listeners refer to that go on while newer
// ones warm: endpoints, route tables and filters of what carries traffic are kept up to
// date, too.
type before struct {
	services  map[string]ref            // cluster to its EDS service
	listeners map[string]uses           // listener to what it uses
	secrets   map[string][]*namedSecret // by user, as in Manager.secretsOf
}

// serviceInEffect is the EDS service of the version of a cluster that is in use. The lock
// is held, here and below.
func (m *Manager) serviceInEffect(name string) ref {
	if m.engine.ClusterWarming(name) {
		return m.before.services[name]
	}
	return m.clusters[name]
}

// usesInEffect is what the version of a listener refers to that is in use.
func (m *Manager) usesInEffect(name string) uses {
	if m.engine.ListenerWarming(name) {
		return m.before.listeners[name]
	}
	return m.listeners[name]
}

// settle lets go of what versions referred to that newer ones have replaced by now.
func (m *Manager) settle() {
	m.inUse.forgetBefore(m.warming)
	for name, service := range m.before.services {
		if m.engine.ClusterWarming(name) {
			continue
		}
		delete(m.before.services, name)
		if service != m.clusters[name] {
			m.drop(m.services, service, name)
		}
	}
	for name := range m.before.listeners {
		if m.engine.ListenerWarming(name) {
			continue
		}
		held := m.uses(name)
		delete(m.before.listeners, name)
		m.letGo(name, held)
	}
	for user := range m.before.secrets {
		if !m.userWarming(user) {
			m.keepSecrets(user, m.secretsOf[user], nil)
		}
	}
}

// useService keeps the EDS subscriptions in step with a cluster: with its newest version,
// and with the one in use before, whose service is active, until that is replaced.
func (m *Manager) useService(name string, active, service ref, timeout time.Duration) {
	none := ref{}
	was, wasActive := m.clusters[name], m.before.services[name]
	delete(m.clusters, name)
	delete(m.before.services, name)
	if service != none {
		m.clusters[name] = service
		if service != was && service != wasActive {
			m.use(m.services, service, name, max(timeout, 0), "")
		}
	}
	if active != none && active != service && m.engine.ClusterWarming(name) {
		m.before.services[name] = active
	} else {
		active = none
	}
	for i, r := range [2]ref{was, wasActive} {
		if r != none && r != service && r != active && (i == 0 || r != was) {
			m.drop(m.services, r, name)
		}
	}
}

// listenerFailed takes back a version of a listener that was accepted and could not be put
// in use after all: the one before goes on.
func (m *Manager) listenerFailed(spec *l4.Spec, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := spec.Name
	if m.listeners[name].spec != spec {
		return // a newer one has come
	}
	held := m.uses(name)
	m.listeners[name] = m.before.listeners[name]
	delete(m.before.listeners, name)
	m.letGo(name, held)
	m.keepSecrets(listenerUser(name), m.before.secrets[listenerUser(name)], nil)
	m.inUse.fail(ads.ListenerType, name, err)
}
