package cluster

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Resolver looks up the addresses of a name. An error says that they could not be
// found out; a name without addresses is an empty answer.
type Resolver interface {
	Lookup(ctx context.Context, name string, want dns.Want) (dns.Answer, error)
}

// names are the names of a STRICT_DNS or LOGICAL_DNS cluster and what is known of
// them. The manager's lock guards them.
type names struct {
	c        *Cluster
	resolver Resolver
	all      []*name
	left     int // names whose first lookup is under way
	stopped  bool
}

// name is looked up again and again; its last addresses stay until there are others.
type name struct {
	in       *names
	text     string
	addrs    []netip.Addr // sorted for STRICT_DNS, as found for LOGICAL_DNS
	known    bool
	failures int
	again    event
}

// lookUp begins the discovery of a cluster with names. What the version before knows
// of them is taken over.
func (m *Manager) lookUp(c *Cluster) {
	n := &names{c: c, resolver: m.resolverFor(c.Spec().DNS.Resolver)}
	c.names = n
	before := map[string]*name{}
	if old := c.slot.active; old != nil && old.names != nil && old.Spec().DNS.Family == c.Spec().DNS.Family && old.Spec().DNS.Resolver.Equal(c.Spec().DNS.Resolver) {
		for _, o := range old.names.all {
			before[o.text] = o
		}
	}
	seen := map[string]bool{}
	for hs := range c.Spec().Assignment.hosts() {
		if hs.DNSName == "" || seen[hs.DNSName] {
			continue
		}
		seen[hs.DNSName] = true
		one := &name{in: n, text: hs.DNSName}
		one.again.run = one.begin
		n.all = append(n.all, one)
		if o := before[one.text]; o != nil && o.known {
			one.addrs, one.known = o.addrs, true
		} else {
			n.left++
		}
	}
	for _, one := range n.all {
		m.goWork(one.look)
	}
	if n.complete() {
		m.assign(c, n.expand())
	}
}

// complete reports whether the cluster need not wait for more answers.
func (n *names) complete() bool { return n.left == 0 || n.c.Spec().DNS.NoWait }

// hosts yields every host.
func (a *Assignment) hosts() func(func(*HostSpec) bool) {
	return func(yield func(*HostSpec) bool) {
		if a == nil {
			return
		}
		for i := range a.Localities {
			for j := range a.Localities[i].Hosts {
				if !yield(&a.Localities[i].Hosts[j]) {
					return
				}
			}
		}
	}
}

// stop ends the lookups. The manager's lock is held.
func (n *names) stop() {
	n.stopped = true
	for _, one := range n.all {
		n.c.m.agenda.cancel(&one.again)
	}
}

// resolverFor returns the resolver that looks up names in that way; nil is the process's.
func (m *Manager) resolverFor(o *dns.Options) Resolver {
	if o == nil || m.options.Resolver != nil {
		return m.resolver
	}
	return dns.With(*o, netio.MarkedDialer(m.options.Bind.mark()).DialContext)
}

func (o *name) begin() { o.in.c.m.goWork(o.look) }

// look looks the name up once.
func (o *name) look() {
	m, spec := o.in.c.m, o.in.c.Spec()
	if r := o.in.c.run.Load(); r != nil {
		r.core.stats.UpdateAttempt.Inc()
	}
	answer, err := o.in.resolver.Lookup(m.ctx, o.text, spec.DNS.Family.want())
	m.mu.Lock()
	defer m.unlock()
	if o.in.stopped || m.closed {
		return
	}
	o.took(spec.DNS.Family.choose(answer), err)
	m.agenda.set(&o.again, time.Now().Add(o.pause(answer.TTL)))
}

// took takes the outcome of a lookup over. The manager's lock is held.
func (o *name) took(addrs []netip.Addr, err error) {
	n, m := o.in, o.in.c.m
	first := !o.known
	changed := false
	if err != nil {
		if o.failures++; o.failures == 1 {
			m.log.Warn("a name of a cluster could not be looked up; its last addresses stay",
				"cluster", n.c.Spec().Name, "error", err)
		}
	} else {
		o.failures = 0
		if n.c.Spec().Type == StrictDNS { // servers shuffle; for one logical host the first one counts
			slices.SortFunc(addrs, netip.Addr.Compare)
			addrs = slices.Compact(addrs)
		}
		changed = !slices.Equal(addrs, o.addrs)
		o.addrs = addrs
	}
	o.known = true
	n.countUpdate(changed, err)
	if first {
		n.left--
	}
	if n.complete() && (changed || n.c.slot.warming == n.c) {
		m.assign(n.c, n.expand())
	}
}

// countUpdate counts a lookup as Envoy does: an answer without addresses is a success.
func (n *names) countUpdate(changed bool, err error) {
	r := n.c.run.Load()
	if r == nil {
		return
	}
	st := &r.core.stats
	if err != nil {
		st.UpdateFailure.Inc()
		return
	}
	st.UpdateSuccess.Inc()
	if !changed {
		st.UpdateNoRebuild.Inc()
	}
}

// The pause after a failed lookup grows up to what it is after a good one.
const (
	firstFailurePause = time.Second
	defaultRefresh    = 5 * time.Second
)

// pause returns how long the answer is good for.
func (o *name) pause(ttl time.Duration) time.Duration {
	d := &o.in.c.Spec().DNS
	pause := d.Refresh
	if pause <= 0 {
		pause = defaultRefresh
	}
	switch {
	case o.failures > 0:
		base, most := d.FailureBase, d.FailureMax
		if base <= 0 {
			base, most = min(firstFailurePause, pause), pause
		}
		pause = backoff.Policy{Base: base, Max: max(base, most)}.Limit(o.failures)
	case d.RespectTTL && ttl >= time.Second:
		pause = max(ttl, d.Least)
	}
	if d.Jitter > 0 {
		pause += time.Duration(o.in.c.m.rnd() % uint64(d.Jitter))
	}
	return pause
}

// expand returns the assignment with the addresses of its names.
func (n *names) expand() *Assignment {
	spec := n.c.Spec()
	if spec.Assignment == nil {
		return &Assignment{}
	}
	addrs := make(map[string][]netip.Addr, len(n.all))
	for _, o := range n.all {
		addrs[o.text] = o.addrs
	}
	a := *spec.Assignment
	a.Localities = slices.Clone(a.Localities)
	for i := range a.Localities {
		l := &a.Localities[i]
		var hosts []HostSpec
		for _, hs := range l.Hosts {
			switch found := addrs[hs.DNSName]; {
			case hs.DNSName == "":
				hosts = append(hosts, hs)
			case spec.Type == LogicalDNS:
				hosts = append(hosts, hs.at(found...)...)
			default:
				for _, ip := range found {
					hosts = append(hosts, hs.at(ip)...)
				}
			}
		}
		l.Hosts = hosts
	}
	return &a
}

// at returns the host at its first address, with the others as additional ones; no
// host if there is no address.
func (hs HostSpec) at(ips ...netip.Addr) []HostSpec {
	if len(ips) == 0 {
		return nil
	}
	port := hs.port()
	hs.Addr, hs.Extra = meta.Addr{AddrPort: netip.AddrPortFrom(ips[0], port)}, nil
	for _, ip := range ips[1:] {
		hs.Extra = append(hs.Extra, meta.Addr{AddrPort: netip.AddrPortFrom(ip, port)})
	}
	return []HostSpec{hs}
}

// port returns the port of a host with a name.
func (hs *HostSpec) port() uint16 {
	if hs.Port != 0 {
		return hs.Port
	}
	return hs.Addr.Port()
}

func (f Family) want() dns.Want {
	switch f {
	case V4Only:
		return dns.V4
	case V6Only:
		return dns.V6
	}
	return dns.V4 | dns.V6
}

// choose returns the addresses that a family takes of an answer, the ones to be
// preferred first.
func (f Family) choose(a dns.Answer) []netip.Addr {
	switch {
	case f == AllFamilies:
		return slices.Concat(a.V6, a.V4)
	case len(a.V4) == 0, f == Auto && len(a.V6) > 0:
		return a.V6
	}
	return a.V4
}
