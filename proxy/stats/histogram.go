package stats

import (
	"math/bits"
	"sync/atomic"
)

// Histogram counts values (milliseconds, bytes) in buckets whose width grows with
// the value: sixteen buckets for each power of two, so that a quantile is off by at
// most 1/16 and values below 32 are exact. The zero value works. Memory is taken
// when values come, sixteen buckets at a time, so an unused histogram is three words.
type Histogram struct {
	groups   atomic.Pointer[groupTable]
	sum      atomic.Uint64
	interval atomic.Pointer[interval]
}

type (
	group      [subBuckets]atomic.Uint64
	groupTable [groupCount]atomic.Pointer[group]
)

const (
	subBuckets = 16
	groupCount = 40 // up to 2^43
)

// Record counts one value.
func (h *Histogram) Record(v uint64) {
	g, i := bucketOf(v)
	t := h.groups.Load()
	if t == nil {
		t = h.grow()
	}
	b := t[g].Load()
	if b == nil {
		b = t.grow(g)
	}
	b[i].Add(1)
	h.sum.Add(v)
}

func (h *Histogram) grow() *groupTable {
	if t := new(groupTable); h.groups.CompareAndSwap(nil, t) {
		return t
	}
	return h.groups.Load()
}

func (t *groupTable) grow(g int) *group {
	if b := new(group); t[g].CompareAndSwap(nil, b) {
		return b
	}
	return t[g].Load()
}

// bucketOf returns the group and the bucket in it of a value: values below 16 have
// one bucket each, then each power of two is cut into sixteen. What is too large
// goes to the last bucket.
func bucketOf(v uint64) (g, i int) {
	if v < subBuckets {
		return 0, int(v)
	}
	exp := bits.Len64(v) - 5 // v>>exp is in 16..31
	if exp >= groupCount-1 {
		return groupCount - 1, subBuckets - 1
	}
	return exp + 1, int(v>>uint(exp)) - subBuckets
}

// boundsOf returns the least value of a bucket and how many values it holds.
func boundsOf(g, i int) (lower, width uint64) {
	if g == 0 {
		return uint64(i), 1
	}
	exp := uint(g - 1)
	return uint64(subBuckets+i) << exp, 1 << exp
}

// Used reports whether a value was ever recorded ("usedonly").
func (h *Histogram) Used() bool { return h.groups.Load() != nil }

// Count returns how many values were recorded.
func (h *Histogram) Count() uint64 {
	d := h.Snapshot()
	return d.Count
}

// Sum returns the sum of all recorded values.
func (h *Histogram) Sum() uint64 { return h.sum.Load() }

// Snapshot returns everything that was recorded. The caller owns the result.
func (h *Histogram) Snapshot() Distribution {
	t := h.groups.Load()
	if t == nil {
		return Distribution{}
	}
	d := Distribution{Sum: h.sum.Load()}
	for g := range t {
		b := t[g].Load()
		if b == nil {
			continue
		}
		for i := range b {
			if n := b[i].Load(); n != 0 {
				lower, width := boundsOf(g, i)
				d.Buckets = append(d.Buckets, Bucket{lower, width, n})
				d.Count += n
			}
		}
	}
	return d
}

// add merges d, which came from Snapshot, into h.
func (h *Histogram) add(d Distribution) {
	for _, b := range d.Buckets {
		g, i := bucketOf(b.Lower)
		t := h.groups.Load()
		if t == nil {
			t = h.grow()
		}
		p := t[g].Load()
		if p == nil {
			p = t.grow(g)
		}
		p[i].Add(b.Count)
	}
	h.sum.Add(d.Sum)
}

// interval is what Flush left: what was recorded up to the last flush, and between
// the last two.
type interval struct{ total, last Distribution }

// Flush ends an interval: what was recorded since the previous Flush is what Interval
// returns until the next. Only one goroutine may flush; Store.Flush does.
func (h *Histogram) Flush() {
	if !h.Used() {
		return
	}
	total, old := h.Snapshot(), h.interval.Load()
	if old == nil {
		h.interval.Store(&interval{total: total, last: total})
		return
	}
	if total.Count == old.total.Count && old.last.Count == 0 {
		return
	}
	h.interval.Store(&interval{total: total, last: total.minus(old.total)})
}

// Interval returns what was recorded between the last two flushes. The result is
// shared and must not be changed.
func (h *Histogram) Interval() Distribution {
	if iv := h.interval.Load(); iv != nil {
		return iv.last
	}
	return Distribution{}
}
