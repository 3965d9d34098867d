package cluster

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// maxOriginalHosts bounds how many destinations a cluster remembers at a time; beyond
// it the ones that nobody uses go at once.
const maxOriginalHosts = 64 << 10

// originalHosts are the hosts of an ORIGINAL_DST cluster: one for each destination
// that somebody asked for, forgotten when nobody does any more.
type originalHosts struct {
	g       *group
	mu      sync.RWMutex
	hosts   map[meta.Addr]*originalHost
	health  askedHosts
	cleanup event
	busy    bool // cleanup is on the agenda
}

type originalHost struct {
	Host
	used atomic.Bool // since the last cleanup
}

func newOriginalHosts(g *group) *originalHosts {
	o := &originalHosts{g: g, hosts: map[meta.Addr]*originalHost{}, health: askedHosts{core: g.core}}
	o.cleanup.run = o.clean
	return o
}

// pick implements ownHosts: the host that a request was meant for, whatever its health.
func (o *originalHosts) pick(c *Cluster, a *Attempt) *Host {
	to, ok := originalAddr(c.Spec(), a)
	if !ok {
		o.g.core.stats.OriginalDstHostInvalid.Inc()
		return nil
	}
	if !to.Known() {
		return nil
	}
	o.mu.RLock()
	h := o.hosts[to]
	o.mu.RUnlock()
	if h == nil {
		h = o.add(to)
	}
	if !h.used.Load() {
		h.used.Store(true)
	}
	return &h.Host
}

// originalDstState is the filter state by which a filter says where a connection goes.
const originalDstState = "envoy.network.transport_socket.original_dst_address"

// originalAddr returns where an attempt goes; no address if it does not say, false
// if what it says is none.
func originalAddr(s *Spec, a *Attempt) (meta.Addr, bool) {
	var to meta.Addr
	if a == nil {
		return to, true
	}
	if a.Conn != nil && a.Conn.LocalRestored {
		to = a.Conn.Local
	}
	if a.State != nil {
		if text, ok := a.State.FilterState(originalDstState).(string); ok {
			ap, err := netip.ParseAddrPort(text)
			if err != nil {
				return meta.Addr{}, false
			}
			to = meta.Addr{AddrPort: ap}
		}
	}
	if d := &s.OriginalDst; d.MetadataKey != "" && a.Metadata != nil {
		if v, ok := a.Metadata.Find(d.MetadataKey, d.MetadataPath...); ok {
			text, _ := v.(string)
			ap, err := netip.ParseAddrPort(text)
			if err != nil {
				return meta.Addr{}, false
			}
			to = meta.Addr{AddrPort: ap}
		}
	}
	if s.OriginalDst.UseHTTPHeader && a.Headers != nil {
		if v := a.Headers.Get(s.OriginalDst.header()); v != "" {
			ap, err := netip.ParseAddrPort(v)
			if err != nil {
				return meta.Addr{}, false
			}
			to = meta.Addr{AddrPort: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
		}
	}
	if p := s.OriginalDst.PortOverride; p != 0 && to.AddrPort.IsValid() {
		to.AddrPort = netip.AddrPortFrom(to.Addr(), p)
	}
	return to, true
}

func (d *OriginalDst) header() string {
	if d.HTTPHeader == "" {
		return "x-envoy-original-dst-host"
	}
	return d.HTTPHeader
}

func (o *originalHosts) add(to meta.Addr) *originalHost {
	o.mu.Lock()
	h := o.hosts[to]
	full := h == nil && len(o.hosts) >= maxOriginalHosts
	fresh := h == nil && !full
	if fresh {
		h = o.make(to)
		o.hosts[to] = h
		o.health.changed(len(o.hosts))
		if !o.busy {
			o.busy = true
			o.g.m.agenda.set(&o.cleanup, time.Now().Add(o.every()))
		}
	}
	if h == nil { // full: this one is not remembered, nor are its connections kept
		h = o.make(to)
		h.ep.retire()
	}
	o.mu.Unlock()
	if fresh {
		o.g.core.asked(&h.Host)
	}
	return h
}

func (o *originalHosts) make(to meta.Addr) *originalHost {
	h := &originalHost{Host: Host{Addr: to, Weight: 1, ep: newEndpoint(o.g)}}
	h.used.Store(true)
	return h
}

func (o *originalHosts) every() time.Duration {
	if d := o.g.spec.Load().CleanupEvery; d > 0 {
		return d
	}
	return 5 * time.Second
}

// clean forgets the hosts that were not asked for since it ran last and that are not
// in use. It runs on the agenda.
func (o *originalHosts) clean() {
	var gone []*Host
	o.mu.Lock()
	for a, h := range o.hosts {
		if !h.used.Swap(false) && h.ep.stats.RqActive.Value() == 0 {
			delete(o.hosts, a)
			gone = append(gone, &h.Host)
		}
	}
	if len(gone) > 0 {
		o.health.changed(len(o.hosts), gone...)
	}
	if o.busy = len(o.hosts) > 0; o.busy {
		o.g.m.agenda.set(&o.cleanup, time.Now().Add(o.every()))
	}
	o.mu.Unlock()
	for _, h := range gone {
		h.ep.retire()
	}
	o.g.core.asked(gone...)
}

// drop forgets everything.
func (o *originalHosts) drop() {
	o.mu.Lock()
	all := o.hosts
	o.hosts = map[meta.Addr]*originalHost{}
	o.mu.Unlock()
	o.g.m.agenda.cancel(&o.cleanup)
	for _, h := range all {
		h.ep.retire()
	}
}

// has implements ownHosts.
func (o *originalHosts) has(h *Host) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	there := o.hosts[h.Addr]
	return there != nil && there.ep == h.ep
}

// recount implements ownHosts.
func (o *originalHosts) recount() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.health.count(o.each)
}

func (o *originalHosts) list() []*Host {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return slices.AppendSeq(make([]*Host, 0, len(o.hosts)), o.each)
}

// each goes over the hosts. The lock is held.
func (o *originalHosts) each(yield func(*Host) bool) {
	for _, h := range o.hosts {
		if !yield(&h.Host) {
			return
		}
	}
}
