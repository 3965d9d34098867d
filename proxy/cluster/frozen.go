package cluster

import (
	"slices"
	"time"

	"github.com/mecha-mesh/mecha/proxy/transport"
)

// A cluster that nobody uses is a name and a way to its configuration: in a mesh, most
// of what a control plane sends is never talked to. Its Spec was validated when it
// came, is let go when the cluster is ready, and is made again, from the same bytes, by
// whoever uses the cluster first. The same goes for its assignment.

func newCluster(m *Manager, s *slot, spec *Spec) *Cluster {
	c := &Cluster{m: m, slot: s, name: s.name, hash: spec.Hash, typ: spec.Type, ondemand: spec.OnDemand, thaw: spec.Thaw, warmed: spec.Warmed, awaits: slices.Clone(spec.Awaits)}
	if spec.Type == EDS {
		if c.service = spec.service(); c.service == c.name {
			c.service = c.name // one string, not two
		}
	}
	c.stat = c.name // one string, not two
	if spec.StatName != "" && spec.StatName != c.name {
		c.stat = spec.StatName
	}
	c.full.Store(spec)
	return c
}

// freeze lets the configuration of an unused cluster go. Names that are looked up, and
// files that are followed, need theirs. The manager's lock is held.
func (c *Cluster) freeze() {
	s := c.full.Load()
	if c.thaw == nil || c.run.Load() != nil || s == nil || s.EDS != "" {
		return
	}
	switch c.typ {
	case Static:
		c.assigned = nil // part of the configuration
	case EDS:
	default:
		return
	}
	c.full.Store(nil)
}

// melted makes the configuration again.
func (c *Cluster) melted() *Spec {
	s, err := c.thaw()
	if err != nil { // it was good once, and a file that it names has gone since
		c.m.log.Error("the configuration of a cluster cannot be read again", "cluster", c.name, "error", err)
		s = &Spec{
			Name: c.name, StatName: c.name, Type: c.typ, ServiceName: c.service, ConnectTimeout: 5 * time.Second,
			PanicThreshold: 50, Socket: transport.Broken{Err: err}, Hash: c.hash,
		}
	}
	return s
}

// freeze lets the hosts of a service go that no cluster in use has. The manager's lock is
// held.
func (s *service) freeze() {
	a := s.assignment
	if a == nil || a.Thaw == nil || a.frozen || slices.ContainsFunc(s.users, func(c *Cluster) bool { return c.run.Load() != nil }) {
		return
	}
	s.replace(&Assignment{Cluster: a.Cluster, StaleAfter: a.StaleAfter, Hash: a.Hash, Thaw: a.Thaw, frozen: true})
}

// replace puts an equal assignment in the place of the one that all users have.
func (s *service) replace(a *Assignment) {
	for _, c := range s.users {
		if c.assigned == s.assignment {
			c.assigned = a
		}
	}
	s.assignment = a
}

// melted makes the hosts of an assignment again.
func (m *Manager) melted(a *Assignment) *Assignment {
	if !a.frozen {
		return a
	}
	full, err := a.Thaw()
	if err != nil { // the same bytes were good once
		m.log.Error("an assignment cannot be read again", "service", a.Cluster, "error", err)
		full = &Assignment{Cluster: a.Cluster, Overprovisioning: 140, StaleAfter: a.StaleAfter}
	}
	full.Hash, full.Thaw = a.Hash, a.Thaw
	return full
}

// melt makes the hosts of a cluster that is to be used. The manager's lock is held.
func (c *Cluster) melt() {
	a := c.assigned
	if a == nil || !a.frozen {
		return
	}
	full := c.m.melted(a)
	if s := c.m.services[c.service]; s != nil && s.assignment == a {
		s.replace(full)
	}
	c.assigned = full
}

// hostsOf is what a version was assigned.
func (c *Cluster) hostsOf(s *Spec) *Assignment {
	switch {
	case c.assigned != nil:
		return c.m.melted(c.assigned)
	case s.Assignment != nil:
		return s.Assignment
	}
	return &Assignment{}
}

// Look returns the configuration and the hosts of the moment, for people: an unused
// cluster stays unused, and its hosts have no history.
func (c *Cluster) Look() (*Spec, []*Host) {
	if c.run.Load() != nil {
		return c.Spec(), c.Hosts()
	}
	s := c.full.Load()
	if s == nil {
		s = c.melted()
	}
	if s.Type == OriginalDestination {
		return s, nil
	}
	c.m.mu.Lock()
	a := c.hostsOf(s)
	c.m.mu.Unlock()
	core := newCore(nil, s)
	g := newGroup(c.m, core, s)
	g.drain()
	return s, newHostSet(g, newLBEnv(c.m, s, core), a, nil).all
}
