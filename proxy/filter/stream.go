package filter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/trace"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// Stream is one HTTP request and its response on their way through the filters.
type Stream struct {
	Request          header.Map
	RequestTrailers  header.Map
	Response         header.Map
	ResponseTrailers header.Map
	// Conn is the connection, read only. Its Remote is whom the request comes from, as
	// x-forwarded-for or what else the connection manager goes by says; see Accepted.
	Conn      *meta.Conn
	Meta      meta.Stream
	Route     Route // nil where no route matches; see Engine.RefreshRoute
	Engine    Engine
	ReplyBody string        // body of a local reply, for %LOCAL_REPLY_BODY%
	State     State         // filter state: what filters tell each other and the access log
	Metadata  meta.Metadata // dynamic metadata
	// SchemeOfHost says that upstream is to see the scheme by which it is reached, rather
	// than the client's (scheme_header_transformation.match_upstream).
	SchemeOfHost bool
	// Lasting says that somebody looks at the response after it was passed on, such as an access
	// log: whoever gives back what its strings point into keeps them first (header.Map.Keep).
	Lasting bool
	// Cluster is what a filter has waited for, so that whoever sends the request has it, even
	// if it is given back meanwhile; nil: it is looked for.
	Cluster *cluster.Cluster
	Session *Conn // the connection that the stream runs on; nil where there is none
	Why     why.Record

	// Deciding is the filter whose hook runs, by its place in the chain; -1 before and after.
	// The engine sets it, for Decide.
	Deciding int
	// Tracing is how the connection manager traces, nil: not at all. Traced tells what it has
	// decided, and Span is the span of the request, nil where there is none.
	Tracing *trace.Tracing
	Traced  trace.Reason
	Span    *trace.Span
	// Upstream names the host that a filter wants; see cluster.OverrideHost.
	Upstream cluster.OverrideHost

	random  uint64        // see Random
	elapsed time.Duration // see Elapsed
	entry   accesslog.Entry
}

// Accepted is the connection as it was accepted, whatever the request says of its client.
// Its streams share it: read only.
func (s *Stream) Accepted() *meta.Conn {
	if s.Session != nil {
		return s.Session.Meta
	}
	return s.Conn
}

// Elapsed is the time from Meta.Start to the last Tick, at least a nanosecond: a phase
// that has happened is never at zero. It belongs to the goroutine of the response.
func (s *Stream) Elapsed() time.Duration { return max(s.elapsed, 1) }

// Now is Elapsed as a point in time.
func (s *Stream) Now() time.Time { return s.Meta.Start.Add(s.elapsed) }

// Tick looks at the clock. The engine does it whenever the stream has waited and after
// hooks; what lies between takes less time than looking does.
func (s *Stream) Tick() time.Duration {
	s.elapsed = time.Since(s.Meta.Start)
	return s.Elapsed()
}

// Decide notes what the filter whose hook runs has decided, for whoever asks later why the
// request went as it did: what is a constant such as "allowed by policy", of what it goes by,
// such as the name of the policy; of is lent for as long as the stream lives.
// It is for hooks of the request head and of the response: those of the request body may run on
// another goroutine.
func (s *Stream) Decide(what, of string) {
	s.Why.Note(why.Decision{By: s.Decider(), What: what, Of: of, At: s.elapsed})
}

// Decider is the name of the filter whose hook runs.
func (s *Stream) Decider() string {
	if s.Deciding < 0 || s.Deciding >= len(s.Why.Filters) {
		return why.Manager
	}
	return s.Why.Filters[s.Deciding]
}

// LogEntry describes the stream to access logs and to formatted header values. The
// result is lent until the next call.
func (s *Stream) LogEntry() *accesslog.Entry {
	s.entry = accesslog.Entry{
		Conn: s.Conn, Stream: &s.Meta, Request: &s.Request, Response: &s.Response, Trailers: &s.ResponseTrailers,
		LocalReplyBody: s.ReplyBody, Lookup: s, Metadata: &s.Metadata, HealthCheck: s.Meta.HealthCheck, Why: &s.Why, Traceable: s.Traced.Traced(),
	}
	return &s.entry
}

// Random is a number that stays the same for the life of the stream, so that what is
// decided by chance, such as a weighted cluster, stays decided when the route is
// looked up again.
func (s *Stream) Random() uint64 {
	for s.random == 0 {
		s.random = rand.Uint64()
	}
	return s.random
}

// SetRandom makes Random return n, which is not 0: for tests.
func (s *Stream) SetRandom(n uint64) { s.random = n }

// Engine is what the proxy does for a stream. Package l7 implements it; filtertest
// has one that runs in memory.
type Engine interface {
	// Context ends with the stream. It is made on first use.
	Context() context.Context
	// Sleep waits; it ends early, with an error to return, when the stream ends, or has to:
	// see Overdue.
	Sleep(d time.Duration) error
	// Wait waits until done is closed, which it reports, or until then (zero: for ever). Like
	// Sleep it ends early, with an error to return, when the stream ends or has to: what waits
	// on Context alone does not notice that a client of HTTP/1 has gone.
	Wait(done <-chan struct{}, until time.Time) (ok bool, err error)
	// Overdue returns the end of a stream in which nothing has moved since then for as long as
	// it may be idle, or that has lasted as long as it may (stream_idle_timeout,
	// max_stream_duration); nil lets it go on. It is for who waits otherwise than by Await.
	Overdue(since time.Time) error
	// BufferRequest, called in OnRequestHeaders, reads the rest of the request, up to limit
	// bytes of body, before it goes on; the filter and those before it see each piece as
	// it comes, those after it all of it at once. The result is lent, may be changed,
	// and is passed on afterwards: a request that had no body has one then. Too large a
	// body is a *Reply 413 to return.
	BufferRequest(limit int) (*buffer.Buf, error)
	// BeforeTrailers, called in OnRequestTrailers or OnResponseTrailers, returns an empty
	// buffer for what a filter still has to say of the body: the filters after it see it as
	// a piece of the body, then the trailers. It is lent until the hook returns.
	BeforeTrailers() *buffer.Buf
	// BufferStart is BufferRequest for a filter that is content with the beginning: it stops
	// when it has limit bytes, or more. all tells that it has the whole request.
	BufferStart(limit int) (b *buffer.Buf, all bool, err error)
	// BufferNext is BufferStart for a filter that waits for something else as well: it reads one
	// piece, if one is there, and does not wait for it. more tells that it has read one.
	BufferNext() (b *buffer.Buf, more, all bool, err error)
	// PollRequest, called in hooks of the request, calls OnRequestData with an empty piece when
	// nothing has come for that long, so that a filter can hand on what it has from elsewhere. It
	// lasts until it is called again; 0 ends it.
	PollRequest(every time.Duration)
	// HoldResponse, called in OnResponseHeaders, keeps the response back from the filters
	// that come after this one, and from the client, until it is complete: until then,
	// that is with the end in OnResponseData, or in OnResponseTrailers, s.Response may
	// still be changed. It returns the body that has passed this filter so far, which is
	// lent until then and may be changed. A body beyond per_connection_buffer_limit_bytes
	// of the listener is a 500.
	HoldResponse() *buffer.Buf
	// HoldUpTo lets HoldResponse keep back a body of up to limit bytes, if that is more than
	// it may otherwise.
	HoldUpTo(limit int)
	// ReleaseResponse, called in OnResponseData of the filter that has called HoldResponse,
	// lets the response go on after that hook, though it is not complete.
	ReleaseResponse()
	// PaceRequest, called in OnRequestHeaders, lets the body of the request go on to the
	// terminal filter no faster than p says. Hooks see it before.
	PaceRequest(p Pacer)
	// PaceResponse, called in OnRequestHeaders or OnResponseHeaders, lets the body of the
	// response go on to the client no faster than p says. Hooks see it before.
	PaceResponse(p Pacer)
	// Outlive lets the stream go on to the end of the response when its client has gone: what
	// comes of it matters to somebody else. It is for who has the whole request.
	Outlive()
	// RefreshRoute looks the route up again after a filter has changed what it depends on.
	RefreshRoute()
	// MissingRoute tells of a stream without a route what would have to come for it to
	// have one, if that can be asked for. What it returns is lent.
	MissingRoute() (w Wanted, ok bool)

	// What follows is for the terminal filter.

	// Monitor is what keeps hooks of the stream from running at the same time: whoever runs
	// hooks of its own holds it meanwhile, and calls no other method of the Engine.
	Monitor() sync.Locker

	// Recv gives the next piece of the request body that has passed all hooks.
	Recv(b *buffer.Buf) (codec.Next, error)
	// RequestBody tells what of the request is still to come after its head.
	RequestBody() codec.Next
	// SendInformational passes a 1xx response on.
	SendInformational(m *header.Map) error
	// SendHeaders sends s.Response through the response hooks.
	SendHeaders(end bool) error
	// SendData sends body bytes through the response hooks. It consumes b.
	SendData(b *buffer.Buf, end bool) error
	// SendTrailers sends s.ResponseTrailers through the response hooks and ends the response.
	SendTrailers() error
	// RelayRequest moves the request body to up until its end, keeping a copy in replay
	// (which may be nil) up to limit bytes. It returns at the end of the body, on an
	// error of either side (an *Error says whose), or, if inline, also with
	// codec.Data when going on would mean to wait for the client.
	RelayRequest(up codec.ClientStream, replay *Replay, inline bool) (codec.Next, error)
	// RelayResponse moves the response body and trailers from up to the client until
	// the end; it gives up at until (zero: never). It splices where no filter looks at
	// the data. An *Error says whose fault a failure is.
	RelayResponse(up codec.ClientStream, next codec.Next, until time.Time) error
	// Await reads the head of a response from up. It gives up at until, and soon after
	// the client has gone.
	Await(up codec.ClientStream, m *header.Map, until time.Time) (codec.Next, error)
	// LimitTryIdle bounds, from now on, how long nothing may move between the request's
	// end and that of the response (per_try_idle_timeout); 0 is not at all. Await and
	// RelayResponse return ErrTryIdle then.
	LimitTryIdle(d time.Duration)
	// Restart makes the stream begin anew with s.Request as it is now and, if there was
	// one, the body, which it consumes. The terminal filter, or OnResponseHeaders, returns
	// what it returns. The request must have come to its end.
	Restart(body *buffer.Buf) error
	// Started reports whether a response head was sent.
	Started() bool
	// InterruptRequest makes RelayRequest or Recv, blocked in another goroutine, return.
	InterruptRequest()
	// Downstream returns the client's side of the stream.
	Downstream() codec.ServerStream
}

// Replay keeps what was sent of a request body, for another attempt.
type Replay struct {
	Buf      buffer.Buf // owned: released by whoever owns the Replay
	Limit    int        // most bytes to keep
	Overflow bool       // more than Limit bytes were sent: Buf is empty and no retry is possible
	Ended    bool       // Buf holds the whole body
	Trailers bool       // trailers followed: they are in Stream.RequestTrailers
}

// Route is the decision of the route table for a stream.
type Route interface {
	// Name is the route's name, "" if it has none.
	Name() string
	// Override returns the parsed per-route configuration for a slot, the most specific
	// level that has one, or nil.
	Override(s Slot) any
	// Overrides yields all levels, the least specific first.
	Overrides(s Slot, yield func(any) bool)
	// Disabled reports whether the filter in that slot is switched off for the route;
	// set tells whether the route says so at all.
	Disabled(s Slot) (disabled, set bool)
}

// RouteTable finds the route of a stream. It is immutable and used concurrently.
type RouteTable interface {
	// Match returns nil if nothing matches.
	Match(s *Stream) Route
}

// ScopeSource finds the route tables of routing scopes (scoped_routes). It may change while
// in use.
type ScopeSource interface {
	// Find returns the tables of the scope with that key, nil if there is none. A key is
	// made of fragments, each followed by a zero byte; it is lent.
	Find(key string) RouteSource
}

// RouteSource is a route table that may be replaced while in use (RDS). Current
// returns nil until the first one has arrived.
type RouteSource interface{ Current() RouteTable }

// ClusterName is the name of the cluster that the route of the stream leads to, "" if it
// leads to none.
func (s *Stream) ClusterName() string {
	if r, ok := s.Route.(interface {
		ClusterName(s *Stream) string
	}); ok {
		return r.ClusterName(s)
	}
	return ""
}

// Target is the cluster that the route of the stream leads to; nil if it leads to none.
func (s *Stream) Target(from cluster.Source) *cluster.Cluster {
	name := s.ClusterName()
	if name == "" || from == nil {
		return nil
	}
	return from.Cluster(name)
}

// FilterState returns the object under key in the filter state of the stream, or else
// in that of its connection; nil if there is none.
func (s *Stream) FilterState(key string) any {
	if v := s.State.Get(key); v != nil || s.Session == nil {
		return v
	}
	return s.Session.State.Get(key)
}

// Override returns the per-route configuration in slot as a C.
func Override[C any](s *Stream, slot Slot) (C, bool) {
	if s.Route != nil {
		if c, ok := s.Route.Override(slot).(C); ok {
			return c, true
		}
	}
	var zero C
	return zero, false
}

// State is a small store of named values that live as long as the stream or the
// connection (Envoy's filter state). Values are strings, or
// have a text (StateText).
type State struct{ entries []stateEntry }

type stateEntry struct {
	meta.Object
	shared bool
}

// Fields is a filter state object whose parts have names.
type Fields interface {
	// Field returns the text of a part.
	Field(name string) (text string, ok bool)
}

// Repeatable is the key under which filter state says that the request may be sent again
// although its method does not: who answers it will notice (an idempotency key).
const Repeatable = "mecha.repeatable"

// StateText returns a filter state object as matchers and access logs see it.
func StateText(object any) (text string, ok bool) {
	switch o := object.(type) {
	case string:
		return o, true
	case fmt.Stringer:
		return o.String(), true
	}
	return "", false
}

// Set stores value under key.
func (st *State) Set(key string, value any) {
	st.set(stateEntry{Object: meta.Object{Key: key, Value: value}})
}

// Share is Set of an object that is shared with upstream: an internal listener that the
// stream or the connection goes on to has it, too.
func (st *State) Share(o meta.Object) { st.set(stateEntry{o, true}) }

// Receive takes what was shared by whoever has connected to an internal listener.
func (st *State) Receive(objects []meta.Object) {
	for _, o := range objects {
		st.set(stateEntry{o, o.Transitive})
	}
}

func (st *State) set(e stateEntry) {
	for i := range st.entries {
		if st.entries[i].Key == e.Key {
			st.entries[i] = e
			return
		}
	}
	st.entries = append(st.entries, e)
}

// Shared returns what the stream and its connection share with upstream, nil if that is
// nothing.
func (s *Stream) Shared() []meta.Object {
	own := s.State.Shared()
	if s.Session == nil {
		return own
	}
	all := s.Session.State.Shared()
	if len(own) == 0 || len(all) == 0 {
		return append(all, own...)
	}
	all = slices.DeleteFunc(all, func(o meta.Object) bool { return s.State.Get(o.Key) != nil })
	return append(all, own...)
}

// Shared returns the objects that are shared with upstream, nil if there are none.
func (st *State) Shared() (out []meta.Object) {
	for _, e := range st.entries {
		if e.shared {
			out = append(out, e.Object)
		}
	}
	return out
}

// Get returns the value under key, nil if there is none.
func (st *State) Get(key string) any {
	for i := range st.entries {
		if st.entries[i].Key == key {
			return st.entries[i].Value
		}
	}
	return nil
}

// Len is how many values there are.
func (st *State) Len() int { return len(st.entries) }

// Clone returns a State with the same values.
func (st *State) Clone() State { return State{slices.Clone(st.entries)} }

// Reset forgets everything.
func (st *State) Reset() {
	clear(st.entries)
	st.entries = st.entries[:0]
}

// Reset makes s ready for the next request.
func (s *Stream) Reset() {
	s.Request.Reset()
	s.RequestTrailers.Reset()
	s.Response.Reset()
	s.ResponseTrailers.Reset()
	s.Meta = meta.Stream{}
	s.Route = nil
	s.ReplyBody, s.Cluster = "", nil
	s.State.Reset()
	s.Metadata.Reset()
	s.Why.Reset()
	s.Upstream = cluster.OverrideHost{}
	s.random, s.elapsed = 0, 0
	s.Traced, s.Span = trace.NotTraceable, nil
	if s.entry.Stream != nil {
		s.entry = accesslog.Entry{}
	}
}
