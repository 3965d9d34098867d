package cluster

import (
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/cluster/lb"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// hashed chooses hosts by the hash of a request: RING_HASH and MAGLEV.
type hashed struct {
	env    *lbEnv
	policy *Policy
	view   *view
	tables []hashTable // by priority
}

// hashTable is the hosts of a priority and the table that is made of them when it is
// asked for.
type hashTable struct {
	made   atomic.Pointer[madeTable]
	before atomic.Pointer[madeTable] // of the hosts until now, while there is none of these
	mu     sync.Mutex
}

type madeTable struct {
	hosts []*Host
	lb.Table
}

func newHashed(env *lbEnv, p *Policy, v *view, before *hashed) *hashed {
	b := &hashed{env: env, policy: p, view: v, tables: make([]hashTable, len(v.priorities))}
	for i := range b.tables {
		if before != nil && i < len(before.tables) {
			old := &before.tables[i]
			if m := old.made.Load(); m != nil {
				b.tables[i].before.Store(m)
			} else {
				b.tables[i].before.Store(old.before.Load())
			}
		}
	}
	return b
}

// pick chooses the host of a hash; nil if there is none.
func (b *hashed) pick(a *Attempt, attempt int) (h *Host, panicked bool) {
	var hash uint64
	if a != nil && a.HasHash {
		hash = a.Hash
	} else {
		hash = b.env.m.rnd()
	}
	if len(b.tables) == 0 {
		b.env.core.stats.LBHealthyPanic.Inc()
		return nil, true
	}
	sh := b.view.choose(hash)
	if sh == nil {
		return nil, true
	}
	panicked = b.view.loads.panics[sh.priority]
	if panicked && attempt == 0 {
		b.env.core.stats.LBHealthyPanic.Inc()
	}
	t := b.table(sh.priority)
	if i := t.Pick(hash, attempt); i >= 0 {
		h = t.hosts[i]
	}
	return h, panicked
}

// table returns the table of a priority. The request that comes first makes it; others
// go on with the one before until it is done.
func (b *hashed) table(priority int) *madeTable {
	t := &b.tables[priority]
	if m := t.made.Load(); m != nil {
		return m
	}
	if old := t.before.Load(); old != nil && !t.mu.TryLock() {
		return old
	} else if old == nil {
		t.mu.Lock()
	}
	defer t.mu.Unlock()
	m := t.made.Load()
	if m == nil {
		m = b.build(priority)
		t.made.Store(m)
		t.before.Store(nil)
	}
	return m
}

func (b *hashed) build(priority int) *madeTable {
	m := &madeTable{}
	keyed, shares := []lb.Keyed(nil), []float64(nil)
	add := func(hosts []*Host, part float64) {
		sum := uint64(0)
		for _, h := range hosts {
			sum += uint64(h.weight())
		}
		for _, h := range hosts {
			share := float64(h.weight()) * part / float64(sum)
			m.hosts, shares = append(m.hosts, h), append(shares, share)
			keyed = append(keyed, lb.Keyed{Key: h.key(b.policy.Hashing.Hostname), Share: share})
		}
	}
	pr, panics := &b.view.priorities[priority], b.view.loads.panics[priority]
	if b.policy.Locality.Weighted && pr.weights {
		pr.eachByWeight(panics, add)
	} else if panics {
		add(pr.hosts, 1)
	} else {
		add(pr.healthy, 1)
	}
	st := b.env.core.hashStats(b.policy.Kind)
	if b.policy.Kind == MaglevLB {
		m.Table = lb.NewMaglev(keyed, b.policy.TableSize)
	} else {
		m.Table = lb.NewRing(keyed, b.policy.Ring)
	}
	st.show(m.Spread())
	if f := b.policy.Hashing.BalanceFactor; f > 0 && len(m.hosts) > 0 {
		m.Table = &lb.Bounded{
			Table: m.Table, Shares: shares, Factor: f, Total: b.env.core.stats.UpstreamRqActive.Value,
			Active: func(i int) int64 { return m.hosts[i].ep.stats.RqActive.Value() },
		}
	}
	return m
}

// eachByWeight calls add with the hosts of each locality that has a weight, and its
// part of all weight.
func (pr *priorityHosts) eachByWeight(panics bool, add func([]*Host, float64)) {
	sum := uint64(0)
	for i := range pr.localities {
		sum += uint64(pr.localities[i].weight)
	}
	for i := range pr.localities {
		l := &pr.localities[i]
		hosts := pr.near[i].healthy
		if panics {
			hosts = l.hosts
		}
		if l.weight > 0 {
			add(hosts, float64(l.weight)/float64(sum))
		}
	}
}

// key returns what rings and tables know a host by.
func (h *Host) key(hostname bool) string {
	switch {
	case h.hashKey != "":
		return h.hashKey
	case hostname && h.Hostname != "":
		return h.Hostname
	}
	return h.Addr.String()
}

// hashStats are the gauges of the last table that was made.
type hashStats struct {
	ring struct {
		Size stats.Gauge `stat:"size" help:"Points of the ring."`
		Min  stats.Gauge `stat:"min_hashes_per_host" help:"Points of the host that has fewest."`
		Max  stats.Gauge `stat:"max_hashes_per_host" help:"Points of the host that has most."`
	}
	maglev struct {
		Min stats.Gauge `stat:"min_entries_per_host" help:"Places of the host that has fewest."`
		Max stats.Gauge `stat:"max_entries_per_host" help:"Places of the host that has most."`
	}
}

func (s *hashStats) show(sp lb.Spread) {
	s.ring.Size.Set(int64(sp.Size))
	s.ring.Min.Set(int64(sp.Min))
	s.ring.Max.Set(int64(sp.Max))
	s.maglev.Min.Set(int64(sp.Min))
	s.maglev.Max.Set(int64(sp.Max))
}

// hashStats returns the gauges of tables, binding them when they are used for the first
// time.
func (c *core) hashStats(kind LB) *hashStats {
	c.hashOnce.Do(func() {
		if c.scope == nil {
			return
		}
		if kind == MaglevLB {
			c.scope.Child("maglev_lb").Bind(&c.hash.maglev)
		} else {
			c.scope.Child("ring_hash_lb").Bind(&c.hash.ring)
		}
	})
	return &c.hash
}
