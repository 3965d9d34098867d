package cluster

import (
	"net/netip"
	"sync"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// DatagramStats are a cluster's counters of UDP sessions, under "cluster.<name>.udp.".
// They exist once there was a session.
type DatagramStats struct {
	RxDatagrams        stats.Counter `stat:"sess_rx_datagrams" help:"Datagrams received from hosts."`
	RxDatagramsDropped stats.Counter `stat:"sess_rx_datagrams_dropped" help:"Datagrams from hosts that were too long, or for which there was no room."`
	RxErrors           stats.Counter `stat:"sess_rx_errors" help:"Errors of receiving from hosts."`
	TxDatagrams        stats.Counter `stat:"sess_tx_datagrams" help:"Datagrams sent to hosts."`
	TxErrors           stats.Counter `stat:"sess_tx_errors" help:"Datagrams that could not be sent to hosts."`

	TunnelSuccesses stats.Counter `stat:"sess_tunnel_success" help:"Tunnels over HTTP that were opened."`
	TunnelFailures  stats.Counter `stat:"sess_tunnel_failure" help:"Sessions for which no tunnel over HTTP could be opened."`
	TunnelOverflows stats.Counter `stat:"sess_tunnel_buffer_overflow" help:"Datagrams that were lost since too many waited for a tunnel."`
}

// datagrams are the counters of a core, made when they are asked for.
type datagrams struct {
	once  sync.Once
	stats DatagramStats
}

// Datagrams returns the counters of UDP sessions.
func (c *Cluster) Datagrams() *DatagramStats {
	core := c.running().core
	d := &core.datagrams
	d.once.Do(func() {
		if core.scope != nil {
			core.scope.Child("udp").Bind(&d.stats)
		}
	})
	return &d.stats
}

// Session is a place of a UDP session among the connections of a cluster
// (max_connections). The zero value is none.
type Session struct{ hp *hostPool }

// OpenSession takes a place for a UDP session to h. It returns ErrOverflow if there is none.
func (c *Cluster) OpenSession(h *Host) (Session, error) {
	hp := &h.ep.pools[Default]
	p := hp.pool
	if !p.reserve(hp) {
		p.group.core.stats.UpstreamCxOverflow.Inc()
		return Session{}, ErrOverflow
	}
	return Session{hp}, nil
}

// Full reports whether there is no place for another UDP session, and counts it.
func (c *Cluster) Full() bool {
	g := c.running().group
	p := &g.pools[Default]
	p.mu.Lock()
	full := p.open >= int(p.limits().MaxConnections)
	p.mu.Unlock()
	if full {
		g.core.stats.UpstreamCxOverflow.Inc()
	}
	return full
}

// Close gives the place back, once.
func (s Session) Close() {
	if s.hp != nil {
		s.hp.pool.forget(s.hp)
	}
}

// DialUDP makes a socket that is connected to h. from is where its datagrams are to come
// from although that is no address of this machine; the zero value is the usual one.
func (c *Cluster) DialUDP(h *Host, from netip.Addr) (*netio.UDPSocket, error) {
	like := dialOptions(c.Spec(), h.Addr, c.m.options.Bind, c.m.options.Bind.mark())
	to := h.Addr.AddrPort
	o := netio.UDPOptions{To: to, Mark: like.Mark, Options: like.Options, Bind: like.Bind.V6, Freebind: like.Bind.Freebind}
	if to.Addr().Unmap().Is4() {
		o.Bind = like.Bind.V4
	}
	if from.IsValid() {
		o.Bind, o.Transparent = netip.AddrPortFrom(from, 0), true
	}
	s, err := netio.OpenUDP(o)
	if isBindError(err) {
		c.Stats().BindErrors.Inc()
	}
	return s, err
}

// Serves reports whether h may go on to be used for what began with it: it is a member,
// and not known to be ill.
func (c *Cluster) Serves(h *Host) bool {
	r := c.running()
	if r.own != nil {
		return true
	}
	i, ok := r.hosts.byAddr()[h.Addr]
	return ok && r.hosts.all[i].Same(h) && r.hosts.all[i].Health != Unhealthy
}

// byAddr is an index of the hosts, made when it is asked for.
func (s *hostSet) byAddr() map[meta.Addr]int {
	s.indexed.Do(func() {
		s.index = make(map[meta.Addr]int, len(s.all))
		for i, h := range s.all {
			s.index[h.Addr] = i
		}
	})
	return s.index
}

// Version returns a value that changes whenever the hosts or the configuration do.
func (c *Cluster) Version() any { return c.running() }
