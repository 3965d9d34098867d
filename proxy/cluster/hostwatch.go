package cluster

import (
	"slices"
	"sync"
)

// HostWatcher is told of the hosts of a cluster, for who looks after their health.
type HostWatcher struct {
	// Begin returns the flags of a host before anybody can pick it, FailedActiveHC for
	// one that was not checked yet. It is called with locks held: it returns at once and
	// calls nothing of this package. Nil is no flags.
	Begin func(h *Host) HealthFlags
	// Changed is told which hosts have come and gone since the call before it; the first
	// call is about all that are there. A host about which something else has changed is
	// neither. Calls come one after the other, without locks of this package, from
	// whoever changed the hosts. It must not call stop.
	Changed func(added, removed []*Host)
}

// hostWatch is a HostWatcher at work.
type hostWatch struct {
	HostWatcher
	mu      sync.Mutex // held during a call
	known   map[*endpoint]*Host
	stopped bool
	passive bool // it does not keep the cluster in use
}

// hostWatches are the watchers of a cluster.
type hostWatches struct {
	mu   sync.Mutex
	list []*hostWatch // replaced, never changed
	gone bool         // the cluster was removed
}

// WatchHosts tells w of the hosts that the cluster has from now on, in whatever version,
// until stop, or until it is removed, which all its hosts are then, too. Those of an
// aggregate, which are its members', are not watched; Begin is not asked about hosts that
// come about as requests ask for them (ORIGINAL_DST, dynamic forward proxy): those are used
// at once.
func (c *Cluster) WatchHosts(w HostWatcher) (stop func()) {
	co := c.running().core
	one := &hostWatch{HostWatcher: w}
	co.watches.add(one)
	if w.Begin != nil {
		for _, h := range co.hosts() {
			c.SetFlags(h, w.Begin(h), 0)
		}
	}
	one.look(co)
	return func() {
		co.watches.remove(one)
		one.stop()
	}
}

func (ws *hostWatches) add(w *hostWatch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.list = append(slices.Clone(ws.list), w)
}

func (ws *hostWatches) remove(w *hostWatch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.list = slices.DeleteFunc(slices.Clone(ws.list), func(o *hostWatch) bool { return o == w })
}

// stop returns when no call is under way any more, and none is to come.
func (w *hostWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
}

// hosts returns those of the newest version in use.
func (co *core) hosts() []*Host {
	co.watches.mu.Lock()
	gone := co.watches.gone
	co.watches.mu.Unlock()
	c := co.newest.Load()
	if gone || c == nil {
		return nil
	}
	if r := c.run.Load(); r != nil {
		return r.list()
	}
	return nil
}

// has reports whether an endpoint is among the hosts that requests ask for.
func (co *core) has(h *Host) bool {
	c := co.newest.Load()
	if c == nil {
		return false
	}
	r := c.run.Load()
	return r != nil && r.own != nil && r.own.has(h)
}

// first gives a new host its first flags.
func (co *core) first(h *Host) {
	if h.ep.begun {
		return
	}
	h.ep.begun = true
	ws := &co.watches
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.list {
		if w.Begin != nil {
			h.ep.flags.Or(uint32(w.Begin(h) &^ edsFlags))
		}
	}
}

// tell is called, without locks, after the hosts have changed. Who is late finds that
// there is nothing left to tell: what counts is what there is when a watcher is called.
func (co *core) tell() {
	co.watches.mu.Lock()
	list := co.watches.list
	co.watches.mu.Unlock()
	for _, w := range list {
		w.look(co)
	}
}

func (w *hostWatch) look(co *core) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	hosts := co.hosts()
	now := make(map[*endpoint]*Host, len(hosts))
	var added, removed []*Host
	for _, h := range hosts {
		if now[h.ep] == nil && w.known[h.ep] == nil { // once, however often it is listed
			added = append(added, h)
		}
		now[h.ep] = h
	}
	for ep, h := range w.known {
		if now[ep] == nil {
			removed = append(removed, h)
		}
	}
	w.known = now
	if len(added)+len(removed) > 0 {
		w.Changed(added, removed)
	}
}

// asked is called, without locks, when hosts that requests ask for have come or gone. Who is
// late finds that there is nothing to tell, as with tell.
func (co *core) asked(hosts ...*Host) {
	co.watches.mu.Lock()
	list := co.watches.list
	co.watches.mu.Unlock()
	for _, w := range list {
		w.step(co, hosts)
	}
}

func (w *hostWatch) step(co *core, hosts []*Host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	var added, removed []*Host
	for _, h := range hosts {
		switch there, known := co.has(h), w.known[h.ep] != nil; {
		case there && !known:
			added = append(added, h)
			if w.known == nil {
				w.known = map[*endpoint]*Host{}
			}
			w.known[h.ep] = h
		case !there && known:
			removed = append(removed, h)
			delete(w.known, h.ep)
		}
	}
	if len(added)+len(removed) > 0 {
		w.Changed(added, removed)
	}
}
