package cluster

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/transport"
)

// A cluster that nobody uses is a name and a way to its configuration: in a mesh, most
// of what a control plane sends is never talked to. Its Spec was validated when it
// came, is let go when the cluster is ready, and is made again, from the same bytes, by
// whoever uses the cluster first.

func newCluster(m *Manager, s *slot, spec *Spec) *Cluster {
	c := &Cluster{m: m, slot: s, name: s.name, hash: spec.Hash, typ: spec.Type, thaw: spec.Thaw}
	if spec.Type == EDS {
		if c.service = spec.service(); c.service == c.name {
			c.service = c.name // one string, not two
		}
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
			PanicThreshold: 50, Socket: transport.Raw{}, Hash: c.hash,
		}
	}
	return s
}

// hostsOf is what a version was assigned.
func (c *Cluster) hostsOf(s *Spec) *Assignment {
	switch {
	case c.assigned != nil:
		return c.assigned
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
