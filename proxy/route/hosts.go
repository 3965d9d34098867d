package route

import (
	"sync/atomic"
	"time"
)

// A mesh has many more virtual hosts than a proxy sends requests to. Of those of a large
// table only the domains are kept: they are made by the first request that needs them, from
// what was validated when the table came, and given back when no request has for a while.

// idleHost is how long a virtual host that can be made again stays without a request: at
// least so long, at most twice.
const idleHost = 10 * time.Minute

// Deferred is a virtual host of a table, or the way to it.
type Deferred struct {
	Domains []string
	Host    *VirtualHost // nil: Make of the table makes it
}

// hosts are the virtual hosts of a table.
type hosts struct {
	slots []hostSlot
	make  func(i int) *VirtualHost // nil: all are there
	swept atomic.Bool              // a sweep is due
}

// hostSlot is a virtual host. The second word spares the others' a write for each request.
type hostSlot struct {
	made atomic.Pointer[VirtualHost] // nil until it is needed
	use  atomic.Uint32
}

// What hostSlot.use says.
const (
	idle  = iota // not used since the last sweep
	used         // used since
	fixed        // stays
)

func newHosts(list []Deferred, make1 func(i int) *VirtualHost) *hosts {
	h := &hosts{slots: make([]hostSlot, len(list)), make: make1}
	for i := range list {
		if vh := list[i].Host; vh != nil {
			vh.list.compile(vh.Routes, vh)
			h.slots[i].made.Store(vh)
			h.slots[i].use.Store(fixed)
		}
	}
	return h
}

// at returns the i-th virtual host; nil for -1.
func (h *hosts) at(i int32) *VirtualHost {
	if i < 0 {
		return nil
	}
	s := &h.slots[i]
	vh := s.made.Load()
	if vh == nil {
		vh = h.need(int(i))
	}
	if s.use.Load() == idle {
		s.use.Store(used)
	}
	return vh
}

// need makes a virtual host. If two requests do at once, the first one's counts.
func (h *hosts) need(i int) *VirtualHost {
	vh := h.make(i)
	vh.list.compile(vh.Routes, vh)
	s := &h.slots[i]
	for !s.made.CompareAndSwap(nil, vh) {
		if other := s.made.Load(); other != nil {
			return other
		}
	}
	h.expectSweep()
	return vh
}

func (h *hosts) expectSweep() {
	if !h.swept.Swap(true) {
		time.AfterFunc(idleHost, h.sweep)
	}
}

// sweep gives back what was made and not used since the last one. Requests that are under
// way keep what they have.
func (h *hosts) sweep() {
	h.swept.Store(false)
	left := false
	for i := range h.slots {
		s := &h.slots[i]
		if s.made.Load() == nil || s.use.Load() == fixed {
			continue
		}
		if s.use.Swap(idle) == idle {
			s.made.Store(nil)
		} else {
			left = true
		}
	}
	if left {
		h.expectSweep()
	}
}
