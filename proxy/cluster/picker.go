package cluster

import (
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/cluster/lb"
)

// picker chooses among hosts of one kind. Its pick is safe for concurrent use.
type picker interface{ pick() *Host }

// lazyPicker is hosts, and the picker that is made of them when it is asked for.
type lazyPicker struct {
	hosts []*Host
	made  atomic.Pointer[madePicker]
	mu    sync.Mutex
}

type madePicker struct{ picker }

// pick chooses a host; nil if there is none.
func (l *lazyPicker) pick(s *spread) *Host {
	if m := l.made.Load(); m != nil {
		return m.pick()
	}
	switch len(l.hosts) {
	case 0:
		return nil
	case 1:
		return l.hosts[0]
	}
	l.mu.Lock()
	m := l.made.Load()
	if m == nil {
		m = &madePicker{newPicker(s.env, s.policy, l.hosts)}
		l.made.Store(m)
	}
	l.mu.Unlock()
	return m.pick()
}

// newPicker makes the picker of a policy for two hosts or more. Where it begins is
// left to chance, so that not every proxy begins with the same host.
func newPicker(env *lbEnv, p *Policy, hosts []*Host) picker {
	rnd := env.m.rnd
	slow := newSlowStart(env, &p.SlowStart, hosts)
	equal := weightsEqual(hosts) && slow == nil
	switch p.Kind {
	case Random:
		return &randomPicker{hosts, rnd}
	case PeakEWMALB:
		return &peakEWMA{hosts, &p.Latency, env}
	case LeastRequestLB:
		switch {
		case equal && p.LeastRequest.FullScan:
			return &leastOfAll{hosts, rnd}
		case equal:
			return &leastRequest{hosts, max(p.LeastRequest.Choices, 2), rnd}
		}
		bias := p.LeastRequest.Bias.On(env.m.options.Runtime)
		return newScheduled(hosts, rnd, func(h *Host) float64 { return slow.weight(h, loadedWeight(h, bias.Get())) })
	case RoundRobin:
		if equal {
			r := &roundRobin{hosts: hosts}
			r.next.Store(rnd() % uint64(len(hosts)))
			return r
		}
	}
	return newScheduled(hosts, rnd, func(h *Host) float64 { return slow.weight(h, float64(h.weight())) })
}

func weightsEqual(hosts []*Host) bool {
	for _, h := range hosts {
		if h.Weight != hosts[0].Weight {
			return false
		}
	}
	return true
}

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

// scheduled picks by weight.
type scheduled struct {
	hosts []*Host
	by    *lb.Schedule
}

func newScheduled(hosts []*Host, rnd func() uint64, weight func(*Host) float64) *scheduled {
	return &scheduled{hosts, lb.NewSchedule(len(hosts), rnd(), func(i int) float64 { return weight(hosts[i]) })}
}

func (s *scheduled) pick() *Host { return s.hosts[s.by.Next()] }
