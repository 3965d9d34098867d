package stats

import (
	"math/bits"
	"sync/atomic"
)

// Histogram counts values (milliseconds, bytes) in the buckets that Envoy's have: the
// two leading decimal digits of a value, so that a bucket is at most a tenth as wide as
// its values are large, and values below 100 are exact. The zero value works. Memory is
// taken when values come, fifteen buckets at a time, so an unused histogram is three
// words.
type Histogram struct {
	table    atomic.Pointer[table]
	sum      atomic.Uint64
	interval atomic.Pointer[interval]
}

// table holds the groups of buckets by decade: the values 0 to 9, 10 to 99, and so on.
// What is too large goes to the last bucket.
type (
	table  [decades]atomic.Pointer[decade]
	decade [90 / groupLen]atomic.Pointer[group]
	group  [groupLen]atomic.Uint64
)

const (
	decades  = 14
	groupLen = 15
)

// silenced marks histograms that record nothing. It stays empty.
var silenced table

// silence makes Record do nothing from here on.
func (h *Histogram) silence() { h.table.Store(&silenced) }

// Record counts one value.
func (h *Histogram) Record(v uint64) {
	b := h.bucket(v)
	if b == nil {
		return
	}
	b.Add(1)
	h.sum.Add(v)
}

// bucket returns the bucket of a value, nil if the histogram is silenced.
func (h *Histogram) bucket(v uint64) *atomic.Uint64 {
	t := h.table.Load()
	if t == nil {
		t = made(&h.table)
	}
	if t == &silenced {
		return nil
	}
	d, i := bucketOf(v)
	dec := t[d].Load()
	if dec == nil {
		dec = made(&t[d])
	}
	g := dec[i/groupLen].Load()
	if g == nil {
		g = made(&dec[i/groupLen])
	}
	return &g[i%groupLen]
}

// made returns what p points to, and makes it if it points to nothing.
func made[T any](p *atomic.Pointer[T]) *T {
	if fresh := new(T); p.CompareAndSwap(nil, fresh) {
		return fresh
	}
	return p.Load()
}

// bucketOf returns the decade of a value and its bucket there: the value itself below
// 10, else the two leading digits less 10.
func bucketOf(v uint64) (decade, i int) {
	switch {
	case v < 10:
		return 0, int(v)
	case v < 100:
		return 1, int(v) - 10
	case v >= powers[decades]:
		return decades - 1, 89
	}
	decade = bits.Len64(v) * 1233 >> 12 // log10, at most one too large
	if v < powers[decade] {
		decade--
	}
	return decade, int(v/powers[decade-1]) - 10
}

var powers = func() (p [decades + 1]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// boundsOf returns the least value of a bucket and its width.
func boundsOf(decade, i int) (lower, width float64) {
	switch {
	case decade > 0:
		p := float64(powers[decade-1])
		return float64(10+i) * p, p
	case i > 0:
		return float64(i), 0.1
	}
	return 0, 0
}

// Used reports whether a value was ever recorded ("usedonly").
func (h *Histogram) Used() bool {
	t := h.table.Load()
	return t != nil && t != &silenced
}

// Count returns how many values were recorded.
func (h *Histogram) Count() (n uint64) {
	h.buckets(func(_, _ int, count uint64) { n += count })
	return n
}

// Sum returns the sum of all recorded values.
func (h *Histogram) Sum() uint64 { return h.sum.Load() }

// Snapshot returns everything that was recorded. The caller owns the result.
func (h *Histogram) Snapshot() Distribution {
	if h.table.Load() == nil {
		return Distribution{}
	}
	d := Distribution{Sum: h.sum.Load()}
	h.buckets(func(decade, i int, n uint64) {
		lower, width := boundsOf(decade, i)
		d.Buckets = append(d.Buckets, Bucket{lower, width, n})
		d.Count += n
	})
	return d
}

// buckets calls f with every bucket that is not empty.
func (h *Histogram) buckets(f func(decade, i int, n uint64)) {
	t := h.table.Load()
	if t == nil {
		return
	}
	for di := range t {
		dec := t[di].Load()
		if dec == nil {
			continue
		}
		for gi := range dec {
			g := dec[gi].Load()
			if g == nil {
				continue
			}
			for i := range g {
				if n := g[i].Load(); n != 0 {
					f(di, gi*groupLen+i, n)
				}
			}
		}
	}
}

// add merges d, which came from Snapshot, into h.
func (h *Histogram) add(d Distribution) {
	for _, b := range d.Buckets {
		if p := h.bucket(uint64(b.Lower)); p != nil {
			p.Add(b.Count)
		}
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
	old := h.interval.Load()
	if old != nil && old.last.Count == 0 && h.Count() == old.total.Count {
		return
	}
	total := h.Snapshot()
	if old == nil {
		h.interval.Store(&interval{total: total, last: total})
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
