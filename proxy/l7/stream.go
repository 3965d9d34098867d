package l7

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// stream is one request and its response: the engine behind filter.Stream. It is
// used again, with its chain of filters, for later requests of any connection.
type stream struct {
	filter.Stream
	m     *Manager
	gen   *generation
	conn  *conn
	down  codec.ServerStream
	chain *chain
	own   *chain // to come back to after an upgrade that had another one
	off   uint64 // filters switched off by the route, one bit each

	next      nextOf     // what of the request has not been read
	buffered  buffer.Buf // request body read ahead by BufferRequest
	hasBuffer bool
	unseen    bool          // what is in buffered has not passed the hooks
	unshown   bool          // nor have the trailers, though they were read
	piece     buffer.Buf    // request body on its way up
	answer    buffer.Buf    // response body on its way down
	started   bool          // a final response head was sent
	ended     bool          // the response is complete
	head      bool          // HEAD: the response has no body
	upgrade   string        // wanted upgrade type, lower case, "connect" for CONNECT
	idle      time.Duration // how long nothing may move; 0 is for ever
	tryIdle   time.Duration // the same once the request is complete; see LimitTryIdle
	end       time.Time     // when the stream has to be over; zero: never
	moved     atomic.Int64  // when something moved while the request was incomplete, Unix nanoseconds
	client    meta.Conn     // what Conn is where the request says who the client is
	operation string        // that the client is to be told
	broken    bool          // downstream cannot be used any more
	err       error         // of reading the head

	// monitor keeps hooks from running at the same time while a second goroutine
	// moves the request body.
	monitor sync.Mutex

	ctxOnce sync.Once
	ctx     context.Context
	cancel  context.CancelFunc
}

// nextOf is a codec.Next that the goroutine of the response looks at while another one
// moves the request.
type nextOf struct{ v atomic.Uint32 }

func (n *nextOf) get() codec.Next  { return codec.Next(n.v.Load()) }
func (n *nextOf) set(x codec.Next) { n.v.Store(uint32(x)) }

func newStream(m *Manager, g *generation) *stream {
	st := &stream{m: m, gen: g, chain: g.factory.build()}
	st.Engine = st
	return st
}

// begin starts an exchange and reads the request head. What became of that is for
// proceed.
func (st *stream) begin(c *conn, down codec.ServerStream) {
	st.conn, st.down = c, down
	st.Conn, st.Session = c.down.Meta, c.down
	st.Meta.Start = time.Now()
	k := st.m.counters
	k.RqTotal.Inc()
	k.RqHTTP1.Inc()
	k.RqActive.Inc()
	st.err = st.readHead()
}

// proceed runs the exchange whose head was read to the access log, and reports whether
// the connection can carry another one.
func (st *stream) proceed() (took time.Duration, reusable bool) {
	err := st.err
	if err == nil {
		err = st.run()
	}
	if err != nil {
		st.fail(err)
	}
	return st.finish()
}

// bodyInTurn is how long a body may be to be read at once, while it is at hand.
const bodyInTurn = 64 << 10

// reads reports whether the exchange is going to read more from the client.
func (st *stream) reads() bool {
	switch {
	case st.err != nil:
		return false
	case st.Request.Has(header.Upgrade) || st.Request.Value(header.Method) == "CONNECT":
		return true
	case st.next.get() == codec.End:
		return false
	}
	p, ok := st.down.(codec.BodyPeeker)
	return !ok || !p.WholeBody(bodyInTurn)
}

// readHead reads the request head.
func (st *stream) readHead() (err error) {
	defer st.recoverPanic(&err)
	st.down.SetReadDeadline(st.requestDeadline())
	next, err := st.down.ReadHeaders(&st.Request)
	if err != nil {
		return st.readError(err)
	}
	st.next.set(next)
	st.Meta.Protocol = st.down.Protocol()
	st.head = st.Request.Value(header.Method) == "HEAD"
	if st.next.get() == codec.End {
		st.Meta.RequestEnd = st.Tick()
	}
	return nil
}

// run takes the request through the chain. Its error is what ended it early.
func (st *stream) run() (err error) {
	defer st.recoverPanic(&err)
	if err = st.prepareRequest(); err != nil {
		return err
	}
	st.RefreshRoute()
	st.decorate()
	if err = st.checkUpgrade(); err != nil {
		return err
	}
	if st.m.spec.LogStart && st.m.logs != nil {
		e := st.LogEntry()
		e.Type = accesslog.DownstreamStart
		st.m.logs.Log(e)
	}
	for {
		err = st.serve()
		if err != filter.ErrRestart {
			return err
		}
		if err = st.again(); err != nil {
			return err
		}
	}
}

// serve takes the request through the filters.
func (st *stream) serve() (err error) {
	end := st.next.get() == codec.End
	for _, h := range st.chain.requestHeaders {
		if st.off&(1<<h.index) != 0 {
			continue
		}
		if err = h.f.OnRequestHeaders(&st.Stream, end); err != nil {
			return err
		}
	}
	if len(st.chain.requestHeaders) > 0 || !end {
		st.Tick()
	}
	return st.chain.terminal.ServeStream(&st.Stream)
}

// recoverPanic turns a bug in a filter into the loss of one stream.
func (st *stream) recoverPanic(err *error) {
	p := recover()
	if p == nil {
		return
	}
	st.m.counters.StreamPanics.Inc()
	st.m.log.Error("stream panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	*err = &filter.Error{Source: filter.Internal, Code: 500, Text: "filter_panic"}
}

func (st *stream) requestDeadline() time.Time {
	if t := st.m.spec.RequestTimeout; t > 0 {
		return st.Meta.Start.Add(t)
	}
	if t := st.m.spec.StreamIdleTimeout; t > 0 {
		return st.Meta.Start.Add(t)
	}
	return time.Time{}
}

// RefreshRoute implements filter.Engine.
func (st *stream) RefreshRoute() {
	st.Route = nil
	if table := st.m.routes.Current(); table != nil {
		st.Route = table.Match(&st.Stream)
	}
	st.Meta.RouteName = ""
	if st.Route != nil {
		st.Meta.RouteName = st.Route.Name()
	}
	st.off = st.factory().off(st.Route)
	st.setLimits()
}

// MissingRoute implements filter.Engine.
func (st *stream) MissingRoute() (w filter.Wanted, ok bool) {
	if d, can := st.m.routes.Current().(filter.Demander); can {
		return d.Wanted(&st.Stream)
	}
	return w, false
}

// finish counts, logs and gives back what the exchange held.
func (st *stream) finish() (took time.Duration, reusable bool) {
	st.Meta.End = st.Tick()
	k := st.m.counters
	k.RqActive.Dec()
	k.RqTime.Record(uint64(st.Meta.End.Milliseconds()))
	st.countWire()
	for _, h := range st.chain.done {
		if st.off&(1<<h.index) == 0 {
			h.f.OnDone(&st.Stream)
		}
	}
	if st.m.logs != nil {
		e := st.LogEntry()
		e.Type = accesslog.DownstreamEnd
		st.m.logs.Log(e)
	}
	reusable = st.down.Release() && !st.broken && st.ended
	took = st.Meta.End
	st.chain.reset()
	st.reset()
	return took, reusable
}

func (st *stream) countWire() {
	read, written := st.down.WireBytes()
	st.Meta.HeaderReceived, st.Meta.HeaderSent = read.Header, written.Header
	st.m.counters.CxRx.Add(uint64(read.Header + read.Body))
	st.m.counters.CxTx.Add(uint64(written.Header + written.Body))
}

func (st *stream) reset() {
	if st.cancel != nil {
		st.cancel()
		st.ctx, st.cancel = nil, nil
		st.ctxOnce = sync.Once{}
	}
	st.buffered.Release()
	st.piece.Release()
	st.answer.Release()
	st.Stream.Reset()
	if st.own != nil {
		st.chain, st.own = st.own, nil
	}
	if st.Conn == &st.client {
		st.client = meta.Conn{}
	}
	st.Conn, st.Session, st.conn, st.down = nil, nil, nil, nil
	st.operation = ""
	st.off, st.upgrade, st.idle, st.tryIdle, st.end, st.err = 0, "", 0, 0, time.Time{}, nil
	st.moved.Store(0)
	st.next.set(codec.End)
	st.hasBuffer, st.unseen, st.unshown, st.started, st.ended, st.head, st.broken = false, false, false, false, false, false, false
}

// Context implements filter.Engine.
func (st *stream) Context() context.Context {
	st.ctxOnce.Do(func() { st.ctx, st.cancel = context.WithCancel(st.conn.down.Engine.Context()) })
	return st.ctx
}

// Sleep implements filter.Engine.
func (st *stream) Sleep(d time.Duration) error {
	end := time.Now().Add(d)
	for {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		t := time.NewTimer(min(left, watchStep))
		select {
		case <-t.C:
		case <-st.conn.down.Engine.Context().Done():
			t.Stop()
			return errGone
		}
		if st.gone() {
			return errGone
		}
	}
}

// errGone is the end of a stream whose client has gone.
var errGone = &filter.Error{
	Source: filter.Downstream, Flag: meta.DownstreamConnectionTermination,
	Text: "downstream_remote_disconnect",
}

// unsent is the end of a stream whose client did not get what was written: it has gone,
// or has read nothing for as long as a stream may be idle.
func (st *stream) unsent(err error) error {
	if !isTimeout(err) {
		return errGone
	}
	st.m.counters.RqIdle.Inc()
	return &filter.Error{Source: filter.Internal, Flag: meta.StreamIdleTimeout, Text: replyIdleTimeout.Details, Err: err}
}

// upgraded reports whether the stream has become a tunnel.
func (st *stream) upgraded() bool { return st.upgrade != "" && st.down.Upgraded() }

// gone reports, without waiting, whether the client has gone.
func (st *stream) gone() bool { return st.conn.down.Engine.Socket().PeerClosed() }

// Started implements filter.Engine.
func (st *stream) Started() bool { return st.started }

// Downstream implements filter.Engine.
func (st *stream) Downstream() codec.ServerStream { return st.down }

// RequestBody implements filter.Engine.
func (st *stream) RequestBody() codec.Next {
	if st.hasBuffer && st.buffered.Len() > 0 {
		return codec.Data
	}
	return st.next.get()
}

// InterruptRequest implements filter.Engine.
func (st *stream) InterruptRequest() { st.down.Interrupt() }

// fail ends a stream with what went wrong: a local reply where none was begun, a
// reset otherwise.
func (st *stream) fail(err error) {
	var reply *filter.Reply
	if errors.As(err, &reply) {
		st.reply(reply)
		return
	}
	var fe *filter.Error
	if !errors.As(err, &fe) {
		fe = &filter.Error{Source: filter.Internal, Code: 500, Text: "internal_error", Err: err}
		st.m.log.Warn("stream failed", "error", err)
	}
	st.Meta.Flags |= fe.Flag
	if fe.Text != "" {
		st.Meta.Details = fe.Text
	}
	if !st.started && fe.Code != 0 {
		st.reply(&filter.Reply{Code: fe.Code, Details: st.Meta.Details, Flags: fe.Flag})
		return
	}
	st.broken = true
	k := st.m.counters
	if fe.Source == filter.Downstream {
		k.RqRxReset.Inc()
		k.CxActiveRq.Inc()
		k.CxRemoteActive.Inc()
	} else {
		k.RqTxReset.Inc()
	}
	st.down.Reset(codec.ResetCancel)
}

// readError explains why a request could not be read.
func (st *stream) readError(err error) error {
	var bad *codec.ProtocolError
	switch {
	case errors.As(err, &bad):
		st.conn.version.spoil()
		st.broken = true
		if bad.Details == replyNoHost.Details || bad.Details == replyBadPath.Details {
			return &filter.Reply{Code: bad.Code, Details: bad.Details} // not the codec's business in Envoy
		}
		st.m.counters.CxProtocol.Inc()
		if bad.Code == 0 {
			return &filter.Error{Source: filter.Downstream, Flag: meta.DownstreamProtocolError, Text: bad.Details}
		}
		return badRequest(bad)
	case isTimeout(err):
		return st.headTimedOut()
	}
	return errGone
}

// badRequest is the answer to a message that breaks the rules.
func badRequest(bad *codec.ProtocolError) *filter.Reply {
	return &filter.Reply{
		Code: bad.Code, Body: statusText(bad.Code), Details: bad.Details, Flags: meta.DownstreamProtocolError,
	}
}

// headTimedOut answers a request whose head did not arrive in time.
func (st *stream) headTimedOut() error {
	t := st.m.spec.RequestHeadersTimeout
	if t <= 0 || time.Since(st.Meta.Start) < t {
		return st.timedOut()
	}
	st.conn.version.spoil()
	st.broken = true
	st.m.counters.RqHeaderTime.Inc()
	return &replyHeaderTimeout
}

// timedOut answers a request that did not arrive in time.
func (st *stream) timedOut() error {
	st.conn.version.spoil()
	st.broken = true
	if t := st.m.spec.RequestTimeout; t > 0 && time.Since(st.Meta.Start) >= t {
		st.m.counters.RqTimeout.Inc()
		return &replyRequestTimeout
	}
	if !st.end.IsZero() && !time.Now().Before(st.end) {
		st.m.counters.RqMaxDuration.Inc()
		return &replyDurationIncomplete
	}
	st.m.counters.RqIdle.Inc()
	return &replyIdleTimeout
}
