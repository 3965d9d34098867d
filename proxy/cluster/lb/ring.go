package lb

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/match"
)

// Keyed is a host as consistent hashing sees it: the key that its hashes are made of and
// its share of the load. All shares sum up to 1.
type Keyed struct {
	Key   string
	Share float64
}

// Spread is how evenly a table was filled, for statistics: its size, and how many places
// in it the hosts have that have fewest and most.
type Spread struct{ Size, Min, Max uint64 }

// Ring is a ketama ring: each host stands at several points of a circle, and a hash
// belongs to the host at the next point. It has the points of Envoy's RING_HASH.
type Ring struct {
	points []point // by hash
	spread Spread
}

type point struct {
	hash uint64
	host int32
}

// RingSize bounds how many points a ring has, and says which hash they are made by.
type RingSize struct {
	Min, Max uint64
	Murmur2  bool // hash_function MURMUR_HASH_2 in place of XX_HASH
}

// NewRing builds a ring. The host with the smallest share gets a whole number of
// points, as long as all of them together are not too many.
func NewRing(hosts []Keyed, size RingSize) *Ring {
	r := &Ring{}
	if len(hosts) == 0 {
		return r
	}
	least := 1.0
	for i := range hosts {
		least = min(least, hosts[i].Share)
	}
	scale := min(math.Ceil(least*float64(size.Min))/least, float64(size.Max))
	r.spread = Spread{Size: uint64(math.Ceil(scale)), Min: uint64(math.Ceil(scale))}
	r.points = make([]point, 0, r.spread.Size)
	var key []byte
	have, want := 0.0, 0.0
	for h := range hosts {
		key = append(append(key[:0], hosts[h].Key...), '_')
		name, n := len(key), uint64(0)
		for want += scale * hosts[h].Share; have < want; have++ {
			key = strconv.AppendUint(key[:name], n, 10)
			n++
			if size.Murmur2 {
				r.points = append(r.points, point{Murmur2(key), int32(h)})
			} else {
				r.points = append(r.points, point{match.Hash64(key, 0), int32(h)})
			}
		}
		r.spread.Min, r.spread.Max = min(r.spread.Min, n), max(r.spread.Max, n)
	}
	slices.SortFunc(r.points, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	return r
}

// Pick returns the host of a hash, -1 if there are no hosts. Further attempts for the
// same hash go on around the ring.
func (r *Ring) Pick(hash uint64, attempt int) int {
	n := len(r.points)
	if n == 0 {
		return -1
	}
	i := sort.Search(n, func(i int) bool { return r.points[i].hash >= hash })
	return int(r.points[(i+attempt)%n].host)
}

// Spread returns how evenly the ring is filled.
func (r *Ring) Spread() Spread { return r.spread }
