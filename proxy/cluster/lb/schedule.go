package lb

import "sync"

// Schedule is an earliest-deadline-first schedule: each host comes up as often as its
// weight says, and as evenly as can be. A weight is asked for each time that the host
// comes up, so it may change. Schedule is safe for concurrent use.
type Schedule struct {
	weight func(int) float64

	mu   sync.Mutex
	heap []turn // by deadline
	seq  uint64
}

type turn struct {
	deadline float64
	seq      uint64 // who came first, for equal deadlines
	host     int
}

// NewSchedule returns a schedule of n hosts, 1 or more, that begins somewhere: seed
// decides. All weights are more than 0.
func NewSchedule(n int, seed uint64, weight func(int) float64) *Schedule {
	s := &Schedule{weight: weight, heap: make([]turn, n), seq: uint64(n)}
	for i := range s.heap {
		s.heap[i] = turn{1 / weight(i), uint64(i), i}
	}
	for i := n/2 - 1; i >= 0; i-- {
		s.down(i)
	}
	for range seed % uint64(n) {
		s.Next()
	}
	return s
}

// Next returns the host whose turn it is.
func (s *Schedule) Next() int {
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

func (s *Schedule) down(i int) {
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
