package dnsproxy

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	maxTTL      = 3600 // seconds; a day of an old address helps nobody
	maxNegative = 300  // seconds; RFC 2308 section 5 allows up to three hours
	maxCached   = 4096 // bytes of a message that is remembered
)

// key is what an answer depends on.
type key struct {
	name        string
	kind, class uint16
	do, cd      bool
}

func keyOf(q *dns.Msg) key {
	k := key{strings.ToLower(q.Question[0].Name), q.Question[0].Qtype, q.Question[0].Qclass, false, q.CheckingDisabled}
	if opt := q.IsEdns0(); opt != nil {
		k.do = opt.Do()
	}
	return k
}

// cache remembers answers for as long as they say; of too many, the one that was not
// asked for the longest goes.
type cache struct {
	mu    sync.Mutex
	size  int
	m     map[key]*list.Element
	order *list.List // of *entry, the last asked for first
	stats *Stats
}

type entry struct {
	key        key
	msg        *dns.Msg
	at, expire time.Time
}

func newCache(size int, st *Stats) *cache {
	return &cache{size: size, m: make(map[key]*list.Element), order: list.New(), stats: st}
}

// get returns a copy with the TTLs that are left, nil if there is none.
func (c *cache) get(k key) *dns.Msg {
	now := time.Now()
	c.mu.Lock()
	el := c.m[k]
	if el == nil {
		c.mu.Unlock()
		return nil
	}
	e := el.Value.(*entry)
	if !now.Before(e.expire) {
		c.remove(el)
		c.mu.Unlock()
		return nil
	}
	c.order.MoveToFront(el)
	c.mu.Unlock()
	m := e.msg.Copy() // of what nobody changes
	age := uint32(now.Sub(e.at) / time.Second)
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(age, h.Ttl)
			}
		}
	}
	return m
}

func (c *cache) put(k key, m *dns.Msg) {
	ttl := lifetime(k, m)
	if ttl == 0 || m.Len() > maxCached {
		return
	}
	now := time.Now()
	e := &entry{k, m.Copy(), now, now.Add(time.Duration(ttl) * time.Second)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.m[k]; el != nil {
		c.remove(el)
	}
	c.m[k] = c.order.PushFront(e)
	c.stats.Entries.Inc()
	for len(c.m) > c.size {
		c.stats.Evictions.Inc()
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	delete(c.m, el.Value.(*entry).key)
	c.order.Remove(el)
	c.stats.Entries.Dec()
}

// lifetime returns for how many seconds an answer may be remembered: the shortest TTL of
// its records; for one that says that there is nothing, the minimum of the zone
// (RFC 2308 section 5), and not at all without one.
func lifetime(k key, m *dns.Msg) uint32 {
	if m.Truncated || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	ttl, found := uint32(maxTTL), false
	for _, rr := range m.Answer {
		h := rr.Header()
		ttl = min(ttl, h.Ttl)
		found = found || h.Rrtype == k.kind || k.kind == dns.TypeANY
	}
	if found && m.Rcode == dns.RcodeSuccess {
		return ttl
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(ttl, soa.Hdr.Ttl, soa.Minttl, maxNegative)
		}
	}
	return 0
}
