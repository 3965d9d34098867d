package udpproxy

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// session is what a client exchanges with a host. The worker's goroutine sends to the
// host, the session's own one receives from it.
type session struct {
	w    atomic.Pointer[worker] // changes when another version of the listener takes over
	key  key
	name string // of the cluster

	// Guarded by the worker's lock.
	cl     *cluster.Cluster
	ver    any // of cl, as of which the host serves
	place  cluster.Session
	host   *cluster.Host
	ended  bool
	queued bool // datagrams of the batch in hand are for it
	first  int32
	last   int32

	up   *netio.UDPSocket // nil through a tunnel
	tun  *tunnel          // nil without one
	udp  *cluster.DatagramStats
	st   *cluster.Stats
	path netio.UDPPath // to the client

	touched atomic.Int64 // when something was last sent or received, as the worker's now
	rx, tx  total        // from and to the client
	failed  atomic.Int64 // datagrams to the client that could not be sent
	sent    atomic.Int64 // bytes to the host
	got     atomic.Int64 // bytes from the host

	meta  meta.Conn
	flags atomic.Uint64 // meta.Flag
}

// flag notes what went wrong.
func (s *session) flag(f meta.Flag) { s.flags.Or(uint64(f)) }

// total counts datagrams and their bytes.
type total struct{ datagrams, bytes atomic.Int64 }

func (t *total) add(n, size int) {
	t.datagrams.Add(int64(n))
	t.bytes.Add(int64(size))
}

// begin makes a session; the datagram is its first one. nil if it cannot begin.
func (w *worker) begin(k key, d *netio.Datagram, cl *cluster.Cluster, h *cluster.Host, now int64) *session {
	s := &session{key: k, name: cl.Spec().Name, cl: cl, ver: cl.Version(), host: h, udp: cl.Datagrams(), st: cl.Stats()}
	s.w.Store(w)
	s.touched.Store(now)
	client := meta.Addr{AddrPort: d.Peer}
	s.meta = meta.Conn{
		ID: w.sock.NextID(), Start: time.Now(), Listener: w.sock.Listener,
		Local: meta.Addr{AddrPort: d.Local}, Remote: client, Direct: client,
	}
	w.s.Total.Inc()
	w.sum.sessions.Add(1)
	s.path.Set(w.sock.UDPSocket, d.Peer, d.Local)
	if w.c.Tunnel != nil {
		return w.beginTunnel(s, *w.attempt(d))
	}
	var err error
	if s.place, err = cl.OpenSession(h); err != nil {
		s.flag(meta.UpstreamOverflow)
		w.log(s, sessionEnd)
		return nil
	}
	var from netip.Addr
	if w.c.OriginalSource {
		from = d.Peer.Addr()
	}
	if s.up, err = cl.DialUDP(h, from); err != nil {
		w.s.Dial.Inc()
		s.flag(meta.UpstreamConnectionFailure)
		s.place.Close()
		w.log(s, sessionEnd)
		return nil
	}
	w.sessions[k] = s
	w.s.Active.Inc()
	go s.run()
	return s
}

// current reports whether the host of a session still serves. The worker's lock is held.
func (s *session) current(w *worker) bool {
	cl := w.clusters.Cluster(s.name)
	if cl == nil {
		return false
	}
	if s.tun != nil {
		return cl == s.cl
	}
	v := cl.Version()
	if cl == s.cl && v == s.ver {
		return true
	}
	if !cl.Serves(s.host) {
		return false
	}
	s.cl, s.ver = cl, v
	return true
}

// adopt goes on with a host that is ill but a member.
func (s *session) adopt(cl *cluster.Cluster) bool {
	for _, h := range cl.Hosts() {
		if h.Same(s.host) {
			return true
		}
	}
	return false
}

// run passes on what the host sends, until the session ends.
func (s *session) run() {
	var rd netio.UDPReader
	w := s.w.Load()
	rd.Init(s.up, w.pool)
	flushed := time.Now()
	s.arm(w, flushed)
	for {
		batch, err := rd.Read()
		if n := rd.Lost(); n > 0 {
			s.udp.RxDatagramsDropped.Add(n)
		}
		w = s.w.Load()
		switch {
		case err == nil:
			s.back(w, batch)
		case errors.Is(err, net.ErrClosed):
			return
		case netio.IsTimeout(err):
			if every := w.c.FlushEvery; every > 0 && time.Since(flushed) >= every {
				w.log(s, sessionPeriodic)
				flushed = time.Now()
			}
			if s.idle(w) {
				return
			}
			s.arm(w, flushed)
		default: // what was sent has not arrived
			s.udp.RxErrors.Inc()
		}
	}
}

// back sends datagrams to the client.
func (s *session) back(w *worker, batch []netio.Datagram) {
	send := w.senders.Get().(*netio.UDPSender)
	size := 0
	for i := range batch {
		send.Add(batch[i].Data, &s.path)
		size += len(batch[i].Data)
	}
	sent, bytes, lost, _ := send.Flush(w.sock.UDPSocket) // why they were lost is not told to anybody
	w.senders.Put(send)
	s.touched.Store(w.now())
	s.udp.RxDatagrams.Add(uint64(len(batch)))
	s.st.UpstreamCxRxBytesTotal.Add(uint64(size))
	s.got.Add(int64(size))
	s.countBack(w, sent, bytes, lost)
}

// countBack counts what was sent to the client.
func (s *session) countBack(w *worker, sent, bytes, lost int) {
	s.tx.add(sent, bytes)
	w.s.TxDatagrams.Add(uint64(sent))
	w.s.Tx.Add(uint64(bytes))
	if lost > 0 {
		s.failed.Add(int64(lost))
		w.s.TxErrors.Add(uint64(lost))
	}
}

// arm sets when the session looks again whether it is idle, or has something to log.
func (s *session) arm(w *worker, flushed time.Time) {
	_ = s.up.SetReadDeadline(time.Now().Add(s.nextLook(w, flushed))) // fails when it was closed, as Read does
}

// nextLook is how long that is from now.
func (s *session) nextLook(w *worker, flushed time.Time) time.Duration {
	until := w.c.IdleTimeout - time.Duration(max(w.now()-s.touched.Load(), 0))
	if every := w.c.FlushEvery; every > 0 {
		until = min(until, every-time.Since(flushed))
	}
	return max(until, time.Millisecond)
}

// wake makes the session look at its configuration again.
func (s *session) wake() { _ = s.up.SetReadDeadline(time.Unix(1, 0)) } // of a closed socket nobody waits

// idle ends the session if nothing has moved for long enough.
func (s *session) idle(w *worker) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.ended {
		return true
	}
	if s.w.Load() != w {
		return false
	}
	switch quiet := w.now() - s.touched.Load(); {
	case quiet < 0: // by the clock of the version before
		s.touched.Store(w.now())
		return false
	case quiet < int64(w.c.IdleTimeout):
		return false
	}
	if s.tun != nil {
		s.flag(meta.StreamIdleTimeout)
	}
	w.s.Idle.Inc()
	w.sum.idle.Add(1)
	w.finish(s)
	return true
}

// finish ends a session. The lock is held.
func (w *worker) finish(s *session) {
	if s.ended {
		return
	}
	s.ended = true
	delete(w.sessions, s.key)
	w.log(s, sessionEnd)
	if s.tun != nil {
		s.tun.stop()
	} else {
		_ = s.up.Close() // what was sent has left
	}
	s.place.Close()
	w.s.Active.Dec()
	w.sum.add(s)
}

// proxyTotals is what proxy_access_log tells.
type proxyTotals struct {
	sessions, idle, noRoute atomic.Int64
	mu                      sync.Mutex
	rx, tx                  struct{ datagrams, bytes int64 }
	failed                  int64
}

func (t *proxyTotals) add(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rx.datagrams += s.rx.datagrams.Load()
	t.rx.bytes += s.rx.bytes.Load()
	t.tx.datagrams += s.tx.datagrams.Load()
	t.tx.bytes += s.tx.bytes.Load()
	t.failed += s.failed.Load()
}
