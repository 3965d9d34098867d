// Package l7 is the HTTP engine: it takes connections from a listener, streams from
// the connection's codec, runs each through the chain of HTTP filters and writes what
// comes out. One goroutine does everything for an HTTP/1 connection.
//
// What comes in: a filter.Conn behind its transport socket. What goes out: requests
// to the terminal filter (filters/router), responses to the client, access logs.
// Routes are not here (package route), nor is anything upstream (package cluster).
package l7

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h1"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Manager is a running HTTP connection manager. It serves any number of connections.
type Manager struct {
	spec       *Spec
	log        *slog.Logger
	node       filter.Node
	outbound   bool
	routes     filter.RouteSource
	live       atomic.Pointer[generation]
	upgrades   map[string]*factory // of upgrades that have filters of their own
	h1         h1.ServerOptions
	counters   *counters   // both are shared with the other managers of the same stat_prefix
	atListener *byListener // nil: there is no listener
	scope      *stats.Scope
	logs       *accesslog.Set // nil: none
}

// New builds a connection manager.
func New(spec *Spec, env filter.Env, slot func(name string) filter.Slot) (*Manager, error) {
	m := &Manager{spec: spec, log: env.Log, node: env.Node, outbound: env.Outbound}
	m.scope = env.Stats.Scope("http").Tag("envoy_http_conn_manager_prefix", spec.StatPrefix)
	env.OnRetire(m.scope.Close)
	m.count(env)
	switch {
	case spec.Routes != nil:
		m.routes = fixed{spec.Routes}
	case env.Routes != nil && spec.RDS != "":
		m.routes = env.Routes(spec.RDS)
	case spec.Scopes != nil:
		var err error
		if m.routes, err = spec.Scopes(env); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("one of route_config, rds, scoped_routes is required")
	}
	inner := env
	inner.Parent = m.scope
	if err := m.build(inner, slot); err != nil {
		return nil, err
	}
	var err error
	if m.upgrades, err = newUpgrades(spec.Upgrades, spec.StatPrefix, inner, slot); err != nil {
		return nil, err
	}
	if m.logs, err = accesslog.OpenSet(spec.Logs, env.Logs); err != nil {
		return nil, err
	}
	env.OnRetire(m.logs.Close)
	m.h1 = h1.ServerOptions{
		Options: h1.Options{
			MaxHeadersKB:       int(spec.MaxHeadersKB),
			MaxHeadersCount:    int(spec.MaxHeadersCount),
			EnableTrailers:     spec.HTTP1.EnableTrailers,
			ProperCase:         spec.HTTP1.ProperCase,
			AllowChunkedLength: spec.HTTP1.AllowChunkedLength,
		},
		AcceptHTTP10:         spec.HTTP1.AcceptHTTP10,
		DefaultHostForHTTP10: spec.HTTP1.DefaultHost,
		RefuseAbsoluteURL:    !spec.HTTP1.AllowAbsoluteURL,
		AllowCustomMethods:   spec.HTTP1.AllowCustomMethods,
		Underscores:          h1.Underscores(spec.Underscores), // the same values
		HeadersTimeout:       spec.RequestHeadersTimeout,
	}
	return m, nil
}

// fixed is the route source of an inline table.
type fixed struct{ table filter.RouteTable }

func (f fixed) Current() filter.RouteTable { return f.table }

// conn is one downstream connection.
type conn struct {
	m         *Manager
	down      *filter.Conn
	codec     *h1.ServerConn
	stopDrain func()
	idleSince time.Time
	served    uint32
	age       age
	drained   atomic.Bool
	next      *stream // head read, not served yet
	turnFn    func(codec.ServerStream) bool
}

// parkAfter is how long a connection idles on its goroutine before it gives it back.
const parkAfter = time.Second

// ServeConn serves a connection until it is over; it returns filter.Parked when it
// has given its goroutine back for a while.
func (m *Manager) ServeConn(c *filter.Conn) error {
	sock := c.Engine.Socket()
	cn := &conn{m: m, down: c, codec: h1.NewServer(sock, m.h1)}
	m.counters.CxTotal.Inc()
	m.counters.CxActive.Inc()
	m.counters.CxHTTP1Total.Inc()
	m.counters.CxHTTP1Active.Inc()
	sock.LimitStall(m.spec.StreamIdleTimeout)
	cn.stopDrain = c.Engine.OnDrain(cn.drain)
	cn.idleSince = time.Now()
	cn.age = m.ageOf(c.Meta.Start)
	cn.turnFn = cn.turn
	return cn.serve()
}

// drain makes the next response the last one of the connection.
func (c *conn) drain() {
	c.drained.Store(true)
	c.codec.Announce()
}

// serve runs streams until the connection is over or parked. Most of them run in
// turns; here are those that read more from the client than their head.
func (c *conn) serve() error {
	for {
		down, err := c.accept()
		if err != nil {
			if err == filter.Parked {
				return err
			}
			return c.close(err)
		}
		if down != nil {
			c.next = c.begin(down)
		}
		st := c.next
		if c.next = nil; st == nil || !c.complete(st) {
			return c.close(nil)
		}
	}
}

// turn serves a stream inside a read of the connection (h1.ServerConn.AcceptEach). It
// reports false, with the stream in c.next, if that must go on outside, and also if
// the connection is over.
func (c *conn) turn(down codec.ServerStream) (more bool) {
	st := c.begin(down)
	if st.reads() {
		c.next = st
		return false
	}
	return c.complete(st)
}

func (c *conn) begin(down codec.ServerStream) *stream {
	st := c.m.begin()
	st.begin(c, down)
	return st
}

// complete serves a stream to its end and reports whether there may be another.
func (c *conn) complete(st *stream) bool {
	start := st.Meta.Start
	took, reusable := st.proceed()
	st.gen.end(st)
	c.served++
	c.idleSince = start.Add(took)
	c.codec.SetIdleDeadline(c.parkAt())
	return reusable
}

// parkAt is when the connection gives its goroutine back.
func (c *conn) parkAt() time.Time {
	at := c.idleSince.Add(parkAfter)
	if end, _ := c.ends(); !end.IsZero() && end.Before(at) {
		return end
	}
	return at
}

// accept waits for a request that is not served in its turn, on this goroutine for a
// short while and parked from then on. A nil stream without an error says that c.next
// has it or, if that is nil, that the connection is over.
func (c *conn) accept() (codec.ServerStream, error) {
	c.codec.SetIdleDeadline(c.parkAt())
	s, err := c.codec.AcceptEach(c.turnFn)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return s, err
	}
	end, why := c.ends()
	if !end.IsZero() && !time.Now().Before(end) {
		return nil, why
	}
	if c.down.Engine.Park(end, c.resume) {
		return nil, filter.Parked
	}
	c.codec.SetIdleDeadline(end)
	s, err = c.codec.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = why
	}
	return s, err
}

// resume continues a parked connection on a new goroutine.
func (c *conn) resume(readable bool) error {
	if !readable {
		_, why := c.ends()
		return c.close(why)
	}
	c.idleSince = time.Now() // so that accept waits for what has made the socket readable
	return c.serve()
}

var errIdle = errors.New("idle timeout")

// close ends the connection and counts why.
func (c *conn) close(err error) error {
	k := c.m.counters
	c.stopDrain()
	var bad *codec.ProtocolError
	switch {
	case err == nil:
		k.CxDestroyLocal.Inc()
		if c.drained.Load() {
			k.CxDrainClose.Inc()
		}
	case errors.Is(err, errIdle):
		k.CxIdle.Inc()
		k.CxDestroyLocal.Inc()
	case errors.Is(err, errOld):
		c.tooOld()
		k.CxDestroyLocal.Inc()
	case errors.As(err, &bad):
		k.CxProtocol.Inc()
		k.CxDestroyLocal.Inc()
	case errors.Is(err, io.EOF):
		k.CxDestroyPeer.Inc()
	default:
		k.CxDestroyPeer.Inc()
	}
	k.CxDestroy.Inc()
	k.CxActive.Dec()
	k.CxHTTP1Active.Dec()
	k.CxLength.Record(uint64(time.Since(c.down.Meta.Start).Milliseconds()))
	if err == nil || bad != nil {
		c.linger()
	}
	_ = c.codec.Close() // the connection is over: nobody is left to tell
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// linger gives a client that has not read its last answer yet the time to do so: a
// close with unread bytes in the socket would reset the connection and destroy it.
func (c *conn) linger() {
	sock := c.down.Engine.Socket()
	if sock.CloseWrite() != nil {
		return
	}
	if sock.SetReadDeadline(time.Now().Add(c.m.spec.DelayedClose)) != nil {
		return
	}
	var rest buffer.Buf
	for left := lingerBytes; left > 0; {
		n, err := sock.ReadBuf(&rest)
		rest.Release()
		if err != nil {
			return
		}
		left -= n
	}
}

// lingerBytes is how much of what a client still sends is read and thrown away.
const lingerBytes = 1 << 20
