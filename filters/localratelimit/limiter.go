package localratelimit

import (
	"container/list"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
)

// Limits is which requests take tokens from which buckets. It is immutable.
type Limits struct {
	Default Rate // of all requests, unless PerSecond is 0: then there is no such bucket
	// Always takes from the default bucket also what takes from others
	// (always_consume_default_token_bucket).
	Always      bool
	Descriptors []Descriptor
	MaxDynamic  int // buckets that one Descriptor with a wildcard has at a time
}

// Descriptor is a bucket for requests with a descriptor of exactly these entries. An entry
// without a value stands for any: each has a bucket of its own.
type Descriptor struct {
	Entries []ratelimit.Entry
	Rate    Rate
	Shadow  bool // shadow_mode: requests without a token are let through
}

func (d *Descriptor) bucket(now time.Time) *bucket {
	b := newBucket(d.Rate, now)
	b.shadow = d.Shadow
	return b
}

func (d *Descriptor) wild() bool {
	return slices.ContainsFunc(d.Entries, func(e ratelimit.Entry) bool { return e.Value == "" })
}

// limiter is the buckets of Limits.
type limiter struct {
	limits  *Limits
	all     *bucket // nil: none
	exact   map[string]*bucket
	dynamic []*dynamic
}

func newLimiter(l *Limits, now time.Time) *limiter {
	m := &limiter{limits: l, exact: map[string]*bucket{}}
	if l.Default.PerSecond > 0 {
		m.all = newBucket(l.Default, now)
	}
	for i := range l.Descriptors {
		d := &l.Descriptors[i]
		if d.wild() {
			m.dynamic = append(m.dynamic, &dynamic{of: d, most: l.MaxDynamic, by: map[string]*list.Element{}})
		} else {
			m.exact[string(appendKey(nil, d.Entries))] = d.bucket(now)
		}
	}
	return m
}

// appendKey appends what tells descriptors apart.
func appendKey(dst []byte, entries []ratelimit.Entry) []byte {
	for _, e := range entries {
		dst = append(append(append(append(dst, e.Key...), 0), e.Value...), 0)
	}
	return dst
}

// find returns the bucket of a descriptor with that key, nil if there is none.
func (m *limiter) find(entries []ratelimit.Entry, key []byte, now time.Time) *bucket {
	if b := m.exact[string(key)]; b != nil {
		return b
	}
	for _, d := range m.dynamic {
		if d.matches(entries) {
			return d.bucket(key, now)
		}
	}
	return nil
}

// dynamic is the buckets of a Descriptor with a wildcard: the most recent ones.
type dynamic struct {
	of   *Descriptor
	most int

	mu     sync.Mutex
	by     map[string]*list.Element // of recent
	recent list.List                // *entry, the last one used in front
}

type entry struct {
	key string
	*bucket
}

func (d *dynamic) matches(entries []ratelimit.Entry) bool {
	return slices.EqualFunc(entries, d.of.Entries, func(e, want ratelimit.Entry) bool {
		return e.Key == want.Key && (want.Value == "" || e.Value == want.Value)
	})
}

func (d *dynamic) bucket(key []byte, now time.Time) *bucket {
	d.mu.Lock()
	defer d.mu.Unlock()
	if el := d.by[string(key)]; el != nil {
		d.recent.MoveToFront(el)
		return el.Value.(*entry).bucket
	}
	e := &entry{strings.Clone(string(key)), d.of.bucket(now)}
	d.by[e.key] = d.recent.PushFront(e)
	if d.recent.Len() > d.most {
		oldest := d.recent.Back()
		d.recent.Remove(oldest)
		delete(d.by, oldest.Value.(*entry).key)
	}
	return e.bucket
}

// demand is a bucket that a request takes from.
type demand struct {
	*bucket
	hits    float64
	refill  bool // it gives
	headers ratelimit.Option
}

// foresee is what ask would say, but for headers. It takes nothing.
func (m *limiter) foresee(demands []demand, now time.Time) (allowed bool, about *bucket) {
	for i := range demands {
		d := &demands[i]
		if !d.refill && (d.hits == 0 || d.Max == 0 || d.left(now)+slack < d.hits) {
			return false, d.bucket
		}
	}
	if m.all != nil && (len(demands) == 0 || m.limits.Always) && (m.all.Max == 0 || m.all.left(now)+slack < 1) {
		return false, m.all
	}
	return true, nil
}

// ask decides on a request: of the buckets the one that fills most slowly decides first.
// about is the bucket that the answer is about, nil if there is none.
func (m *limiter) ask(demands []demand, now time.Time) (allowed bool, about *bucket, headers ratelimit.Option) {
	slices.SortStableFunc(demands, func(a, b demand) int {
		switch {
		case a.PerSecond < b.PerSecond:
			return -1
		case a.PerSecond > b.PerSecond:
			return 1
		}
		return 0
	})
	for i := range demands {
		d := &demands[i]
		if d.refill {
			d.give(d.hits, now)
		} else if d.hits == 0 || !d.take(d.hits, now) { // what counts for nothing is denied, as in Envoy
			return false, d.bucket, d.headers
		}
	}
	if m.all != nil && (len(demands) == 0 || m.limits.Always) && !m.all.take(1, now) {
		return false, m.all, ratelimit.AsFilter
	}
	if len(demands) > 0 {
		return true, demands[0].bucket, demands[0].headers
	}
	return true, m.all, ratelimit.AsFilter
}
