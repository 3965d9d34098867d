package cluster

import (
	"sync"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// hostSet is the hosts of a cluster and how to choose among them, at one moment. It
// is replaced, never changed; only the pickers' positions move.
type hostSet struct {
	all        []*Host
	priorities []priorityHosts
	share      []share // of the load, in the order in which they are tried; sums to 100
	only       *share  // where all the load goes to one share

	counts           []healthCount
	overprovisioning int // in percent

	indexed sync.Once
	index   map[meta.Addr]int // of all, by address; see byAddr
}

// priorityHosts are the pickers of one priority; nil where there are no hosts.
type priorityHosts struct {
	healthy, degraded, all picker
	hosts                  []*Host
	nHealthy, nDegraded    int
	panics                 bool
}

// share is the part of the load that goes to one kind of hosts of one priority.
type share struct {
	priority int
	degraded bool
	percent  int
}

// picker chooses a host for each request. Its pick is safe for concurrent use.
type picker interface{ pick() *Host }

// newHostSet makes the hosts of an assignment, on the endpoints of g.
func newHostSet(g *group, s *Spec, a *Assignment, rnd func() uint64) *hostSet {
	set := &hostSet{}
	seen := map[meta.Addr]bool{}
	if a == nil {
		a = &Assignment{}
	}
	for i := range a.Localities {
		l := &a.Localities[i]
		for len(set.priorities) <= int(l.Priority) {
			set.priorities = append(set.priorities, priorityHosts{})
		}
		pr := &set.priorities[l.Priority]
		for j := range l.Hosts {
			hs := &l.Hosts[j]
			key := hs.key(s)
			if s.Type != Static && seen[key] {
				continue
			}
			seen[key] = true
			h := newHost(l, hs)
			h.ep = g.endpoint(key)
			pr.hosts = append(pr.hosts, h)
			set.all = append(set.all, h)
		}
	}
	for i := range set.priorities {
		set.priorities[i].build(s, rnd)
	}
	set.balance(s.PanicThreshold, a.Overprovisioning)
	g.keep(seen)
	return set
}

// key returns what makes a host the same one after an update: its address, or the
// name where the address may change (LOGICAL_DNS).
func (hs *HostSpec) key(s *Spec) meta.Addr {
	if s.Type == LogicalDNS && hs.DNSName != "" {
		return meta.Addr{Path: "name:" + hs.DNSName}
	}
	return hs.Addr
}

func newHost(l *Locality, hs *HostSpec) *Host {
	h := &Host{
		Addr: hs.Addr, Hostname: hs.Hostname, Metadata: hs.Metadata,
		Weight: max(hs.Weight, 1), Health: hs.Health, Priority: l.Priority,
		Region: l.Region, Zone: l.Zone, SubZone: l.SubZone,
		extra: hs.Extra, tlvs: hs.TLVs, locality: l.Metadata,
		labels: labelsOf(hs.Metadata[lbNamespace]),
	}
	h.canary, _ = hs.Metadata[lbNamespace]["canary"].(bool)
	if h.Hostname == "" {
		h.Hostname = hs.DNSName
	}
	return h
}

func (pr *priorityHosts) build(s *Spec, rnd func() uint64) {
	var healthy, degraded []*Host
	for _, h := range pr.hosts {
		switch h.Health {
		case Healthy:
			healthy = append(healthy, h)
		case Degraded:
			degraded = append(degraded, h)
		}
	}
	pr.nHealthy, pr.nDegraded = len(healthy), len(degraded)
	pr.healthy, pr.degraded = newPicker(s, healthy, rnd), newPicker(s, degraded, rnd)
	pr.all = pr.healthy
	if len(healthy) != len(pr.hosts) {
		pr.all = newPicker(s, pr.hosts, rnd)
	}
}

// balance computes where the load goes.
func (set *hostSet) balance(panicThreshold float64, overprovisioning int) {
	if len(set.priorities) == 0 {
		return
	}
	if set.overprovisioning = overprovisioning; overprovisioning == 0 {
		set.overprovisioning = 140
	}
	set.counts = make([]healthCount, len(set.priorities))
	for i := range set.priorities {
		pr := &set.priorities[i]
		set.counts[i] = healthCount{len(pr.hosts), pr.nHealthy, pr.nDegraded}
	}
	b := balanceLoad(set.counts, set.overprovisioning, panicThreshold)
	for i := range set.priorities {
		set.priorities[i].panics = b.panics[i]
	}
	for _, degraded := range []bool{false, true} {
		for i := range set.priorities {
			percent := b.healthy[i]
			if degraded {
				percent = b.degraded[i]
			}
			if percent > 0 {
				set.share = append(set.share, share{i, degraded, percent})
			}
		}
	}
	if len(set.share) == 1 {
		set.only = &set.share[0]
	}
}

// pick chooses a host; nil if there is none. panicked reports that health did not count.
func (set *hostSet) pick(rnd func() uint64, a *Attempt) (h *Host, panicked bool) {
	sh := set.only
	if a != nil && a.UpdateFrequency > 0 {
		if l := set.previousPriorities(a.Tried, a.UpdateFrequency); l != nil {
			chosen := l.choose(int(rnd()>>32) % 100)
			sh = &chosen
		}
	}
	if sh == nil {
		if sh = set.chooseShare(int(rnd()>>32) % 100); sh == nil {
			return nil, true
		}
	}
	pr := &set.priorities[sh.priority]
	p := pr.healthy
	switch {
	case pr.panics:
		p = pr.all
	case sh.degraded:
		p = pr.degraded
	}
	if p == nil {
		return nil, pr.panics
	}
	return p.pick(), pr.panics
}

// chooseShare returns the share that a percentile falls into.
func (set *hostSet) chooseShare(percentile int) *share {
	for i := range set.share {
		if percentile -= set.share[i].percent; percentile < 0 {
			return &set.share[i]
		}
	}
	return nil
}
