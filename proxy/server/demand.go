package server

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// maxWaiting is how many requests and connections may wait for configuration at once.
const maxWaiting = 1024

// demandCounters are on_demand.*.
type demandCounters struct {
	Waiting  stats.Gauge   `stat:"waiting" help:"Requests and connections that wait for a cluster, a virtual host or a route table that they need."`
	Found    stats.Counter `stat:"found" help:"Waits that ended with what was waited for."`
	Missing  stats.Counter `stat:"missing" help:"Waits for what the control plane does not have, or that ended early."`
	Timeout  stats.Counter `stat:"timeout" help:"Waits that lasted too long."`
	Overflow stats.Counter `stat:"overflow" help:"Requests and connections that did not wait, because too many did."`
}

// Asker subscribes to what is wanted. It may answer with Server.Arrived at once.
type Asker interface {
	Ask(w filter.Wanted)
	// Forget takes an Ask back that brought nothing.
	Forget(w filter.Wanted)
	// Idle tells that nobody uses a cluster any more that a request had asked for.
	Idle(cluster string)
}

// demand is who waits for what. It implements filter.Demand.
type demand struct {
	counters demandCounters
	present  func(filter.Wanted) bool // whether it is there by now

	asking sync.Mutex // orders the calls of asker; taken before mu
	asker  Asker      // nil: nobody delivers anything

	mu      sync.Mutex
	wants   map[filter.Wanted]*want
	waiting int
}

// want is one thing that is waited for.
type want struct {
	done  chan struct{}
	found bool // read after done
	users int
}

// Wait implements filter.Demand.
func (d *demand) Wait(ctx context.Context, w filter.Wanted, timeout time.Duration) bool {
	e, fresh := d.join(&w)
	if e == nil {
		return false
	}
	if fresh {
		d.ask(w)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	late := false
	select {
	case <-e.done:
	case <-ctx.Done():
	case <-timer.C:
		late = true
	}
	return d.leave(w, e, late)
}

// join counts one more who waits; w gets strings of its own. There is nothing to wait on
// if too many do.
func (d *demand) join(w *filter.Wanted) (e *want, fresh bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting >= maxWaiting {
		d.counters.Overflow.Inc()
		return nil, false
	}
	d.waiting++
	d.counters.Waiting.Inc()
	w.From, w.Name = strings.Clone(w.From), strings.Clone(w.Name)
	if e = d.wants[*w]; e == nil {
		e, fresh = &want{done: make(chan struct{})}, true
		d.wants[*w] = e
	}
	e.users++
	return e, fresh
}

func (d *demand) ask(w filter.Wanted) {
	d.asking.Lock()
	defer d.asking.Unlock()
	if d.asker == nil {
		d.arrived(w, false)
		return
	}
	d.asker.Ask(w)
	if d.present(w) { // it came before anybody waited
		d.arrived(w, true)
	}
}

// leave ends a wait. The last one who waited in vain takes the question back, so that the
// names that clients make up do not add up.
func (d *demand) leave(w filter.Wanted, e *want, late bool) bool {
	d.mu.Lock()
	d.waiting--
	d.counters.Waiting.Dec()
	e.users--
	found := false
	select {
	case <-e.done:
		found = e.found
	default:
		if e.users == 0 && d.wants[w] == e {
			delete(d.wants, w)
		}
	}
	vain := !found && e.users == 0
	d.mu.Unlock()
	switch {
	case found:
		d.counters.Found.Inc()
	case late:
		d.counters.Timeout.Inc()
	default:
		d.counters.Missing.Inc()
	}
	if vain {
		d.forget(w)
	}
	return found
}

// forget takes a question back unless somebody has asked it again meanwhile.
func (d *demand) forget(w filter.Wanted) {
	d.asking.Lock()
	defer d.asking.Unlock()
	d.mu.Lock()
	again := d.wants[w] != nil
	d.mu.Unlock()
	if !again && d.asker != nil {
		d.asker.Forget(w)
	}
}

func (d *demand) arrived(w filter.Wanted, found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.wants[w]; e != nil {
		delete(d.wants, w)
		e.found = found
		close(e.done)
	}
}

// such returns what is waited for of a kind.
func (d *demand) such(kind filter.WantedKind) (out []filter.Wanted) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.wants {
		if w.Kind == kind {
			out = append(out, w)
		}
	}
	return out
}

// OnDemand tells who is asked for what is wanted; without, nothing is. It is called once,
// before any listener is set.
func (s *Server) OnDemand(a Asker) {
	s.demand.asking.Lock()
	defer s.demand.asking.Unlock()
	s.demand.asker = a
}

// Arrived implements xds.Engine.
func (s *Server) Arrived(w filter.Wanted, found bool) { s.demand.arrived(w, found) }

// clusterIdle lets whoever has asked for a cluster give it back.
func (s *Server) clusterIdle(name string) {
	d := &s.demand
	d.asking.Lock()
	defer d.asking.Unlock()
	if d.asker != nil {
		d.asker.Idle(name)
	}
}

// clusterArrived ends the waits for a cluster, from wherever it has come.
func (s *Server) clusterArrived(name string) {
	for _, w := range s.demand.such(filter.WantedCluster) {
		if w.Name == name && s.Clusters.Cluster(name) != nil {
			s.demand.arrived(w, true)
		}
	}
}

// scopesArrived ends the waits for tables of scopes that have been answered.
func (s *Server) scopesArrived() {
	for _, w := range s.demand.such(filter.WantedScope) {
		s.mu.Lock()
		var src *routeSource
		if sc := s.scopes[w.From]; sc != nil {
			src, _ = sc.Find(w.Name).(*routeSource)
		}
		answered := src != nil && src.answered
		s.mu.Unlock()
		if answered {
			s.demand.arrived(w, src.Current() != nil)
		}
	}
}

// there reports whether something that is wanted has come.
func (s *Server) there(w filter.Wanted) bool {
	switch w.Kind {
	case filter.WantedCluster:
		return s.Clusters.Cluster(w.Name) != nil
	case filter.WantedScope:
		s.mu.Lock()
		defer s.mu.Unlock()
		sc := s.scopes[w.From]
		if sc == nil {
			return false
		}
		src := sc.Find(w.Name)
		return src != nil && src.Current() != nil
	}
	return false // whoever delivers virtual hosts knows
}
