// Package idempotency is the HTTP filter mecha.filters.http.idempotency: requests that change
// something become safe to repeat (draft-ietf-httpapi-idempotency-key-header).
//
// The proxy of the client stamps a key on them. The proxy of the server keeps the response to
// the first request with a key before the client sees it, and gives it to every further one:
// what is under way is waited for, another request with the same key is refused, and what may
// have been carried out without anybody knowing how it ended is never sent again.
//
// It is not Envoy's.
package idempotency

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "mecha.filters.http.idempotency",
	Type:       "mecha.filters.http.idempotency.v1.Idempotency",
	RouteType:  "mecha.filters.http.idempotency.v1.IdempotencyPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config is the parsed configuration of the filter, or the first lines of it that of a route.
type Config struct {
	Disabled bool // of a route
	Required bool // a request without a key is refused

	Header       string // lower case
	Methods      []string
	Stamp        bool      // requests without a key get one
	Store        StoreSpec // the zero value: none, keys are for who comes after
	Identity     []string  // headers, lower case, that say who a client is
	TTL          time.Duration
	Wait         time.Duration // for a request with the same key
	MaxRequest   int           // bytes of body
	MaxResponse  int           // bytes of body
	NotKept      []int         // codes of responses that say that nothing was carried out
	FailureAllow bool          // requests pass while the store does not work
}

// StoreSpec says where responses are kept: in a Redis, in a file, or in memory without either.
type StoreSpec struct {
	Redis    *RedisSpec
	Path     string
	MaxBytes int64
}

type counters struct {
	Stamped  stats.Counter `stat:"stamped" help:"requests that were given a key"`
	First    stats.Counter `stat:"first" help:"requests with a key that nobody had sent before"`
	Kept     stats.Counter `stat:"kept" help:"responses that were kept"`
	Replayed stats.Counter `stat:"replayed" help:"requests that were answered with the response of an earlier one"`
	Waited   stats.Counter `stat:"waited" help:"requests that had to wait for an earlier one"`
	Conflict stats.Counter `stat:"conflict" help:"requests refused since an earlier one was still under way"`
	Mismatch stats.Counter `stat:"mismatch" help:"requests refused since their key was another request's"`
	Unknown  stats.Counter `stat:"outcome_unknown" help:"requests refused since nobody knows how an earlier one ended"`
	TooLarge stats.Counter `stat:"response_too_large" help:"responses that were too large to be kept, and requests refused for that"`
	Invalid  stats.Counter `stat:"key_invalid" help:"requests refused since they had no key, or none that is one"`
	Failed   stats.Counter `stat:"store_failed" help:"times that the store did not work"`
	Renewal  stats.Counter `stat:"renewal_failed" help:"times that claims in a shared store could not be renewed"`
	Evicted  stats.Counter `stat:"evicted" help:"responses forgotten before their time since memory was full"`
}

// shared is what the streams of a filter have in common.
type shared struct {
	*counters
	config *Config
	slot   filter.Slot
	log    *slog.Logger
	held   *holding // nil: nothing is kept
}

// holding is a store and what is under way for it in this process.
type holding struct {
	store Store

	mu      sync.Mutex
	flights map[Key]chan struct{} // closed when the one under way is settled
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := &shared{config: c, slot: env.Slot, log: env.Log}
	var release func()
	sh.counters, release = stats.SharedUnder[counters](env.Parent, stats.Label{Value: "idempotency"})
	env.OnRetire(release)
	if c.Store != (StoreSpec{}) {
		var err error
		if sh.held, release, err = open(c.Store, env, sh.counters); err != nil {
			return nil, filter.At("store", err)
		}
		env.OnRetire(release)
	}
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// open returns the store of a file, which all filters share that name it, one in memory, or one
// in a Redis, where each filter has connections of its own.
func open(spec StoreSpec, env filter.Env, n *counters) (*holding, func(), error) {
	switch {
	case spec.Redis != nil:
		r := openRedis(*spec.Redis, env.Clusters, n.Renewal.Inc)
		return newHolding(r), r.close, nil
	case spec.Path == "":
		return newHolding(newMemory(spec.MaxBytes, n.Evicted.Inc)), func() {}, nil
	}
	f, release := filter.Share(env.Shares, "idempotency file "+spec.Path, func() *file { return openFile(spec) })
	if f.err != nil {
		release()
		return nil, nil, f.err
	}
	return f.holding, release, nil
}

func newHolding(s Store) *holding {
	return &holding{store: s, flights: map[Key]chan struct{}{}}
}

// file is a store on disk, or why there is none.
type file struct {
	holding *holding
	disk    *disk
	err     error
}

func openFile(spec StoreSpec) *file {
	d, err := openDisk(spec.Path, spec.MaxBytes)
	if err != nil {
		return &file{err: err}
	}
	return &file{newHolding(d), d, nil}
}

// Close implements io.Closer.
func (f *file) Close() error {
	if f.err == nil {
		f.disk.close()
	}
	return nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	claimed bool // the stream is the first one with its key
	waited  bool // for another one
	key     Key
	rec     Record
	body    []byte // of the response, so far
	large   bool   // there is more than may be kept
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseData     = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
	_ filter.Done             = (*Filter)(nil)
	_ filter.Choosy           = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { *f = Filter{shared: f.shared} }

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.claimed }

// The answers.
var (
	replyMissing  = filter.Reply{Code: 400, Body: "a request of this kind needs an idempotency key", Details: "idempotency_key_missing"}
	replyInvalid  = filter.Reply{Code: 400, Body: "the idempotency key is not 1 to 255 printable characters", Details: "idempotency_key_invalid"}
	replyMismatch = filter.Reply{Code: 422, Body: "the idempotency key was sent with another request", Details: "idempotency_key_reused"}
	replyRunning  = filter.Reply{
		Code: 409, Body: "a request with this idempotency key is under way", Details: "idempotency_request_in_flight",
		Header: []header.Field{{Name: "retry-after", Value: "1"}},
	}
	replyUnknown = filter.Reply{Code: 409, Body: "nobody knows how an earlier request with this idempotency key ended", Details: "idempotency_outcome_unknown"}
	replyLarge   = filter.Reply{Code: 409, Body: "the response to an earlier request with this idempotency key was too large to be kept", Details: "idempotency_response_not_kept"}
	replyFailed  = filter.Reply{Code: 503, Body: "idempotency keys cannot be looked up", Details: "idempotency_store_failed"}
)

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	text, first := f.first(s)
	switch first {
	case passes:
		return nil
	case invalid:
		f.Invalid.Inc()
		return &replyInvalid
	case missing:
		f.Invalid.Inc()
		return &replyMissing
	case stamps:
		text = rand.Text()
		s.Request.Set(f.config.Header, text)
		f.Stamped.Inc()
		s.State.Set(filter.Repeatable, text)
		s.Decide("stamps a key", "")
	}
	if f.held == nil {
		return nil
	}
	body, err := s.Engine.BufferRequest(f.config.MaxRequest)
	if err != nil {
		return err
	}
	f.key = keyOf(s, text, f.config.Identity)
	f.rec = Record{State: Running, Request: digestOf(s, body), Until: s.Now().Add(f.config.TTL), Owner: rand.Text()}
	return f.claim(s)
}

// Forecast implements filter.Forecaster: what the store knows of a key is not asked, since who
// asks has the key.
func (f *Filter) Forecast(s *filter.Stream) error {
	switch _, first := f.first(s); first {
	case invalid:
		return &replyInvalid
	case missing:
		return &replyMissing
	case stamps:
		s.Decide("would stamp a key", "")
	case keyed:
		if f.held != nil {
			s.Decide("cannot tell: would look the key up", "")
		}
	}
	return nil
}

// decision is what is decided about a request by its head alone.
type decision int

const (
	passes  decision = iota // the filter has nothing to do with it
	invalid                 // it has what is no key
	missing                 // it needs a key and has none
	stamps                  // it has none and gets one
	keyed                   // it has one
)

// first decides about a request by its head; text is its key, if it has one.
func (f *Filter) first(s *filter.Stream) (text string, d decision) {
	own, _ := filter.Override[*Config](s, f.slot)
	c := f.config
	if own != nil && own.Disabled || !slices.Contains(c.Methods, s.Request.Value(header.Method)) || filter.IsGRPC(&s.Request) {
		return "", passes
	}
	text, there := s.Request.Find(c.Header)
	switch {
	case there && !valid(text):
		return "", invalid
	case there:
		return text, keyed
	case c.Stamp:
		return "", stamps
	case c.Required || own != nil && own.Required:
		return "", missing
	}
	return "", passes
}

// valid reports whether a text may be a key.
func valid(text string) bool {
	return text != "" && len(text) <= 255 && strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// claim makes the stream the first one with its key, or answers it.
func (f *Filter) claim(s *filter.Stream) error {
	until := time.Now().Add(f.config.Wait)
	for {
		flight := f.held.enter(f.key)
		if flight == nil {
			return f.ask(s, until)
		}
		f.noteWait(s)
		if ok, err := s.Engine.Wait(flight, until); err != nil {
			return err
		} else if !ok {
			f.Conflict.Inc()
			return &replyRunning
		}
	}
}

// noteWait counts, once for a stream, that it waits for another one.
func (f *Filter) noteWait(s *filter.Stream) {
	if f.waited {
		return
	}
	f.waited = true
	f.Waited.Inc()
	s.Decide("waits for an earlier request with the key", "")
}

// enter makes the caller the one that is under way with a key, or returns what is closed when
// whoever that is has ended.
func (h *holding) enter(k Key) (flight chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.flights[k]; c != nil {
		return c
	}
	h.flights[k] = make(chan struct{})
	return nil
}

func (h *holding) leave(k Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.flights[k])
	delete(h.flights, k)
}

// ask looks the key up; the stream is the only one in this process that does.
func (f *Filter) ask(s *filter.Stream, until time.Time) error {
	old, broken, err := f.lookUp(s, until)
	if broken == nil && err == nil && old.State == Fresh {
		f.First.Inc()
		f.claimed = true
		s.Decide("has not seen the key before", "")
		s.Engine.Outlive()
		return nil
	}
	f.held.leave(f.key)
	switch {
	case broken != nil:
		return f.failed(broken)
	case err != nil:
		return err
	case old.Request != f.rec.Request:
		f.Mismatch.Inc()
		return &replyMismatch
	case old.State == Running:
		f.Conflict.Inc()
		return &replyRunning
	case old.State != Done:
		f.Unknown.Inc()
		return &replyUnknown
	case old.Response.Large:
		f.TooLarge.Inc()
		return &replyLarge
	}
	f.Replayed.Inc()
	return old.Response.reply()
}

// How often a request asks whether one in another process has ended.
const (
	pollFirst = 10 * time.Millisecond
	pollMost  = 500 * time.Millisecond
)

// lookUp asks the store until nobody else works on the key, or until the wait is over. broken is
// an error of the store, err one that ends the stream.
func (f *Filter) lookUp(s *filter.Stream, until time.Time) (old Record, broken, err error) {
	for pause := pollFirst; ; pause = min(2*pause, pollMost) {
		if old, broken = f.held.store.Claim(s.Engine.Context(), f.key, f.rec); broken != nil {
			return old, broken, nil
		}
		left := time.Until(until)
		if old.State != Running || old.Request != f.rec.Request || left <= 0 {
			return old, nil, nil
		}
		f.noteWait(s)
		if err = s.Engine.Sleep(min(left, pause/2+mathrand.N(pause))); err != nil {
			return old, nil, err
		}
	}
}

// failed is what becomes of a request whose key cannot be looked up.
func (f *Filter) failed(err error) error {
	if errors.Is(err, context.Canceled) {
		return &replyFailed // which nobody reads: the client has gone
	}
	f.Failed.Inc()
	f.log.Warn("idempotency: the store does not work", "error", err)
	if f.config.FailureAllow {
		return nil
	}
	return &replyFailed
}

// reply gives a response again.
func (r *Response) reply() *filter.Reply {
	return &filter.Reply{
		Code: r.Code, Body: string(r.Body), Details: "idempotency_replayed", Verbatim: true,
		Modify: func(s *filter.Stream) {
			for _, h := range r.Header {
				s.Response.Add(h[0], h[1])
			}
			s.Response.Set("idempotent-replayed", "true")
		},
	}
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	if !f.claimed {
		return nil
	}
	code := s.Response.StatusCode()
	switch {
	case s.Meta.Details != "" && s.Meta.Details != "via_upstream": // a reply of the proxy's own
		f.close(s)
		return nil
	case slices.Contains(f.config.NotKept, code):
		f.forget()
		return nil
	}
	r := &Response{Code: code}
	for name, value := range s.Response.All() {
		if name[0] != ':' && !ofConnection(name) {
			r.Header = append(r.Header, [2]string{strings.Clone(name), strings.Clone(value)})
		}
	}
	f.rec.State, f.rec.Response = Done, r
	if end {
		return f.settle(s)
	}
	return nil
}

// ofConnection reports whether a field is about how a response came, and made anew.
func ofConnection(name string) bool {
	switch name {
	case "content-length", "date", "server", "x-envoy-upstream-service-time":
		return true
	}
	return false
}

// OnResponseData implements filter.ResponseData. What ends the response is passed on when the
// response is kept.
func (f *Filter) OnResponseData(s *filter.Stream, b *buffer.Buf, end bool) error {
	if !f.claimed || f.rec.Response == nil {
		return nil
	}
	switch {
	case f.large:
	case len(f.body)+b.Len() > f.config.MaxResponse:
		f.large, f.body = true, nil
		f.TooLarge.Inc()
	default:
		for p := range b.Views() {
			f.body = append(f.body, p...)
		}
	}
	if end {
		return f.settle(s)
	}
	return nil
}

// OnResponseTrailers implements filter.ResponseTrailers. Trailers are not kept.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if !f.claimed || f.rec.Response == nil {
		return nil
	}
	return f.settle(s)
}

// settleTime bounds how long a response waits for the store.
const settleTime = 10 * time.Second

// settle keeps the response. If that fails the client gets it all the same: the claim stays,
// and nobody sends the request again.
func (f *Filter) settle(s *filter.Stream) error {
	f.rec.Response.Body, f.rec.Response.Large = f.body, f.large
	if f.store(func(ctx context.Context) error { return f.held.store.Settle(ctx, f.key, f.rec) }) {
		f.Kept.Inc()
		s.Decide("keeps the response", "")
	}
	return nil
}

// forget gives the key back.
func (f *Filter) forget() {
	f.store(func(ctx context.Context) error { return f.held.store.Forget(ctx, f.key, f.rec.Owner) })
}

// store changes what is known of the key, ends the claim, and reports whether it worked.
func (f *Filter) store(do func(ctx context.Context) error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), settleTime)
	defer cancel()
	err := do(ctx)
	if err != nil {
		f.Failed.Inc()
		f.log.Warn("idempotency: a response could not be kept", "error", err)
	}
	f.claimed = false
	f.held.leave(f.key)
	return err == nil
}

// OnDone implements filter.Done.
func (f *Filter) OnDone(s *filter.Stream) {
	if f.claimed {
		f.close(s)
	}
}

// close ends a claim without a response. Only where nothing was sent upstream is it certain
// that nothing was carried out.
func (f *Filter) close(s *filter.Stream) {
	if s.Meta.UpstreamStart == 0 {
		f.forget()
		return
	}
	f.rec.State, f.rec.Response = Unknown, nil
	f.store(func(ctx context.Context) error { return f.held.store.Settle(ctx, f.key, f.rec) })
}
