// Package udpproxy is the UDP listener filter udp_proxy: it keeps a session for each
// client and address that the client sends to, and passes the session's datagrams
// between the client and a host of a cluster.
//
// Reading and writing many datagrams at once is in package netio, the listener in
// package l4.
package udpproxy

import (
	"net/netip"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.UDPSpec[*Config]{
	Name:  "envoy.filters.udp_listener.udp_proxy",
	Type:  "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
	Parse: parse,
	New:   newProxy,
}

// Config is the parsed configuration.
type Config struct {
	StatPrefix string
	// Route returns the cluster for a datagram, "" for none.
	Route func(d *netio.Datagram) string
	// IdleTimeout ends a session after that much silence; 1 min unless set.
	IdleTimeout time.Duration
	// OriginalSource makes what is sent to hosts come from the client's address.
	OriginalSource bool
	Hash           Hash
	// MaxDatagram is how long datagrams of hosts may be.
	MaxDatagram int
	// PerPacket chooses a host for each datagram.
	PerPacket bool
	// Logs are written when a session ends, and each FlushEvery (0 is never) while it lives.
	Logs       []accesslog.Spec
	FlushEvery time.Duration
	// LogTunnel writes Logs when a tunnel has been opened, too.
	LogTunnel bool
	// Tunnel is nil where hosts are reached by UDP.
	Tunnel *Tunnel
	// ProxyLogs are written when the filter has ended.
	ProxyLogs []accesslog.Spec
}

// Hash is hash_policies: the zero value is none.
type Hash struct {
	SourceIP bool
	Key      string
}

// counters is udp.<stat_prefix>.*.
type counters struct {
	NoRoute     stats.Counter `stat:"downstream_sess_no_route" help:"datagrams for which there was no cluster"`
	Rx          stats.Counter `stat:"downstream_sess_rx_bytes" help:"bytes from clients"`
	RxDatagrams stats.Counter `stat:"downstream_sess_rx_datagrams" help:"datagrams from clients"`
	RxErrors    stats.Counter `stat:"downstream_sess_rx_errors" help:"datagrams from clients that could not be received"`
	Total       stats.Counter `stat:"downstream_sess_total" help:"sessions"`
	Tx          stats.Counter `stat:"downstream_sess_tx_bytes" help:"bytes to clients"`
	TxDatagrams stats.Counter `stat:"downstream_sess_tx_datagrams" help:"datagrams to clients"`
	TxErrors    stats.Counter `stat:"downstream_sess_tx_errors" help:"datagrams to clients that could not be sent"`
	Idle        stats.Counter `stat:"idle_timeout" help:"sessions ended after silence"`
	Active      stats.Gauge   `stat:"downstream_sess_active" help:"sessions that live"`
	Dial        stats.Counter `stat:"mecha_sess_socket_errors" help:"sessions for which no socket could be made"`
}

// proxy is one udp_proxy of a version of a listener.
type proxy struct {
	c        *Config
	s        *counters
	logs     *accesslog.Set
	own      *accesslog.Set // proxy_access_log
	clusters cluster.Source
	pool     *netio.UDPPool // for what hosts send
	senders  sync.Pool      // *netio.UDPSender
	start    time.Time
	sum      proxyTotals
}

func newProxy(c *Config, env filter.Env) (filter.UDP, error) {
	logs, err := accesslog.OpenSet(c.Logs, env.Logs)
	if err != nil {
		return nil, err
	}
	env.OnRetire(logs.Close)
	own, err := accesslog.OpenSet(c.ProxyLogs, env.Logs)
	if err != nil {
		return nil, err
	}
	env.OnRetire(own.Close)
	s, release := stats.Shared[counters](env.Stats, "udp", "", c.StatPrefix)
	env.OnRetire(release)
	p := &proxy{
		c: c, s: s, logs: logs, own: own, clusters: env.Clusters, start: time.Now(),
		pool: netio.NewUDPPool(c.MaxDatagram),
	}
	p.senders.New = func() any { return new(netio.UDPSender) }
	env.OnRetire(p.logSelf)
	return p, nil
}

// now is the time since the filter was made: cheap to compare, and to keep.
func (p *proxy) now() int64 { return int64(time.Since(p.start)) }

// Open implements filter.UDP.
func (p *proxy) Open(s filter.UDPSocket) filter.UDPReceiver {
	return &worker{proxy: p, sock: s, sessions: map[key]*session{}}
}

// key is what makes datagrams belong to one session. host is set with PerPacket only.
type key struct {
	peer, local netip.AddrPort
	host        *cluster.HostStats
}

// worker has the sessions of one socket. Its lock is held while a batch of datagrams is
// handled, and for an instant when a session ends.
type worker struct {
	*proxy
	sock filter.UDPSocket

	mu       sync.Mutex
	sessions map[key]*session
	closed   bool

	// Of the goroutine that reads.
	next  [netio.MaxBatch]int32 // datagrams of the same session, by index in the batch
	dirty []*session            // sessions of the batch
	send  netio.UDPSender
	try   cluster.Attempt
	text  [64]byte
}

var (
	_ filter.UDPReceiver = (*worker)(nil)
	_ filter.UDPHeir     = (*worker)(nil)
)

// Receive implements filter.UDPReceiver.
func (w *worker) Receive(batch []netio.Datagram) []netio.Datagram {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	w.dirty = w.dirty[:0]
	for i := range batch {
		s := w.session(&batch[i], now)
		if s == nil {
			continue
		}
		w.next[i] = -1
		if !s.queued {
			s.queued, s.first = true, int32(i)
			w.dirty = append(w.dirty, s)
		} else {
			w.next[s.last] = int32(i)
		}
		s.last = int32(i)
	}
	for _, s := range w.dirty {
		s.queued = false
		switch {
		case s.tun != nil:
			w.forwardTunnel(s, batch)
		case s.up != nil:
			w.forward(s, batch)
		}
	}
	clear(w.dirty)
	return nil
}

// forward sends the datagrams of a session to its host.
func (w *worker) forward(s *session, batch []netio.Datagram) {
	size, n := 0, 0
	for i := s.first; i >= 0; i = w.next[i] {
		w.send.Add(batch[i].Data, nil)
		size += len(batch[i].Data)
		n++
	}
	sent, bytes, lost, _ := w.send.Flush(s.up) // why they were lost is not told to anybody
	s.rx.add(n, size)
	w.s.RxDatagrams.Add(uint64(n))
	w.s.Rx.Add(uint64(size))
	s.udp.TxDatagrams.Add(uint64(sent))
	s.udp.TxErrors.Add(uint64(lost))
	s.sent.Add(int64(bytes))
	s.cl.Stats().UpstreamCxTxBytesTotal.Add(uint64(bytes))
}

// forwardTunnel queues the datagrams of a session for its tunnel.
func (w *worker) forwardTunnel(s *session, batch []netio.Datagram) {
	size, n := 0, 0
	for i := s.first; i >= 0; i = w.next[i] {
		if !s.tun.put(batch[i].Data) {
			s.udp.TunnelOverflows.Inc()
		}
		size += len(batch[i].Data)
		n++
	}
	s.rx.add(n, size)
	w.s.RxDatagrams.Add(uint64(n))
	w.s.Rx.Add(uint64(size))
}

// session returns the session of a datagram, nil if there is none and none can be begun.
func (w *worker) session(d *netio.Datagram, now int64) *session {
	if w.c.PerPacket {
		return w.perPacket(d, now)
	}
	k := key{peer: d.Peer, local: d.Local}
	s := w.sessions[k]
	if s != nil && (s.queued || s.current(w)) {
		s.touched.Store(now)
		return s
	}
	cl := w.cluster(d)
	if cl == nil {
		if s != nil {
			w.finish(s)
		}
		return nil
	}
	if w.c.Tunnel != nil { // picks when it connects
		return w.begin(k, d, cl, nil, now)
	}
	h, err := cl.Pick(w.attempt(d))
	if s != nil {
		if err != nil && s.adopt(cl) {
			return s // ill, but there is no better one
		}
		w.finish(s)
	}
	if err != nil {
		return nil
	}
	return w.begin(k, d, cl, h, now)
}

func (w *worker) perPacket(d *netio.Datagram, now int64) *session {
	cl := w.cluster(d)
	if cl == nil {
		return nil
	}
	h, err := cl.Pick(w.attempt(d))
	if err != nil {
		return nil
	}
	k := key{peer: d.Peer, local: d.Local, host: h.Stats()}
	if s := w.sessions[k]; s != nil {
		s.touched.Store(now)
		return s
	}
	return w.begin(k, d, cl, h, now)
}

// cluster returns the cluster for a datagram, nil if there is none.
func (w *worker) cluster(d *netio.Datagram) *cluster.Cluster {
	if name := w.c.Route(d); name != "" {
		if cl := w.clusters.Cluster(name); cl != nil {
			return cl
		}
	}
	w.s.NoRoute.Inc()
	w.sum.noRoute.Add(1)
	return nil
}

func (w *worker) attempt(d *netio.Datagram) *cluster.Attempt {
	w.try = cluster.Attempt{}
	switch h := &w.c.Hash; {
	case h.SourceIP:
		w.try.Hash, w.try.HasHash = match.Hash64(d.Peer.Addr().AppendTo(w.text[:0]), 0), true
	case h.Key != "":
		w.try.Hash, w.try.HasHash = match.Hash64(h.Key, 0), true
	}
	return &w.try
}

// Inherit implements filter.UDPHeir: sessions go on that the new configuration would
// send to the same cluster.
func (w *worker) Inherit(from filter.UDPReceiver) {
	old, ok := from.(*worker)
	if !ok || old.c.Tunnel != nil || w.c.Tunnel != nil || old.c.PerPacket != w.c.PerPacket || old.c.OriginalSource != w.c.OriginalSource || old.c.MaxDatagram != w.c.MaxDatagram {
		return
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, s := range old.sessions {
		d := netio.Datagram{Peer: k.peer, Local: k.local}
		if w.c.Route(&d) != s.name {
			continue
		}
		delete(old.sessions, k)
		old.s.Active.Dec()
		w.s.Active.Inc()
		w.sessions[k] = s
		s.touched.Store(w.now())
		s.w.Store(w)
		s.wake()
	}
}

// Close implements filter.UDPReceiver: the sessions end.
func (w *worker) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, s := range w.sessions {
		w.finish(s)
	}
}
