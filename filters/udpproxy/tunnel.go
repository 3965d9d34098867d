package udpproxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/capsule"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// maxUnsent bounds what waits for an open tunnel that takes no more, in bytes. Once it is
// full, datagrams are lost.
const maxUnsent = 1 << 20

var (
	errRefused = errors.New("udp_proxy: the proxy refused the tunnel")
	errEnded   = errors.New("udp_proxy: the session has ended")
)

// tunnel is the HTTP stream that carries the datagrams of a session (tunneling_config). The
// worker puts datagrams into a queue; one goroutine opens the stream and reads it, another
// writes it, so that a slow proxy delays nobody else.
type tunnel struct {
	c       *Tunnel
	at      cluster.Attempt
	ctx     context.Context
	cancel  context.CancelFunc
	timer   *time.Timer // looks whether the session is idle, or has something to log
	flushed time.Time
	wake    chan struct{} // there is something to write, or the end

	mu       sync.Mutex
	queue    []byte // as it goes into the stream
	spare    []byte
	count    int // datagrams in queue
	open     bool
	closed   bool
	up       codec.ClientStream // nil until it is there, and once it is released
	host     *cluster.Host
	local    meta.Addr
	connID   uint64
	attempts int
}

// beginTunnel makes a session through a tunnel. The worker's lock is held.
func (w *worker) beginTunnel(s *session, at cluster.Attempt) *session {
	t := &tunnel{c: w.c.Tunnel, at: at, wake: make(chan struct{}, 1), flushed: time.Now()}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	s.tun = t
	w.sessions[s.key] = s
	w.s.Active.Inc()
	t.timer = time.AfterFunc(time.Hour, s.look)
	t.timer.Reset(s.nextLook(w, t.flushed)) // only now, as it looks at itself
	go s.runTunnel()
	return s
}

// look ends the session if it is idle, and logs what is to be logged while it lives.
func (s *session) look() {
	w := s.w.Load()
	if every := w.c.FlushEvery; every > 0 && time.Since(s.tun.flushed) >= every {
		w.log(s, sessionPeriodic)
		s.tun.flushed = time.Now()
	}
	if s.idle(w) {
		return
	}
	s.tun.timer.Reset(s.nextLook(w, s.tun.flushed))
}

// put queues a datagram; false is one that is lost for want of room.
func (t *tunnel) put(p []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit, count := maxUnsent, maxUnsent
	if !t.open {
		if t.c.Buffered == 0 {
			return true // lost, as configured: nobody counts it
		}
		limit, count = t.c.BufferBytes, t.c.Buffered
	}
	if t.count >= count || len(t.queue)+len(p) > limit {
		return false
	}
	if t.c.Capsules {
		t.queue = capsule.AppendDatagram(t.queue, p)
	} else {
		t.queue = append(t.queue, p...)
	}
	t.count++
	t.signal()
	return true
}

func (t *tunnel) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// stop ends the tunnel from any goroutine.
func (t *tunnel) stop() {
	t.cancel()
	t.timer.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.up != nil {
		t.up.Reset(codec.ResetCancel)
		t.up.Interrupt()
		t.up.StopWriting()
	}
	t.signal()
}

// describe tells an access log about the tunnel.
func (t *tunnel) describe(st *meta.Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	st.Attempts, st.UpstreamLocal, st.UpstreamConn = t.attempts, t.local, t.connID
	if t.host != nil {
		st.UpstreamHost, st.UpstreamHostname = t.host.Addr, t.host.Hostname
	}
}

// runTunnel opens the tunnel and passes on what comes out of it, until the session ends.
func (s *session) runTunnel() {
	t := s.tun
	conn, err := s.connect()
	if err != nil {
		if t.ctx.Err() == nil {
			s.udp.TunnelFailures.Inc()
		}
		s.leave()
		return
	}
	s.udp.TunnelSuccesses.Inc()
	if w := s.w.Load(); w.c.LogTunnel {
		w.log(s, sessionTunnel)
	}
	var wg sync.WaitGroup
	wg.Go(t.write)
	s.read()
	s.leave() // stops the writer, too
	wg.Wait()
	s.release(conn)
}

// leave ends the session, if it has not ended yet.
func (s *session) leave() {
	w := s.w.Load()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish(s)
}

// connect opens the tunnel, trying again as configured.
func (s *session) connect() (*cluster.Conn, error) {
	t := s.tun
	for {
		st := s.cl.Stats()
		switch {
		case s.cl.Full():
			s.flag(meta.UpstreamOverflow)
			return nil, cluster.ErrOverflow
		case t.attempts >= t.c.Attempts:
			s.flag(meta.UpstreamRetryLimitExceeded)
			st.UpstreamCxConnectAttemptsExceeded.Inc()
			return nil, errRefused
		case t.attempts > 0:
			st.UpstreamRqRetry.Inc()
			if err := t.c.Backoff.Wait(t.ctx, t.attempts); err != nil {
				return nil, err
			}
		}
		h, err := s.cl.Pick(&t.at)
		if err != nil {
			s.flag(meta.NoHealthyUpstream)
			return nil, err
		}
		t.mu.Lock()
		t.attempts++
		t.host = h
		t.mu.Unlock()
		conn, err := s.try(h)
		if err == nil || t.ctx.Err() != nil {
			return conn, err
		}
	}
}

// try makes one attempt.
func (s *session) try(h *cluster.Host) (*cluster.Conn, error) {
	t := s.tun
	conn, err := s.cl.Acquire(t.ctx, h, &t.at, time.Time{})
	if err != nil {
		if errors.As(err, new(*cluster.ConnectError)) {
			s.flag(meta.UpstreamConnectionFailure)
		}
		return nil, err
	}
	up, err := conn.Open(t.ctx)
	if err != nil {
		s.cl.Release(conn, false)
		return nil, err
	}
	t.mu.Lock()
	if t.up = up; t.closed {
		err = errEnded
	}
	t.local, t.connID = conn.Local, conn.ID
	t.mu.Unlock()
	if err == nil {
		err = s.ask(conn)
	}
	if err != nil {
		s.flag(meta.UpstreamConnectionFailure) // also where the proxy has said no
		s.release(conn)
		return nil, err
	}
	t.mu.Lock()
	t.open = true
	t.mu.Unlock()
	return conn, nil
}

// ask sends the head of the request and awaits that of the response.
func (s *session) ask(conn *cluster.Conn) error {
	t := s.tun
	var m header.Map
	t.c.request(&m, s, conn.TLS != nil)
	if err := t.up.WriteHeaders(&m, false); err != nil {
		return err
	}
	if err := t.up.Flush(); err != nil {
		return err
	}
	for {
		m.Reset()
		next, err := t.up.ReadHeaders(&m)
		if err != nil {
			return err
		}
		code := m.StatusCode()
		switch {
		case code < 200 && code != 101:
			continue
		case next == codec.End, !t.c.granted(&m, code):
			return errRefused
		}
		return nil
	}
}

// release gives the stream and its connection back.
func (s *session) release(conn *cluster.Conn) {
	t := s.tun
	t.mu.Lock()
	up := t.up
	t.up, t.open = nil, false
	t.mu.Unlock()
	read, written := up.WireBytes()
	conn.CountBytes(read.Header+read.Body, written.Header+written.Body)
	if up.Release() {
		s.cl.Release(conn, true)
		return
	}
	s.cl.Abandon(conn)
}

// write sends what is queued, until the tunnel ends.
func (t *tunnel) write() {
	var b buffer.Buf
	defer b.Release()
	up := t.up
	for {
		t.mu.Lock()
		q, closed := t.queue, t.closed
		t.queue, t.spare, t.count = t.spare[:0], q, 0
		t.mu.Unlock()
		switch {
		case closed:
			return
		case len(q) == 0:
			<-t.wake
			continue
		}
		b.Append(q)
		if up.WriteData(&b, false) != nil || up.Flush() != nil {
			return // the reader learns it, too
		}
	}
}

// read passes on what comes out of the tunnel, until it ends.
func (s *session) read() {
	up := s.tun.up
	var b buffer.Buf
	var find capsule.Reader
	defer b.Release()
	defer find.Release()
	for {
		next, err := up.ReadData(&b)
		if b.Len() > 0 {
			s.touched.Store(s.w.Load().now())
			if s.tun.c.Capsules {
				find.Feed(&b)
			}
		}
		if s.tun.c.Capsules {
			for {
				p, ok, err := find.Next()
				if err != nil {
					s.udp.RxErrors.Inc()
					return
				}
				if !ok {
					break
				}
				s.fromTunnel(p)
			}
		} else if b.Len() > 0 {
			s.fromTunnel(b.Bytes())
			b.Discard(b.Len())
		}
		if err != nil || next != codec.Data {
			return
		}
	}
}

// fromTunnel sends one datagram to the client.
func (s *session) fromTunnel(p []byte) {
	w := s.w.Load()
	send := w.senders.Get().(*netio.UDPSender)
	defer w.senders.Put(send)
	s.udp.RxDatagrams.Inc()
	s.got.Add(int64(len(p)))
	send.Add(p, &s.path)
	sent, bytes, lost, _ := send.Flush(w.sock.UDPSocket) // as in back
	s.countBack(w, sent, bytes, lost)
}
