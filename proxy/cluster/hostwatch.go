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
	known   []*Host
	stopped bool
}

// hostWatches are the watchers of a cluster.
type hostWatches struct {
	mu   sync.Mutex
	list []*hostWatch // replaced, never changed
	gone bool         // the cluster was removed
}

// WatchHosts tells w of the hosts that the cluster has from now on, in whatever version,
// until stop, or until it is removed, which all its hosts are then, too. Hosts that come
// about as requests ask for them (ORIGINAL_DST, dynamic forward proxy) are not watched,
// nor are those of an aggregate, which are its members'.
func (c *Cluster) WatchHosts(w HostWatcher) (stop func()) {
	co := c.running().core
	one := &hostWatch{HostWatcher: w}
	co.watches.mu.Lock()
	co.watches.list = append(slices.Clone(co.watches.list), one)
	co.watches.mu.Unlock()
	if w.Begin != nil {
		for _, h := range co.hosts() {
			c.SetFlags(h, w.Begin(h), 0)
		}
	}
	one.look(co)
	return func() {
		co.watches.mu.Lock()
		co.watches.list = slices.DeleteFunc(slices.Clone(co.watches.list), func(o *hostWatch) bool { return o == one })
		co.watches.mu.Unlock()
		one.mu.Lock()
		one.stopped = true
		one.mu.Unlock()
	}
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
		return r.hosts.all
	}
	return nil
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
	now := co.hosts()
	added, removed := missing(now, w.known), missing(w.known, now)
	w.known = now
	if len(added)+len(removed) > 0 {
		w.Changed(added, removed)
	}
}

// missing returns the hosts of a that are not in b.
func missing(a, b []*Host) []*Host {
	there := make(map[*endpoint]bool, len(b))
	for _, h := range b {
		there[h.ep] = true
	}
	var out []*Host
	for _, h := range a {
		if !there[h.ep] {
			there[h.ep] = true // once, however often it is listed
			out = append(out, h)
		}
	}
	return out
}
