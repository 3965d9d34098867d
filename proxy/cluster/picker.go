package cluster

import (
	"math"
	"sync"
	"sync/atomic"
)

// newPicker makes the picker of a policy for some hosts; nil if there are none. Where
// it begins is left to chance, so that not every proxy begins with the same host.
func newPicker(s *Spec, hosts []*Host, rnd func() uint64) picker {
	if len(hosts) == 0 {
		return nil
	}
	if len(hosts) == 1 {
		return single{hosts[0]}
	}
	switch s.LB {
	case Random:
		return &randomPicker{hosts, rnd}
	case LeastRequestLB:
		if weightsEqual(hosts) {
			return &leastRequest{hosts, max(s.LeastRequest.Choices, 2), rnd}
		}
		bias := s.LeastRequest.Bias
		return newSchedule(hosts, rnd, func(h *Host) float64 { return loadedWeight(h, bias) })
	default:
		if weightsEqual(hosts) {
			r := &roundRobin{hosts: hosts}
			r.next.Store(rnd() % uint64(len(hosts)))
			return r
		}
		return newSchedule(hosts, rnd, func(h *Host) float64 { return float64(h.Weight) })
	}
}

func weightsEqual(hosts []*Host) bool {
	for _, h := range hosts {
		if h.Weight != hosts[0].Weight {
			return false
		}
	}
	return true
}

// loadedWeight is a host's weight, less for each request that it is busy with.
func loadedWeight(h *Host, bias float64) float64 {
	active := float64(h.ep.stats.RqActive.Value() + 1)
	switch bias {
	case 0:
		return float64(h.Weight)
	case 1:
		return float64(h.Weight) / active
	}
	return float64(h.Weight) / math.Pow(active, bias)
}

// single is the only host there is.
type single struct{ h *Host }

func (s single) pick() *Host { return s.h }

// roundRobin goes round.
type roundRobin struct {
	hosts []*Host
	next  atomic.Uint64
}

func (r *roundRobin) pick() *Host { return r.hosts[(r.next.Add(1)-1)%uint64(len(r.hosts))] }

// randomPicker picks any host; weights don't count, as in Envoy.
type randomPicker struct {
	hosts []*Host
	rnd   func() uint64
}

func (r *randomPicker) pick() *Host { return r.hosts[r.rnd()%uint64(len(r.hosts))] }

// leastRequest picks the least busy of a few random hosts.
type leastRequest struct {
	hosts   []*Host
	choices int
	rnd     func() uint64
}

func (l *leastRequest) pick() *Host {
	var best *Host
	for range l.choices {
		h := l.hosts[l.rnd()%uint64(len(l.hosts))]
		if best == nil || h.ep.stats.RqActive.Value() < best.ep.stats.RqActive.Value() {
			best = h
		}
	}
	return best
}

// schedule is an earliest-deadline-first schedule: each host comes up as often as its
// weight says, and as evenly as can be. The weight may change from pick to pick.
type schedule struct {
	weight func(*Host) float64

	mu   sync.Mutex
	heap []turn // by deadline
	seq  uint64
}

type turn struct {
	deadline float64
	seq      uint64 // who came first, for equal deadlines
	host     *Host
}

func newSchedule(hosts []*Host, rnd func() uint64, weight func(*Host) float64) *schedule {
	s := &schedule{weight: weight}
	for _, h := range hosts {
		s.heap = append(s.heap, turn{1 / weight(h), s.seq, h})
		s.seq++
	}
	for i := len(s.heap)/2 - 1; i >= 0; i-- {
		s.down(i)
	}
	for range rnd() % uint64(len(hosts)) {
		s.pick()
	}
	return s
}

func (s *schedule) pick() *Host {
	s.mu.Lock()
	t := &s.heap[0]
	h := t.host
	t.deadline += 1 / s.weight(h)
	t.seq = s.seq
	s.seq++
	s.down(0)
	s.mu.Unlock()
	return h
}

func (a *turn) before(b *turn) bool {
	return a.deadline < b.deadline || a.deadline == b.deadline && a.seq < b.seq
}

func (s *schedule) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(s.heap); c++ {
			if s.heap[c].before(&s.heap[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		s.heap[i], s.heap[least] = s.heap[least], s.heap[i]
		i = least
	}
}
