package stats

import (
	"math/bits"
	"sync/atomic"
)

// Histogram counts values (milliseconds, bytes) in buckets whose width grows with
// the value: sixteen buckets for each power of two, so that a quantile is off by at
// most 1/16. The zero value works; its buckets are allocated on first use.
type Histogram struct {
	buckets atomic.Pointer[[histogramBuckets]atomic.Uint64]
	count   atomic.Uint64
	sum     atomic.Uint64
}

const (
	subBuckets       = 16
	histogramBuckets = 40 * subBuckets // up to 2^43
)

// Record counts one value.
func (h *Histogram) Record(v uint64) {
	b := h.buckets.Load()
	if b == nil {
		b = new([histogramBuckets]atomic.Uint64)
		if !h.buckets.CompareAndSwap(nil, b) {
			b = h.buckets.Load()
		}
	}
	b[bucketOf(v)].Add(1)
	h.count.Add(1)
	h.sum.Add(v)
}

// bucketOf returns the bucket of a value: values below 16 have one each, then
// each power of two is cut into sixteen.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	exp := bits.Len64(v) - 5 // v>>exp is in 16..31
	i := (exp+1)*subBuckets + int(v>>uint(exp)) - subBuckets
	return min(i, histogramBuckets-1)
}

// lowerBound returns the least value of a bucket.
func lowerBound(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	exp := i/subBuckets - 1
	return uint64(subBuckets+i%subBuckets) << uint(exp)
}

// Count returns how many values were recorded.
func (h *Histogram) Count() uint64 { return h.count.Load() }

// Sum returns the sum of all recorded values.
func (h *Histogram) Sum() uint64 { return h.sum.Load() }
