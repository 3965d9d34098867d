package cluster

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster/orca"
)

// hostLoad is what a host's answers say about its load. All of it is atomic.
type hostLoad struct {
	weight atomic.Uint32 // in effect, 0 is that of the assignment (ClientWeightedLB)

	reported atomic.Uint32 // the weight that the last report amounts to
	first    atomic.Int64  // when the first one came, and one more; 0 is never
	last     atomic.Int64  // when the last one came

	ewma atomic.Uint64 // bits of a float64: milliseconds (PeakEWMALB)
	seen atomic.Int64  // when ewma was updated
}

// weight is what counts in load balancing now.
func (h *Host) weight() uint32 {
	if w := h.ep.load.weight.Load(); w > 0 {
		return w
	}
	return h.Weight
}

// Reports tells whether the answers of hosts are to be handed to Report. It is cheap.
func (c *Cluster) Reports() bool {
	switch c.picks().Kind {
	case ClientWeightedLB, PeakEWMALB:
		return true
	}
	return false
}

// picks returns the policy that chooses hosts in the end.
func (c *Cluster) picks() *Policy {
	p := &c.Spec().Policy
	for p.Child != nil {
		p = p.Child
	}
	return p
}

// Report takes note of how long a host took to answer, and of the load report (ORCA) among
// header fields or trailers. A took of 0 or less is not known.
func (c *Cluster) Report(h *Host, took time.Duration, fields orca.Fields) {
	switch p := c.picks(); p.Kind {
	case PeakEWMALB:
		if took > 0 {
			h.ep.load.answered(took, c.m.now(), p.Latency.Decay)
		}
	case ClientWeightedLB:
		if r, ok := orca.FromFields(fields); ok {
			h.ep.load.report(&r, &p.Reports, c.m.now())
		}
	}
}

// report takes a load report over, if it amounts to a weight: requests a second for
// each unit of utilization, errors counting as more of it.
func (l *hostLoad) report(r *orca.Report, p *LoadReports, now time.Duration) {
	if r.RPS <= 0 {
		return
	}
	used := r.Utilization(p.Metrics) + p.ErrorPenalty*r.EPS/r.RPS
	if used <= 0 {
		return
	}
	l.reported.Store(uint32(min(r.RPS/used, math.MaxUint32)))
	l.last.Store(int64(now))
	l.first.CompareAndSwap(0, int64(now)+1)
}

// current returns the reported weight, if it is neither too new nor too old. One that
// is too old begins its blackout anew with the next report.
func (l *hostLoad) current(p *LoadReports, now time.Duration) (weight uint32, ok bool) {
	first := l.first.Load()
	if first == 0 || time.Duration(first-1) > now-p.Blackout {
		return 0, false
	}
	if time.Duration(l.last.Load()) < now-p.Expiration {
		l.first.Store(0)
		return 0, false
	}
	return l.reported.Load(), true
}

// weigh gives each host the weight that it reported; those that did not report the
// median of the others, 1 if there are none.
func weigh(hosts []*Host, p *LoadReports, now time.Duration) {
	var known []uint32
	var others []*Host
	for _, h := range hosts {
		w, ok := h.ep.load.current(p, now)
		if !ok {
			others = append(others, h)
			continue
		}
		known = append(known, w)
		h.ep.load.weight.Store(max(w, 1))
	}
	median := uint32(1)
	if n := len(known); n > 0 {
		slices.Sort(known)
		if median = known[n/2]; n%2 == 0 {
			median = uint32((uint64(known[n/2-1]) + uint64(known[n/2])) / 2)
		}
	}
	for _, h := range others {
		h.ep.load.weight.Store(max(median, 1))
	}
}

// startWeighing makes the weights of ClientWeightedLB follow the reports. The manager's
// lock is held.
func (c *Cluster) startWeighing() {
	p := c.picks()
	if p.Kind != ClientWeightedLB || c.weighing != nil {
		return
	}
	c.weighing = &event{}
	c.weighing.run = func() {
		weigh(c.run.Load().hosts.all, &p.Reports, c.m.now())
		c.m.mu.Lock()
		defer c.m.unlock()
		if !c.ended && !c.m.closed {
			c.m.agenda.set(c.weighing, time.Now().Add(p.Reports.Update))
		}
	}
	c.m.agenda.set(c.weighing, time.Now().Add(p.Reports.Update))
}

// peakEWMA picks the better of two random hosts: the one whose answers take less time,
// times how many it is busy with.
type peakEWMA struct {
	hosts []*Host
	p     *Latency
	env   *lbEnv
}

func (p *peakEWMA) pick() *Host {
	n, r := uint64(len(p.hosts)), p.env.m.rnd()
	i := r >> 32 % n
	j := r & math.MaxUint32 % (n - 1)
	if j >= i {
		j++
	}
	a, b := p.hosts[i], p.hosts[j]
	now := p.env.m.now()
	if b.cost(p.p, now) < a.cost(p.p, now) {
		return b
	}
	return a
}

// cost is what a request to a host is expected to cost, in milliseconds. What a host was
// like that has not answered for long is not what it is like: it gets a request to tell.
func (h *Host) cost(p *Latency, now time.Duration) float64 {
	busy, took := float64(h.ep.stats.RqActive.Value()), math.Float64frombits(h.ep.load.ewma.Load())
	switch {
	case took > 0 && (busy > 0 || now-time.Duration(h.ep.load.seen.Load()) < p.Decay):
		return took * (busy + 1)
	case busy > 0: // nothing is known but that it has not answered
		return p.Penalty + busy
	}
	return float64(p.Default) / float64(time.Millisecond)
}

// answered updates the moving average of how long answers take: what is older than
// decay hardly counts.
func (l *hostLoad) answered(took, now, decay time.Duration) {
	ms := float64(took) / float64(time.Millisecond)
	for {
		old := l.ewma.Load()
		before := l.seen.Load()
		avg := math.Float64frombits(old)
		if avg == 0 {
			avg = ms
		} else {
			part := 1.0
			if since := now - time.Duration(before); since > 0 {
				part = 1 - math.Exp(-float64(since)/float64(decay))
			}
			avg += part * (ms - avg)
		}
		if l.ewma.CompareAndSwap(old, math.Float64bits(avg)) {
			l.seen.Store(int64(now))
			return
		}
	}
}
