package l4

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// Listener is a running listener. Its configuration may be replaced at any time: a
// connection keeps the chain that it was given.
type Listener struct {
	m      *Manager
	name   string
	cfg    atomic.Pointer[config]
	stats  *listenerStats
	scope  *stats.Scope // parent of what the filters count
	unbind func()       // gives stats back
	tls    *transport.TLSStats
	limit  runtime.UintValue // of the runtime, 0 where it has none
	active atomic.Int64      // connections, those that listener filters look at included
	young  conns             // connections that have no chain yet
	// draining tells connections to come, too, to finish what is under way.
	draining atomic.Bool

	tlsOnce sync.Once
	logging sync.RWMutex // held for writing while the logs of an old version are closed
	socks   []*acceptor  // guarded by m.mu
	stopped atomic.Bool  // takes no connections any more
}

// config is one version of a listener, compiled.
type config struct {
	spec    *Spec
	match   *matcher
	names   map[string]int // chains by name, where the spec has a Matcher
	filters []inspector
	chains  []*chain       // with the default chain last, if there is one
	logs    *accesslog.Set // nil: none
	retire  []func()       // of the listener filters, and the logs
}

// Spec returns the configuration in use.
func (l *Listener) Spec() *Spec { return l.cfg.Load().spec }

// Active returns how many connections the listener has, those included that listener
// filters still look at.
func (l *Listener) Active() int64 { return l.active.Load() }

// Draining reports whether the listener drains.
func (l *Listener) Draining() bool { return l.draining.Load() }

// Bound returns the addresses of its sockets.
func (l *Listener) Bound() []meta.Addr {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	var out []meta.Addr
	for _, a := range l.socks {
		out = append(out, a.sock.Addr())
	}
	if l.Spec().Internal {
		out = append(out, l.Spec().Addresses[0].Addr)
	}
	return out
}

func (l *Listener) log() *slog.Logger { return l.m.o.Env.Log }

// acceptor is one bound socket and the goroutine that accepts on it.
type acceptor struct {
	key  sockKey
	sock *netio.Listener
	l    *Listener
}

// loop accepts until the socket is closed.
func (a *acceptor) loop() {
	pause := time.Duration(0)
	for {
		c, err := a.sock.Accept()
		switch {
		case err == nil:
			pause = 0
			a.l.m.wg.Add(1)
			go a.l.serve(c)
		case errors.Is(err, net.ErrClosed):
			return
		case netio.Exhausted(err):
			// The descriptors of connections that end meanwhile are what helps.
			a.l.stats.AcceptErrors.Inc()
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
		default: // this connection failed, the next one may not
			a.l.stats.AcceptErrors.Inc()
		}
	}
}

// serve runs a connection from its acceptance to its end.
func (l *Listener) serve(raw net.Conn) { l.serveConn(raw, nil) }

// serveConn is serve; introduce, which may be nil, says more of the connection than its
// socket does.
func (l *Listener) serveConn(raw net.Conn, introduce func(*conn)) {
	cfg := l.cfg.Load()
	if !l.admit(cfg.spec) {
		l.m.wg.Done()
		_ = raw.Close() // refused: nothing was read or written
		return
	}
	c := &conn{sock: netio.NewConn(raw), l: l}
	c.sock.WatchedBy(l.m.parker)
	c.begin()
	if introduce != nil {
		introduce(c)
	}
	l.young.add(&c.young)
	if c = l.prepare(c, cfg); c != nil {
		c.run()
	}
}

// begin fills in what the socket knows.
func (c *conn) begin() {
	m := &c.meta
	m.ID, m.Start = c.l.m.nextID.Add(1), time.Now()
	m.Local, m.Remote = meta.AddrOf(c.sock.LocalAddr()), meta.AddrOf(c.sock.RemoteAddr())
	m.Direct = m.Remote
	c.fc.Meta, c.fc.Engine = m, c
	c.fc.Log.Start = m.Start
	c.young.c, c.live.c = c, c
}

// admit counts a new connection, unless that is one too many.
func (l *Listener) admit(spec *Spec) bool {
	if !l.enter(spec) {
		return false
	}
	if n, most := l.m.active.Add(1), l.m.most(); !spec.IgnoreGlobalLimit && most > 0 && n > most {
		l.active.Add(-1)
		l.m.active.Add(-1)
		l.stats.GlobalOverflow.Inc()
		return false
	}
	return true
}

// most is how many connections all listeners may have, 0 for any number.
func (m *Manager) most() int64 {
	if m.o.MaxConnections > 0 {
		return m.o.MaxConnections
	}
	return int64(min(m.limit.Get(), math.MaxInt64))
}

// enter counts a connection of this listener, unless that is one too many.
func (l *Listener) enter(spec *Spec) bool {
	most := spec.MaxConnections
	if n := l.limit.Get(); n > 0 {
		most = int64(min(n, math.MaxInt64))
	}
	if n := l.active.Add(1); most > 0 && n > most {
		l.active.Add(-1)
		l.stats.Overflow.Inc()
		return false
	}
	return true
}

// release is the end of a connection that was admitted.
func (l *Listener) release() {
	l.active.Add(-1)
	l.m.active.Add(-1)
	l.m.wg.Done()
}

// prepare takes a connection through the listener filters of l and of the listener
// that its original destination belongs to, and gives it a chain. It returns nil
// for a connection that it has closed.
func (l *Listener) prepare(c *conn, cfg *config) *conn {
	if err := l.inspect(c, cfg); err != nil {
		c.refuse(err)
		return nil
	}
	if cfg.spec.UseOriginalDst {
		if to := l.handOver(c); to != nil {
			l.young.remove(&c.young)
			c.l = to
			to.young.add(&c.young)
			cfg = to.cfg.Load()
			if !to.move(l, cfg.spec) {
				to.young.remove(&c.young)
				_ = c.sock.Close() // refused, as by admit
				l.release()
				return nil
			}
			if err := to.inspect(c, cfg); err != nil {
				c.refuse(err)
				return nil
			}
		}
	}
	return c.l.choose(c, cfg)
}

// handOver returns the listener that a redirected connection was meant for, nil if
// that is l or nobody.
func (l *Listener) handOver(c *conn) *Listener {
	m := &c.meta
	if !m.LocalRestored {
		if dst, ok := netio.OriginalDst(c.sock); ok {
			m.OriginalDst, m.LocalRestored = dst, true
			m.Local = dst
		}
	}
	if !m.LocalRestored {
		return nil
	}
	to := l.m.routing.Load().find(m.Local.AddrPort)
	if to == l {
		return nil
	}
	return to
}

// move is admit for a connection that another listener has admitted.
func (l *Listener) move(from *Listener, spec *Spec) bool {
	if !l.enter(spec) {
		return false
	}
	from.active.Add(-1)
	return true
}

// inspect runs the listener filters.
func (l *Listener) inspect(c *conn, cfg *config) error {
	c.meta.Listener = l.name
	if len(cfg.filters) == 0 {
		return nil
	}
	if cfg.incomplete() {
		return errNoInspector
	}
	l.stats.PreActive.Inc()
	defer l.stats.PreActive.Dec()
	p := &peeker{conn: c.sock, down: &c.fc}
	if t := cfg.spec.FilterTimeout; t > 0 {
		p.deadline = time.Now().Add(t)
	}
	err := c.guard(func() error {
		for i := range cfg.filters {
			f := &cfg.filters[i]
			if f.disabled.Match(&c.meta) {
				continue
			}
			if err := f.Inspect(p); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.stats.PreTimeout.Inc()
		if cfg.spec.ContinueOnTimeout {
			err = nil
		}
	}
	if p.failed {
		l.stats.FilterError.Inc()
	}
	if err != nil {
		p.buf.Release()
		return err
	}
	return p.done()
}

// refuse closes a connection that has got no chain.
func (c *conn) refuse(err error) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // counted
	case errors.Is(err, io.EOF):
		c.l.stats.FilterClose.Inc()
	case errors.Is(err, errNoChain):
		c.l.stats.NoChain.Inc()
		c.fc.Log.Flags |= meta.NoRouteFound
		c.fc.Log.Details = "filter_chain_not_found"
	case errors.Is(err, errNoConfig): // it had a chain
		c.l.stats.Total.Inc()
		c.l.stats.Destroy.Inc()
		c.l.stats.NoFilter.Inc()
	case errors.Is(err, errNoInspector):
		c.l.stats.NoInspector.Inc()
	case errors.Is(err, errSocketTimeout):
		c.l.stats.Total.Inc()
		c.l.stats.Destroy.Inc()
		c.l.stats.SocketTimeout.Inc()
		c.meta.Termination = "transport socket timeout was reached"
	case errors.Is(err, errTransport): // it had a chain, too
		c.l.stats.Total.Inc()
		c.l.stats.Destroy.Inc()
	default: // a filter has decided so, or counts it itself
	}
	_ = c.sock.Close() // nobody is left to tell
	c.fc.Log.End = time.Since(c.meta.Start)
	c.l.emit(c)
	c.l.young.remove(&c.young)
	c.l.release()
}

// emit writes the access logs of the newest version.
func (l *Listener) emit(c *conn) {
	l.logging.RLock()
	defer l.logging.RUnlock()
	if cfg := l.cfg.Load(); cfg.logs != nil {
		cfg.logs.Log(c.fc.LogEntry())
	}
}

var (
	errNoChain       = errors.New("no filter chain matches")
	errSocketTimeout = errors.New("the handshake took too long")
	errTransport     = errors.New("the handshake failed")
)

// choose gives c its filter chain and its transport socket.
func (l *Listener) choose(c *conn, cfg *config) *conn {
	if c.meta.TransportProtocol == "" {
		c.meta.TransportProtocol = "raw_buffer"
	}
	i := cfg.find(&c.fc)
	if i == none {
		c.refuse(errNoChain)
		return nil
	}
	ch := cfg.chains[i]
	if err := ch.build(); err != nil {
		l.log().Error("a filter chain cannot be used; its connections are closed",
			slog.String("listener", l.name), slog.String("error", err.Error()))
		c.refuse(err)
		return nil
	}
	c.ch, c.meta.FilterChain, c.meta.Configured = ch, ch.spec.Name, ch.about
	c.remember()
	if ch.incomplete() {
		c.refuse(errNoConfig)
		return nil
	}
	if err := c.handshake(); err != nil {
		c.refuse(err)
		return nil
	}
	if t := cfg.spec.StuckTimeout; t > 0 {
		c.sock.LimitWait(t)
	}
	set, err := ch.take()
	if err != nil {
		c.refuse(err)
		return nil
	}
	c.set = set
	l.stats.Total.Inc()
	l.stats.Active.Inc()
	ch.conns.add(&c.live) // in both lists for a moment: neither may seem empty
	l.young.remove(&c.young)
	if l.draining.Load() {
		c.drain()
	}
	return c
}

// handshake puts the chain's transport socket over the connection.
func (c *conn) handshake() error {
	s := c.ch.socket
	if s == nil {
		return nil
	}
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if t := c.ch.spec.ConnectTimeout; t > 0 {
		ctx, cancel = context.WithTimeout(ctx, t)
	}
	defer cancel()
	sock, err := s.Server(ctx, c.sock, &c.meta, c.ch.tls)
	switch {
	case err == nil:
		c.mu.Lock()
		c.sock = sock
		if c.ended {
			sock.Cut()
		}
		c.mu.Unlock()
		return nil
	case ctx.Err() != nil, errors.Is(err, context.DeadlineExceeded):
		return errSocketTimeout
	}
	if c.meta.TransportFailure == "" && !errors.Is(err, transport.ErrGone) {
		c.meta.TransportFailure = err.Error()
	}
	return errTransport
}

// ended accounts for a connection that has closed.
func (l *Listener) ended(c *conn) {
	l.stats.Active.Dec()
	l.stats.Destroy.Inc()
	l.stats.Length.Record(uint64(c.fc.Log.End.Milliseconds()))
	l.emit(c)
}
