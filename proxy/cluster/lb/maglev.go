package lb

import (
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/match"
)

// Maglev is the lookup table of Google's Maglev (Eisenbud et al., section 3.4), with
// weights, filled as Envoy fills it.
type Maglev struct {
	table  []int32
	spread Spread
}

// maglevHost is where a host wants to be in the table, and what it has.
type maglevHost struct {
	offset, skip, next, count uint64
	share, target             float64
	host                      int32
}

// NewMaglev builds a table of a size that is a prime number. Hosts take their turn in
// the order of their keys, so that the order in which they are listed changes nothing.
func NewMaglev(hosts []Keyed, size uint64) *Maglev {
	m := &Maglev{}
	if len(hosts) == 0 {
		return m
	}
	order := make([]maglevHost, len(hosts))
	most := 0.0
	for i := range hosts {
		key := hosts[i].Key
		order[i] = maglevHost{
			offset: match.Hash64(key, 0) % size, skip: match.Hash64(key, 1)%(size-1) + 1,
			share: hosts[i].Share, host: int32(i),
		}
		most = max(most, hosts[i].Share)
	}
	slices.SortStableFunc(order, func(a, b maglevHost) int { return strings.Compare(hosts[a.host].Key, hosts[b.host].Key) })
	m.fill(order, most, size)
	m.spread = Spread{Size: size, Min: size}
	for i := range order {
		m.spread.Min, m.spread.Max = min(m.spread.Min, order[i].count), max(m.spread.Max, order[i].count)
	}
	return m
}

// fill lets the hosts take places in turn. One with a share of a third of the greatest
// takes one in every third round.
func (m *Maglev) fill(order []maglevHost, most float64, size uint64) {
	m.table = make([]int32, size)
	for i := range m.table {
		m.table[i] = -1
	}
	left := size
	for round := 1.0; left > 0; round++ {
		for i := range order {
			h := &order[i]
			if left == 0 {
				return
			}
			if round*h.share < h.target {
				continue
			}
			h.target += most
			at := (h.offset + h.skip*h.next) % size
			for m.table[at] >= 0 {
				h.next++
				at = (h.offset + h.skip*h.next) % size
			}
			m.table[at] = h.host
			h.next++
			h.count++
			left--
		}
	}
}

// Pick returns the host of a hash, -1 if there are no hosts. Further attempts for the
// same hash look elsewhere.
func (m *Maglev) Pick(hash uint64, attempt int) int {
	if len(m.table) == 0 {
		return -1
	}
	if attempt > 0 {
		hash ^= -uint64(attempt)
	}
	return int(m.table[hash%uint64(len(m.table))])
}

// Spread returns how evenly the table is filled.
func (m *Maglev) Spread() Spread { return m.spread }

// IsPrime reports whether n is a prime number, as the size of a table must be.
func IsPrime(n uint64) bool {
	if n < 4 {
		return n > 1
	}
	if n%2 == 0 {
		return false
	}
	for d := uint64(3); d*d <= n; d += 2 {
		if n%d == 0 {
			return false
		}
	}
	return true
}
