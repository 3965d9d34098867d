package xds

import (
	"fmt"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/xds/ads"
)

// Ask implements server.Asker: it subscribes to what a request waits for.
func (m *Manager) Ask(w filter.Wanted) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch w.Kind {
	case filter.WantedCluster:
		m.askCluster(w)
	case filter.WantedHost:
		m.askHost(w)
	case filter.WantedScope:
		m.askScope(w)
	}
}

// Forget implements server.Asker.
func (m *Manager) Forget(w filter.Wanted) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch w.Kind {
	case filter.WantedCluster:
		if !m.known[w.Name] {
			m.dropCluster(w.Name)
		}
	case filter.WantedHost:
		m.forgetHost(w)
	case filter.WantedScope:
		// Its table is subscribed for as long as the scope is there: those are few.
	}
}

// checkClusters says what is wrong with the sources of on-demand clusters that a resource
// names.
func (m *Manager) checkClusters(p *filter.Parser) error {
	for _, from := range p.ODCDS {
		if err := m.streams.check(ads.ClusterType, from.API); err != nil {
			return fmt.Errorf("odcds.source: %w", err)
		}
	}
	return nil
}

// askCluster subscribes to one cluster by name.
func (m *Manager) askCluster(w filter.Wanted) {
	if m.known[w.Name] {
		return // it is warming
	}
	if before, asked := m.onDemand[w.Name]; asked { // its answer is not sent again otherwise
		m.subscriber(ads.ClusterType, before.From).Unsubscribe(ads.ClusterType, w.Name)
	}
	s := m.subscriber(ads.ClusterType, w.From)
	if s == nil {
		m.engine.Arrived(w, false)
		return
	}
	m.onDemand[w.Name] = w
	s.Subscribe(ads.ClusterType, 0, w.Name)
}

// dropCluster ends the subscription to a cluster that was asked for. The lock is held.
func (m *Manager) dropCluster(name string) {
	w, asked := m.onDemand[name]
	if !asked {
		return
	}
	delete(m.onDemand, name)
	m.subscriber(ads.ClusterType, w.From).Unsubscribe(ads.ClusterType, name)
	m.engine.Arrived(w, false)
}

// fleeting reports whether a cluster is there only because a request has asked for it, so
// that it may be given back. One of a source that also sends all clusters may be among
// those: there is no telling. The lock is held.
func (m *Manager) fleeting(name string) bool {
	w, asked := m.onDemand[name]
	return asked && (m.sources.Clusters == nil || m.sources.Clusters.Subscriber != m.subscriber(ads.ClusterType, w.From))
}

// Idle implements server.Asker: a cluster that was asked for is unsubscribed and removed.
func (m *Manager) Idle(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.known[name] || !m.fleeting(name) {
		return
	}
	m.removeCluster(name)
	m.inUse.forget(ads.ClusterType, name)
	m.settle()
	m.keepLater()
}

// askScope subscribes to the table of an on-demand scope.
func (m *Manager) askScope(w filter.Wanted) {
	s := m.scoped[w.From]
	if s != nil && m.scopeSets[s.source] != nil {
		for _, sc := range m.scopeSets[s.source].byName {
			if sc.Key == w.Name && sc.OnDemand && sc.RDS != "" {
				if !s.asked[sc.RDS] {
					s.asked[sc.RDS] = true
					m.putScopes(w.From, s)
				}
				return
			}
		}
	}
	m.engine.Arrived(w, false)
}
