package dnsfilter

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
)

// table is what the configuration knows of names (DnsTable).
type table struct {
	names map[string]*domain
	wild  map[string]*domain // "*.example.com" under "example.com"
	// services are by "_service._protocol.domain".
	services map[string]*service
	fold     bool // case_insensitive
}

// domain is what a name leads to: addresses, or the hosts of a cluster.
type domain struct {
	addrs   []netip.Addr
	cluster string
	ttl     uint32
}

// service is what an SRV query finds.
type service struct {
	ttl     uint32
	targets []target
}

// target is a host or a cluster that has a service.
type target struct {
	host, cluster      string
	prio, weight, port uint16
}

func (t *table) key(name string) string {
	if t.fold {
		return strings.ToLower(name)
	}
	return name
}

// find returns what the table knows of a name: that name itself, or the longest
// wildcard above it.
func (t *table) find(name string) *domain {
	name = t.key(name)
	if d := t.names[name]; d != nil {
		return d
	}
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return nil
		}
		if d := t.wild[parent]; d != nil {
			return d
		}
		name = parent
	}
}

func (r *receiver) count(q *query) {
	if !q.valid {
		r.s.Invalid.Inc()
		return
	}
	switch q.question.Type {
	case dnsmessage.TypeA:
		r.s.A.Inc()
	case dnsmessage.TypeAAAA:
		r.s.AAAA.Inc()
	case dnsmessage.TypeSRV:
		r.s.SRV.Inc()
	default:
		r.s.Unsupported.Inc()
	}
}

// answer answers a query from what is known here. It returns false if that takes a lookup.
func (f *server) answer(q *query) bool {
	if !q.valid {
		return true
	}
	switch q.question.Type {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA:
	case dnsmessage.TypeSRV:
		f.service(q)
		return true
	default:
		q.code = dnsmessage.RCodeNotImplemented
		return true
	}
	d := f.c.Table.find(q.name)
	if d == nil {
		if f.resolver == nil {
			q.code = dnsmessage.RCodeNameError
			return true
		}
		return false
	}
	f.s.Known.Inc()
	v4 := q.question.Type == dnsmessage.TypeA
	if d.cluster == "" {
		q.addresses(d.addrs, v4, d.ttl)
		f.tell(len(q.answers), v4, false)
		return true
	}
	addrs := f.hosts(d.cluster)
	if len(addrs) == 0 && f.resolver != nil {
		return false // its cluster may come yet; a resolver may know now
	}
	q.addresses(addrs, v4, d.ttl)
	f.tell(len(q.answers), v4, true)
	return true
}

func (f *server) tell(n int, v4, ofCluster bool) {
	c := &f.s.LocalA
	switch {
	case v4 && ofCluster:
		c = &f.s.ClusterA
	case ofCluster:
		c = &f.s.ClusterAAAA
	case !v4:
		c = &f.s.LocalAAAA
	}
	c.Add(uint64(n))
}

// addresses makes answers of the addresses of a family: a few, beginning anywhere. A
// name that has none in this family exists: the response is empty, and no error.
func (q *query) addresses(all []netip.Addr, v4 bool, ttl uint32) {
	from := 0
	if len(all) > 1 {
		from = rand.IntN(len(all))
	}
	for i := range all {
		a := all[(from+i)%len(all)]
		if a.Is4() == v4 && len(q.answers) < maxAnswers {
			q.answers = append(q.answers, record{addr: a, ttl: ttl})
		}
	}
}

// hosts returns the addresses of a cluster.
func (f *server) hosts(name string) []netip.Addr {
	cl := f.clusters.Cluster(name)
	if cl == nil {
		return nil
	}
	var out []netip.Addr
	for _, h := range cl.Hosts() {
		if a := h.Addr.Addr().Unmap(); a.IsValid() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// service answers an SRV query; the addresses of the targets come with it.
func (f *server) service(q *query) {
	s := f.c.Table.services[f.c.Table.key(q.name)]
	if s == nil {
		q.code = dnsmessage.RCodeNameError
		return
	}
	f.s.Known.Inc()
	for _, t := range s.targets {
		r := record{ttl: s.ttl, target: t.host, prio: t.prio, weight: t.weight, to: t.port}
		var addrs []netip.Addr
		if t.cluster != "" {
			r.target = t.cluster
			if cl := f.clusters.Cluster(t.cluster); cl != nil {
				if hosts := cl.Hosts(); r.to == 0 && len(hosts) > 0 {
					r.to = hosts[0].Addr.Port()
				}
				addrs = f.hosts(t.cluster)
			}
			f.s.ClusterSRV.Inc()
		} else {
			if d := f.c.Table.find(t.host); d != nil {
				addrs = d.addrs
			}
			f.s.LocalSRV.Inc()
		}
		q.answers = append(q.answers, r)
		for _, a := range addrs {
			q.extra = append(q.extra, record{name: r.target, ttl: s.ttl, addr: a})
		}
	}
}

// external looks a name up.
func (f *server) external(ctx context.Context, q *query) {
	want := dns.V4
	if q.question.Type == dnsmessage.TypeAAAA {
		want = dns.V6
		f.s.ExtAAAAQ.Inc()
	} else {
		f.s.ExtAQ.Inc()
	}
	a, err := f.resolver.Lookup(ctx, q.name+".", want)
	if err != nil {
		f.s.Failed.Inc()
		q.fail()
		return
	}
	f.s.External.Inc()
	ttl := uint32(min(max(a.TTL, 0), maxTTL) / time.Second)
	q.addresses(append(a.V4, a.V6...), want == dns.V4, ttl)
	if want == dns.V4 {
		f.s.ExtA.Add(uint64(len(q.answers)))
	} else {
		f.s.ExtAAAA.Add(uint64(len(q.answers)))
	}
}

// maxTTL is a week, beyond which nobody should remember anything (RFC 8767).
const maxTTL = 7 * 24 * time.Hour
