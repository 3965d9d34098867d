package cluster

import "sync"

// foreseen are hosts that were picked before anybody asked, so that there is a connection
// when somebody does (preconnect_policy.predictive_preconnect_ratio). Picks take them in
// this order, and so what was foreseen comes true.
type foreseen struct {
	mu    sync.Mutex
	hosts []*Host
}

// maxForesight is how many connections one request has made ahead at most.
const maxForesight = 3

// foreseeable reports whether the hosts of the next requests can be known: they depend on
// the order of requests alone.
func (s *Spec) foreseeable() bool {
	return s.Predict > 1 && (s.Policy.Kind == RoundRobin || s.Policy.Kind == Random)
}

// ordinary reports whether a pick is like every other one.
func (a *Attempt) ordinary() bool {
	return a == nil || a.Override.Addr == "" && len(a.Match) == 0 && len(a.Tried) == 0
}

// take returns the host that was foreseen for a pick, nil if there is none that is well.
func (f *foreseen) take() *Host {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.hosts) > 0 {
		h := f.hosts[0]
		f.hosts = f.hosts[1:]
		if !h.Flags().unhealthy() {
			return h
		}
	}
	f.hosts = nil
	return nil
}

// foresee returns a host of a request to come; nil when as many are foreseen as there are
// healthy hosts.
func (set *hostSet) foresee(a *Attempt) *Host {
	f, healthy := set.ahead, 0
	for i := range set.view.priorities {
		healthy += len(set.view.priorities[i].healthy)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.hosts) >= healthy {
		return nil
	}
	h, _ := set.root.pick(a, 0)
	if h != nil {
		f.hosts = append(f.hosts, h)
	}
	return h
}

// foresee makes connections for requests that follow the one that is about to get its own.
func (c *Cluster) foresee(a *Attempt) {
	r := c.running()
	if r.own != nil || r.hosts.ahead == nil || !a.ordinary() {
		return
	}
	for range maxForesight {
		p := &r.group.pools[a.priority()]
		if !p.scarce() {
			return
		}
		h := r.hosts.foresee(a)
		if h == nil || !p.prepare(h.hostPool(a), h) {
			return
		}
	}
}

// scarce reports whether there are fewer connections than the requests under way and the
// one to come should have.
func (p *pool) scarce() bool {
	active := p.group.core.stats.UpstreamRqActive.Value()
	p.mu.Lock()
	defer p.mu.Unlock()
	return float64(int64(p.waiting)+active+1)*p.group.predict > float64(p.open)*float64(p.group.streams)
}

// prepare begins a connection to a host that is to be picked, unless there are enough, or
// may not be more.
func (p *pool) prepare(hp *hostPool, h *Host) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	need := float64(hp.waiters.n+hp.busy()+1) * p.group.predict
	if hp.retired || p.drained || !h.wellEnough() || need <= float64(hp.spare()+hp.busy()) {
		return false
	}
	if hp.open > 0 && !p.room() || !hp.admits() {
		p.group.core.stats.UpstreamCxOverflow.Inc()
		return false
	}
	p.begin(hp, h)
	p.gauges()
	return true
}

// wellEnough reports whether connections to h may be made ahead.
func (h *Host) wellEnough() bool {
	f := h.Flags()
	return !f.unhealthy() && !f.degraded()
}

// spare is how many streams there is room for, or will be. The lock is held.
func (hp *hostPool) spare() int {
	if hp.expected() <= 1 && hp.streams == 0 {
		return hp.dials + hp.ready.n
	}
	spare := hp.dials * hp.expected()
	for n := hp.ready.front; n != nil; n = n.next {
		spare += n.owner.room()
	}
	return spare
}

// busy is how many streams are lent. The lock is held.
func (hp *hostPool) busy() int {
	if hp.expected() <= 1 && hp.streams == 0 {
		return hp.open - hp.dials - hp.ready.n
	}
	return hp.streams
}
