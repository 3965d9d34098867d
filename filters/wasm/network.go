package wasm

import (
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/wasm"
)

// Network describes the filter of connections.
var Network = filter.NetworkSpec[*wasm.Config]{
	Name:  "envoy.filters.network.wasm",
	Type:  "envoy.extensions.filters.network.wasm.v3.Wasm",
	Parse: parseNetwork,
	New:   newConnFactory,
}

func newConnFactory(c *wasm.Config, env filter.Env) (func() filter.Network, error) {
	p, err := wasm.Open(c, env)
	if err != nil {
		return nil, err
	}
	sh := &shared{plugin: p, env: env}
	if p.SeesBytes() {
		return func() filter.Network { return &flows{Conn{shared: sh}} }, nil
	}
	return func() filter.Network { return &Conn{shared: sh} }, nil
}

// Conn serves one connection at a time. Its fields are guarded by the lock of the context.
type Conn struct {
	*shared
	c       *filter.Conn
	context wasm.Context
	begun   bool // the guest knows the connection
	gone    bool // the guest has failed: it is not asked any more
	closed  bool // the guest has closed the connection
	let     bool // the guest lets what waits go on
	down    flow
	up      flow
	remote  bool          // the client was the last one to end its direction
	wake    chan struct{} // made when the connection waits
}

// flow is a direction of a connection.
type flow struct {
	kept buffer.Buf // what the guest has seen and not let go on; owned
	open bool       // the guest may look at it
}

// flows is the filter for guests that want to see what is sent.
type flows struct{ Conn }

var (
	_ wasm.Subject      = (*Conn)(nil)
	_ filter.ConnOpener = (*Conn)(nil)
	_ filter.ConnCloser = (*Conn)(nil)
	_ filter.ConnReader = (*flows)(nil)
	_ filter.ConnWriter = (*flows)(nil)
)

// The ends of connections.
var (
	errConnFailed = errors.New("wasm: the plugin has failed")
	errConnClosed = errors.New("wasm: the plugin has closed the connection")
	errConnHeld   = errors.New("wasm: the plugin keeps more bytes together than per_connection_buffer_limit_bytes")
)

// Reset implements filter.Network.
func (f *Conn) Reset() {
	if f.begun {
		f.begun = false
		f.context.Leave()
	}
	f.down.kept.Release()
	f.up.kept.Release()
	wake := f.wake
	*f = Conn{shared: f.shared, wake: wake}
}

// fail is what becomes of a connection whose guest has failed.
func (f *Conn) fail() error {
	f.gone = true
	if f.plugin.Policy == wasm.FailOpen {
		return nil
	}
	f.c.Meta.Termination = "wasm_fail_stream"
	return errConnFailed
}

// OnConn implements filter.ConnOpener.
func (f *Conn) OnConn(c *filter.Conn) error {
	f.c = c
	if f.wake == nil {
		f.wake = make(chan struct{}, 1)
	}
	err := f.plugin.Enter(&f.context, f)
	f.begun = f.context.Entered()
	if err != nil {
		return f.fail()
	}
	f.context.Lock()
	action, err := f.context.OnNewConnection()
	if err == nil && action != wasm.Continue {
		err = f.hold(false)
	}
	closed := f.closed
	f.context.Unlock()
	switch {
	case err != nil:
		return f.ended(err)
	case closed:
		return errConnClosed
	}
	return nil
}

// ended is what an error makes of the connection: the guest has failed, or the connection is over.
func (f *Conn) ended(err error) error {
	if errors.Is(err, errGone) {
		return err
	}
	return f.fail()
}

var errGone = errors.New("wasm: the connection has ended")

// hold waits for the guest to let the connection go on, for as long as it waits for an answer
// itself, or, with forever, until the end. The context is locked, but not while it waits. The
// error is errGone, or a failure of the guest.
func (f *Conn) hold(forever bool) error {
	t := time.NewTicker(step)
	defer t.Stop()
	for !f.let && !f.closed && (forever || f.context.Waiting()) {
		if f.context.Broken() {
			return errConnFailed
		}
		f.context.Unlock()
		var gone error
		select {
		case <-f.wake:
		case <-t.C:
		case <-f.c.Engine.Context().Done():
			gone = errGone
		}
		f.context.Lock()
		if gone != nil {
			return gone
		}
	}
	return nil
}

// OnRead implements filter.ConnReader.
func (f *flows) OnRead(_ *filter.Conn, b *buffer.Buf, end bool) error {
	return f.data(&f.down, b, end)
}

// OnWrite implements filter.ConnWriter.
func (f *flows) OnWrite(_ *filter.Conn, b *buffer.Buf, end bool) error {
	err := f.data(&f.up, b, end)
	if err != nil || !end || f.gone || !f.begun {
		return err
	}
	f.context.Lock()
	err = f.context.OnUpstreamClose()
	f.context.Unlock()
	if err != nil {
		return f.fail()
	}
	return nil
}

func (f *flows) tell(d *flow, n int, end bool) (uint64, error) {
	if d == &f.down {
		return f.context.OnDownstreamData(n, end)
	}
	return f.context.OnUpstreamData(n, end)
}

// data shows the guest what is sent, with all that it has kept together before.
func (f *flows) data(d *flow, b *buffer.Buf, end bool) error {
	if f.gone || !f.begun {
		return nil
	}
	f.context.Lock()
	f.let = false
	d.kept.MoveAll(b)
	d.open = true
	if end {
		f.remote = d == &f.down
	}
	action, err := f.tell(d, d.kept.Len(), end)
	goes := err == nil && action == wasm.Continue
	if err == nil && !goes && !f.closed && d == &f.down {
		err = f.hold(end)
		goes = f.let
	}
	d.open = false
	closed := f.closed
	f.context.Unlock()
	switch {
	case err != nil:
		if err := f.ended(err); err != nil {
			return err
		}
		goes = true
	case closed:
		return errConnClosed
	}
	if goes {
		b.MoveAll(&d.kept)
	} else if d.kept.Len() > f.limit() {
		return errConnHeld
	}
	return nil
}

func (f *Conn) limit() int {
	if f.env.BufferLimit > 0 {
		return f.env.BufferLimit
	}
	return defaultLimit
}

// OnClose implements filter.ConnCloser.
func (f *Conn) OnClose(*filter.Conn, error) {
	if !f.begun {
		return
	}
	if !f.gone {
		f.context.Lock()
		_ = f.context.OnDownstreamClose(f.remote) // the connection has ended anyway
		f.context.Unlock()
	}
	f.begun = false
	f.context.Leave()
}

// Map implements wasm.Subject.
func (f *Conn) Map(wasm.MapType) (*header.Map, bool) { return nil, false }

// Changed implements wasm.Subject.
func (f *Conn) Changed(wasm.MapType) {}

// Buffer implements wasm.Subject.
func (f *Conn) Buffer(t wasm.BufferType) *buffer.Buf {
	switch {
	case t == wasm.DownstreamData && f.down.open:
		return &f.down.kept
	case t == wasm.UpstreamData && f.up.open:
		return &f.up.kept
	}
	return nil
}

// Attributes implements wasm.Subject.
func (f *Conn) Attributes() attributes.Source { return attributes.Source{Conn: f.c} }

// Reply implements wasm.Subject: a connection has no replies.
func (f *Conn) Reply(*filter.Reply) wasm.Status { return wasm.StatusBadArgument }

// Continue implements wasm.Subject.
func (f *Conn) Continue(t wasm.StreamType) wasm.Status {
	if t != wasm.Downstream {
		return wasm.StatusUnimplemented // as in Envoy
	}
	f.let = true
	f.rouse()
	return wasm.StatusOK
}

// Close implements wasm.Subject. A connection on which nothing is sent is closed with the
// next bytes.
func (f *Conn) Close(t wasm.StreamType) wasm.Status {
	if t != wasm.Downstream && t != wasm.Upstream {
		return wasm.StatusBadArgument
	}
	f.closed = true
	f.rouse()
	return wasm.StatusOK
}

// ClearRouteCache implements wasm.Subject.
func (f *Conn) ClearRouteCache() wasm.Status { return wasm.StatusOK }

func (f *Conn) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}
