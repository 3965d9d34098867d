package l7

import (
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
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/trace"
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

	next      nextOf        // what of the request has not been read
	buffered  buffer.Buf    // request body read ahead by BufferRequest
	hasBuffer bool          // it was called, and Recv was not
	tail      buffer.Buf    // what a hook puts before trailers; empty outside of it
	serving   int           // the place of the filter that sees the request head
	seen      int           // the filters before this place have seen what is in buffered
	piece     buffer.Buf    // request body on its way up
	kept      bool          // piece was taken, and waits for room upstream
	keptNext  codec.Next    // what follows it
	inPace    pace          // of the request body
	outPace   pace          // of the response body
	poll      time.Duration // see PollRequest

	trailersRead bool       // they are in RequestTrailers
	trailersIn   header.Map // while they are read, and hooks of the response may look there
	trailersSeen int        // the filters before this place have seen them

	answer    buffer.Buf    // response body on its way down
	last      buffer.Buf    // what a filter puts before its trailers, on its way down
	started   bool          // a final response head was sent
	answering bool          // the hooks have seen a response head
	direct    bool          // what is sent now is not for the hooks
	held      held          // a response that is kept back
	ended     bool          // the response is complete
	head      bool          // HEAD: the response has no body
	grpc      bool          // the client speaks gRPC
	upgrade   string        // wanted upgrade type, lower case, "connect" for CONNECT
	idle      time.Duration // how long nothing may move; 0 is for ever
	tryIdle   time.Duration // the same once the request is complete; see LimitTryIdle
	end       time.Time     // when the stream has to be over; zero: never
	logAt     time.Time     // when the next line of access logs is due while the stream lives; zero: never
	moved     atomic.Int64  // when something moved while the request was incomplete, Unix nanoseconds
	client    meta.Conn     // what Conn is where the request says who the client is
	operation string        // that the client is to be told
	span      *trace.Span   // memory for the stream's
	broken    bool          // downstream cannot be used any more

	hypothetical bool  // nobody has sent the request; see Manager.Forecast
	err          error // of reading the head

	presence

	// monitor keeps hooks from running at the same time while a second goroutine
	// moves the request body.
	monitor sync.Mutex
}

// nextOf is a codec.Next that the goroutine of the response looks at while another one
// moves the request.
type nextOf struct{ v atomic.Uint32 }

func (n *nextOf) get() codec.Next  { return codec.Next(n.v.Load()) }
func (n *nextOf) set(x codec.Next) { n.v.Store(uint32(x)) }

func newStream(m *Manager, g *generation) *stream {
	st := &stream{m: m, gen: g, chain: g.factory.build()}
	st.Engine = st
	st.Why.Begin(g.factory.names)
	st.leave = st.left
	return st
}

// begin starts an exchange and reads the request head, which may be at hand as a whole.
// What became of that is for proceed.
func (st *stream) begin(c *conn, down codec.ServerStream, atHand bool) {
	st.conn, st.down = c, down
	st.Conn, st.Session = c.down.Meta, c.down
	st.SchemeOfHost = c.m.spec.SchemeOfHost
	st.Lasting = c.m.logs != nil || c.m.traces != nil || len(st.chain.done) > 0
	st.Meta.Start = time.Now()
	k := st.m.counters
	k.RqTotal.Inc()
	c.version.requests().Inc()
	k.RqActive.Inc()
	st.follow()
	st.err = st.readHead(atHand)
}

// proceed runs the exchange whose head was read to the access log, and reports whether
// the connection can carry another one.
func (st *stream) proceed() (took time.Duration, reusable bool) {
	err := st.err
	if err == nil {
		err = st.run()
	}
	for err != nil {
		if err = st.fail(err); err != nil { // a filter makes another request of it
			err = st.rerun()
		}
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

// readHead reads the request head, which may be at hand as a whole.
func (st *stream) readHead(atHand bool) (err error) {
	defer st.recoverPanic(&err)
	st.down.SetReadDeadline(st.requestDeadline())
	next, err := st.down.ReadHeaders(&st.Request)
	if err != nil {
		return st.readError(err)
	}
	st.next.set(next)
	st.Meta.Protocol = st.down.Protocol()
	st.head = st.Request.Value(header.Method) == "HEAD"
	st.grpc = filter.IsGRPC(&st.Request)
	if st.next.get() == codec.End {
		if !atHand {
			st.Tick()
		}
		st.Meta.RequestEnd = st.Elapsed()
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
	st.trace()
	st.decorate()
	if err = st.checkUpgrade(); err != nil {
		return err
	}
	if st.m.spec.LogTimes.Start {
		st.log(accesslog.DownstreamStart)
	}
	st.logWhile()
	if err = st.serve(); err == filter.ErrRestart {
		return st.rerun()
	}
	return err
}

// rerun takes the request, as it is now, through the chain again. Its error is as that of run.
func (st *stream) rerun() (err error) {
	defer st.recoverPanic(&err)
	for err = filter.ErrRestart; err == filter.ErrRestart; {
		if err = st.again(); err == nil {
			err = st.serve()
		}
	}
	return err
}

// serve takes the request through the filters.
func (st *stream) serve() (err error) {
	end := st.next.get() == codec.End
	if len(st.chain.requestHeaders) > 0 || !end {
		st.Tick()
	}
	last := st.Elapsed()
	st.Why.Head = last
	for _, h := range st.chain.requestHeaders {
		if st.off&(1<<h.index) != 0 {
			continue
		}
		st.serving, st.Deciding = h.index, h.index
		err = h.f.OnRequestHeaders(&st.Stream, end)
		now := st.Tick()
		st.Why.Asked[h.index] += now - last
		if last = now; err != nil {
			return err
		}
		end = end && st.buffered.Len() == 0 // it may have given the request a body
	}
	st.Deciding = len(st.chain.filters) - 1
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
	st.noteCluster()
	st.log(accesslog.DownstreamEnd)
	st.remember()
	st.endTrace()
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
	st.unfollow()
	st.buffered.Release()
	st.piece.Release()
	st.tail.Release()
	st.kept = false
	st.inPace.reset()
	st.outPace.reset()
	st.answer.Release()
	st.last.Release()
	st.held.body.Release()
	st.held.over, st.held.limit = false, 0
	st.held.on, st.answering, st.direct, st.grpc = false, false, false, false
	st.Stream.Reset()
	if st.own != nil {
		st.chain, st.own = st.own, nil
		st.Why.Begin(st.gen.factory.names)
	}
	st.Deciding = -1
	if st.Conn == &st.client {
		st.client = meta.Conn{}
	}
	st.Conn, st.Session, st.conn, st.down = nil, nil, nil, nil
	st.operation = ""
	st.off, st.upgrade, st.idle, st.tryIdle, st.end, st.logAt, st.err = 0, "", 0, 0, time.Time{}, time.Time{}, nil
	st.moved.Store(0)
	st.next.set(codec.End)
	st.trailersRead, st.seen, st.trailersSeen = false, 0, 0
	st.outlives, st.poll = false, 0
	st.hasBuffer, st.started, st.ended, st.head, st.broken = false, false, false, false, false
}

// Sleep implements filter.Engine.
func (st *stream) Sleep(d time.Duration) error {
	_, err := st.Wait(nil, time.Now().Add(d))
	return err
}

// Wait implements filter.Engine. The client is looked for now and then; one of HTTP/2 says so
// itself.
func (st *stream) Wait(done <-chan struct{}, until time.Time) (ok bool, err error) {
	begun := time.Now()
	for {
		step := watchStep
		if !until.IsZero() {
			if step = min(step, time.Until(until)); step <= 0 {
				return false, nil
			}
		}
		if err := st.Overdue(begun); err != nil {
			return false, err
		}
		t := time.NewTimer(step)
		select {
		case <-done:
			t.Stop()
			return true, nil
		case <-t.C:
		case <-st.conn.down.Engine.Context().Done():
			t.Stop()
			return false, errGone
		}
		if st.gone() {
			return false, st.absent(nil)
		}
	}
}

// upgraded reports whether the stream has become a tunnel.
func (st *stream) upgraded() bool { return st.upgrade != "" && st.down.Upgraded() }

// Started implements filter.Engine.
func (st *stream) Started() bool { return st.started }

// Downstream implements filter.Engine.
func (st *stream) Downstream() codec.ServerStream { return st.down }

// RequestBody implements filter.Engine.
func (st *stream) RequestBody() codec.Next {
	if st.buffered.Len() > 0 || st.inPace.holding.Load() {
		return codec.Data
	}
	return st.next.get()
}

// Monitor implements filter.Engine.
func (st *stream) Monitor() sync.Locker { return &st.monitor }

// InterruptRequest implements filter.Engine.
func (st *stream) InterruptRequest() {
	if st.inPace.on() {
		select {
		case st.inPace.stop <- struct{}{}:
		default:
		}
	}
	st.down.Interrupt()
}

// fail ends a stream with what went wrong: a local reply where none was begun, a
// reset otherwise. It returns filter.ErrRestart where a filter makes another request of it.
func (st *stream) fail(err error) error {
	var reply *filter.Reply
	if errors.As(err, &reply) {
		return st.reply(reply)
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
		return st.reply(&filter.Reply{Code: fe.Code, Body: fe.Body, Details: st.Meta.Details, Flags: fe.Flag})
	}
	st.broken = true
	byClient := fe.Source == filter.Downstream
	why := codec.ResetInternal
	if byClient {
		st.m.counters.RqRxReset.Inc()
		why = codec.ResetCancel
	} else {
		st.m.counters.RqTxReset.Inc()
	}
	st.conn.version.lost(st, byClient)
	st.down.Reset(why)
	return nil
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
		st.conn.version.violated()
		if bad.Code == 0 {
			return &filter.Error{Source: filter.Downstream, Flag: meta.DownstreamProtocolError, Text: bad.Details}
		}
		return badRequest(bad)
	case netio.IsTimeout(err):
		return st.headTimedOut()
	}
	return st.absent(err)
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
