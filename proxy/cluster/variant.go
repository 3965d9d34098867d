package cluster

import (
	"fmt"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// variant tells apart connections to one host that must not be shared. The zero value
// is what nearly every cluster has only.
type variant struct {
	owner  uint64 // ID of the downstream connection, with PerDownstream
	socket string // which transport socket, where a cluster has several
	peer   string // what it makes of the peer
	from   meta.Source
	state  string // filter state that an internal listener is given
	http2  bool   // with AsDownstream
}

// hostPool returns where the connections of an attempt to h are.
func (h *Host) hostPool(a *Attempt) *hostPool {
	hp := &h.ep.pools[a.priority()]
	if !hp.pool.group.varies && (a == nil || (a.Conn == nil || a.Conn.UpstreamSource == nil) && (len(a.Shared) == 0 || !h.Addr.IsInternal())) {
		return hp
	}
	return hp.pool.variant(hp, h, a)
}

// variant returns the pool of the attempt's kind of connections, making it if there is
// none.
func (p *pool) variant(base *hostPool, h *Host, a *Attempt) *hostPool {
	s := p.group.spec.Load()
	v, peer, socket := variant{}, h.peer(a), s.socketFor(h)
	if s.HTTP.Protocol == AsDownstream && a != nil && a.Stream != nil {
		v.http2 = a.Stream.Protocol > meta.HTTP11
	}
	if s.PerDownstream && a != nil && a.Conn != nil {
		v.owner = a.Conn.ID
	}
	if peer.From != nil {
		v.from = *peer.From
	}
	if _, passes := socket.(*transport.Internal); passes {
		v.state = stateKey(peer.State)
	} else {
		peer.State = nil
	}
	if len(s.Sockets) > 0 {
		v.socket = socket.Key()
	}
	if b, ok := socket.(transport.Bound); ok {
		v.peer = b.PoolKey(peer)
	}
	if v == (variant{}) {
		return base
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	hp := base.variants[v]
	if hp == nil {
		kept := peer // only a pool that is made takes memory
		hp = &hostPool{pool: p, ep: base.ep, base: base, kind: v, peer: &kept, retired: base.retired}
		hp.need.owner = hp
		if base.variants == nil {
			base.variants = map[variant]*hostPool{}
		}
		base.variants[v] = hp
	}
	return hp
}

// stateKey tells apart what internal listeners are given: whoever sees the first request
// of a connection must not take it for the state of the next one.
func stateKey(objects []meta.Object) string {
	var b []byte
	for _, o := range objects {
		b = fmt.Appendf(b, "%q %t %q;", o.Key, o.Transitive, fmt.Sprint(o.Value))
	}
	return string(b)
}

// census notes whether there is anything in hp. The lock is held. What an empty variant
// was is forgotten: it may be of a downstream connection that is no more.
func (hp *hostPool) census() {
	alive := hp.open > 0 || hp.waiters.n > 0
	if alive == hp.alive {
		return
	}
	hp.alive = alive
	if alive {
		hp.pool.alive++
		if hp.base != nil && hp.base.variants[hp.kind] == nil { // it was forgotten while it was on its way here
			hp.base.variants[hp.kind] = hp
		}
		return
	}
	hp.pool.alive--
	if hp.base != nil && hp.base.variants[hp.kind] == hp {
		delete(hp.base.variants, hp.kind)
	}
}

// known reports whether hp can still be found by who needs a connection. The lock is held.
func (hp *hostPool) known() bool { return hp.base == nil || hp.base.variants[hp.kind] == hp }

// roomForPool reports whether hp may come to life (max_connection_pools). To make room
// it closes the connections of another pool all of which are idle. The lock is held.
func (p *pool) roomForPool(hp *hostPool) bool {
	limit := int(p.limits().MaxPools)
	if limit == 0 || hp.alive || p.alive < limit {
		return true
	}
	for n := p.idle.back; n != nil; n = n.prev {
		if o := n.owner.hp; o.ready.n == o.open && o.streams == 0 && o.waiters.n == 0 {
			for c := o.ready.last(); c != nil; c = o.ready.last() {
				p.close(c)
			}
			return true
		}
	}
	return false
}

// noteAll is note for everything that leads to hp's host. The lock is held.
func (hp *hostPool) noteAll() {
	hp.note()
	if hp.pool.limits().MaxPerHost == 0 {
		return
	}
	base := hp.base
	if base == nil {
		base = hp
	}
	base.note()
	for _, v := range base.variants {
		v.note()
	}
}

// squeeze makes room under max_connections of the host for who waits in hp: of
// connections that hp cannot use, it closes one that is idle. The lock is held.
func (hp *hostPool) squeeze() {
	if hp.short() <= 0 || hp.admits() {
		return
	}
	for n := hp.pool.idle.back; n != nil; n = n.prev {
		if o := n.owner.hp; o.ep == hp.ep && o != hp {
			hp.pool.close(n.owner)
			hp.note()
			return
		}
	}
}
