package lb

import (
	"math"
	"sync"
)

// Table chooses a host for a hash.
type Table interface {
	Pick(hash uint64, attempt int) int
	Spread() Spread
}

// Bounded is consistent hashing with bounded loads (arXiv 1608.01350): no host is busy
// with more than its share of what is in flight, times a factor. What a busy host
// does not take goes to the others in an order that the hash decides (arXiv 1908.08762).
type Bounded struct {
	Table
	Shares []float64
	Factor uint32               // hash_balance_factor in percent, 100 or more
	Active func(host int) int64 // requests in flight to a host
	Total  func() int64         // and to all of them

	scratch sync.Pool // of *shuffle
}

// shuffle is what it takes to go through the hosts in an order that a hash decides.
type shuffle struct {
	order []int32
	rnd   mersenne
}

// Pick returns the host of a hash, -1 if there are no hosts.
func (b *Bounded) Pick(hash uint64, attempt int) int {
	first := b.Table.Pick(hash, attempt)
	if first < 0 {
		return first
	}
	least := b.load(first)
	if least <= 1 {
		return first
	}
	s, ok := b.scratch.Get().(*shuffle)
	if !ok {
		s = &shuffle{order: make([]int32, len(b.Shares))}
	}
	defer b.scratch.Put(s)
	for i := range s.order {
		s.order[i] = int32(i)
	}
	s.rnd.seed(uint32(hash))
	best := first
	for i, n := 0, len(s.order); i < n; i++ {
		j := i + int(s.rnd.below(uint32(n-i)))
		s.order[i], s.order[j] = s.order[j], s.order[i]
		h := int(s.order[i])
		if h == first {
			continue
		}
		load := b.load(h)
		if load <= 1 {
			return h
		}
		if load < least {
			best, least = h, load
		}
	}
	return best
}

// load returns how busy a host is, in parts of what it may be.
func (b *Bounded) load(h int) float64 {
	slots := ((uint64(b.Total())+1)*uint64(b.Factor) + 99) / 100
	mine := max(math.Ceil(float64(slots)*b.Shares[h]), 1)
	return float64(b.Active(h)) / mine
}

// mersenne is the Mersenne Twister MT19937, by which Envoy orders the hosts.
type mersenne struct {
	state [624]uint32
	at    int
}

func (m *mersenne) seed(s uint32) {
	m.state[0], m.at = s, len(m.state)
	for i := 1; i < len(m.state); i++ {
		s = 1812433253*(s^s>>30) + uint32(i)
		m.state[i] = s
	}
}

func (m *mersenne) next() uint32 {
	const n, shift = 624, 397
	if m.at == n {
		for i := range n {
			y := m.state[i]&0x80000000 | m.state[(i+1)%n]&0x7fffffff
			v := m.state[(i+shift)%n] ^ y>>1
			if y&1 == 1 {
				v ^= 0x9908b0df
			}
			m.state[i] = v
		}
		m.at = 0
	}
	y := m.state[m.at]
	m.at++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// below returns a number from 0 to k-1, as even as can be.
func (m *mersenne) below(k uint32) uint32 {
	part := uint32((1 << 32) / uint64(k))
	if k == 1 {
		m.next()
		return 0
	}
	for {
		if x := m.next() / part; x < k {
			return x
		}
	}
}
