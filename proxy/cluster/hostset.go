package cluster

import (
	"reflect"
	"sync"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// hostSet is the hosts of a cluster and how to choose among them, at one moment. It
// is replaced, never changed; only the pickers' positions move. What takes long to make,
// such as rings, is made when it is asked for.
type hostSet struct {
	env     *lbEnv
	all     []*Host
	top     []members // by priority
	policy  assignmentPolicy
	view    *view
	root    balancer
	ahead   *foreseen // nil unless connections are made ahead
	drop    float64   // part of the requests that are refused
	named   hostMap
	indexed sync.Once
	index   map[meta.Addr]int   // of all, by address; see byAddr
	sources map[meta.Addr]*Host // of every address, to take over what did not change
}

// balancer chooses a host for each request. Its pick is safe for concurrent use. attempt
// counts the picks that were thrown away for the same request. panicked says that health
// does not count.
type balancer interface {
	pick(a *Attempt, attempt int) (h *Host, panicked bool)
}

// newHostSet makes the hosts of an assignment, on the endpoints of g. Those that are
// as they were in the set before are taken over.
func newHostSet(g *group, env *lbEnv, a *Assignment, before *hostSet) *hostSet {
	if a == nil {
		a = &Assignment{}
	}
	n := 0
	for i := range a.Localities {
		n += len(a.Localities[i].Hosts)
	}
	set := &hostSet{
		env: env, policy: a.policy(), drop: a.DropOverload, all: make([]*Host, 0, n),
		sources: make(map[meta.Addr]*Host, n),
	}
	for i := range a.Localities {
		l := &a.Localities[i]
		set.grow(l.Priority)
		at := set.top[l.Priority].locality(l)
		for j := range l.Hosts {
			hs := &l.Hosts[j]
			key := hs.key(env.spec)
			_, twice := set.sources[key]
			if twice && env.spec.Type != Static {
				continue
			}
			h := before.same(key, l, hs)
			if h == nil || twice {
				h = newHost(l, hs)
				h.ep = g.endpoint(key)
				g.core.first(h)
			}
			h.listed()
			set.sources[key] = h
			set.top[l.Priority].add(h, at)
			set.all = append(set.all, h)
		}
	}
	set.retain(before)
	for i := range set.top {
		set.top[i].order(env.m.options.Locality)
	}
	g.keep(set.sources)
	set.sort(before)
	return set
}

// grow makes room for a priority.
func (set *hostSet) grow(priority uint32) {
	for len(set.top) <= int(priority) {
		set.top = append(set.top, members{})
	}
}

// again makes the set anew, of the same hosts, whose health is another one.
func (set *hostSet) again() *hostSet {
	next := &hostSet{env: set.env, all: set.all, top: set.top, policy: set.policy, drop: set.drop, sources: set.sources}
	next.sort(set)
	return next
}

// sort looks at the health of the hosts and prepares the choice among them.
func (set *hostSet) sort(before *hostSet) {
	if set.env.spec.Policy.SlowStart.Window > 0 || set.env.spec.Policy.Child != nil {
		set.noteHealthy()
	}
	set.view = newView(set.env, set.top, set.policy)
	var old balancer
	if before != nil {
		old = before.root
	}
	if set.env.spec.foreseeable() {
		set.ahead = &foreseen{}
	}
	set.root = newBalancer(set.env, &set.env.spec.Policy, set, set.view, old)
}

// noteHealthy begins the slow start of hosts that were not seen healthy before.
func (set *hostSet) noteHealthy() {
	now := int64(set.env.m.now()) + 1
	for _, h := range set.all {
		if h.ep.healthySince.Load() == 0 && !h.Flags().unhealthy() {
			h.ep.healthySince.CompareAndSwap(0, now)
		}
	}
}

// same returns the host with that key if nothing about it has changed.
func (set *hostSet) same(key meta.Addr, l *Locality, hs *HostSpec) *Host {
	if set == nil {
		return nil
	}
	h := set.sources[key]
	if h == nil || !h.is(l, hs) {
		return nil
	}
	h.from = hs // or it would keep all of the assignment that it first came with
	return h
}

// is reports whether h is what a specification says.
func (h *Host) is(l *Locality, hs *HostSpec) bool {
	return h.from != nil && h.Priority == l.Priority && h.Region == l.Region && h.Zone == l.Zone && h.SubZone == l.SubZone &&
		(h.from == hs || h.from.equal(hs)) && (len(h.locality)+len(l.Metadata) == 0 || reflect.DeepEqual(h.locality, l.Metadata))
}

func (hs *HostSpec) equal(o *HostSpec) bool {
	return hs.Addr == o.Addr && hs.DNSName == o.DNSName && hs.Hostname == o.Hostname && hs.Weight == o.Weight &&
		hs.Health == o.Health && len(hs.Extra) == len(o.Extra) && hs.Check.equal(o.Check) && len(hs.Metadata) == len(o.Metadata) &&
		reflect.DeepEqual(hs.Extra, o.Extra) && len(hs.TLVs) == len(o.TLVs) && (len(hs.TLVs) == 0 || reflect.DeepEqual(hs.TLVs, o.TLVs)) && (len(hs.Metadata) == 0 || reflect.DeepEqual(hs.Metadata, o.Metadata))
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
		extra: hs.Extra, tlvs: hs.TLVs, check: hs.Check, locality: l.Metadata,
		labels: labelsOf(hs.Metadata[lbNamespace]),
		from:   hs,
	}
	if h.Hostname == "" {
		h.Hostname = hs.DNSName
	}
	h.canary, _ = hs.Metadata[lbNamespace]["canary"].(bool)
	h.hashKey, _ = hs.Metadata[lbNamespace]["hash_key"].(string)
	return h
}

// override returns the host that a stateful session wants. done says that nobody else
// may be picked.
func (set *hostSet) override(o *OverrideHost) (h *Host, done bool) {
	statuses := set.env.spec.OverrideStatus
	if statuses == 0 {
		return nil, false
	}
	if h = set.at(o.Addr); h != nil && statuses.Has(h.Status()) {
		return h, true
	}
	return nil, o.Strict
}
