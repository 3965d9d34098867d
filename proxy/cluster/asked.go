package cluster

import "iter"

// ownHosts are the hosts of a cluster that has none of its own configuration.
type ownHosts interface {
	pick(c *Cluster, a *Attempt) *Host // nil if there is none
	list() []*Host
	has(h *Host) bool // or another one at the same endpoint
	recount()         // the health of a host is another one
}

// shownElsewhere is for who has no hosts of its own: other clusters show them.
type shownElsewhere struct{}

func (shownElsewhere) list() []*Host    { return nil }
func (shownElsewhere) has(h *Host) bool { return false }
func (shownElsewhere) recount()         {}

// nobody is the hosts of a cluster that cannot have any.
type nobody struct{ shownElsewhere }

func (nobody) pick(*Cluster, *Attempt) *Host { return nil }

// askedHosts counts hosts that requests ask for by health. Who has the hosts guards it.
type askedHosts struct {
	core      *core
	unhealthy int
	degraded  int
}

// count looks at the health of all hosts.
func (n *askedHosts) count(hosts iter.Seq[*Host]) {
	n.unhealthy, n.degraded = 0, 0
	total := 0
	for h := range hosts {
		total++
		n.add(h, 1)
	}
	n.show(total)
}

// changed is called when hosts have come, or these are gone.
func (n *askedHosts) changed(total int, gone ...*Host) {
	for _, h := range gone {
		n.add(h, -1)
	}
	n.core.stats.MembershipChange.Inc()
	n.show(total)
}

func (n *askedHosts) add(h *Host, by int) {
	switch f := h.Flags(); {
	case f.unhealthy():
		n.unhealthy += by
	case f.degraded():
		n.degraded += by
	}
}

func (n *askedHosts) show(total int) {
	st := &n.core.stats
	st.MembershipTotal.Set(int64(total))
	st.MembershipHealthy.Set(int64(max(total-n.unhealthy-n.degraded, 0)))
	st.MembershipDegraded.Set(int64(max(n.degraded, 0)))
}
