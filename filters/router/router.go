// Package router is the terminal HTTP filter that sends a request where its route
// says: it picks a host, takes a pooled connection, sends, waits, retries what may be
// retried, and passes the response on.
//
// What comes in: a stream with its route. What goes out: the response, or a local
// reply with Envoy's code, flag and details. Which route applies is decided in package
// route; hosts, pools and limits are in package cluster.
package router

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:  "envoy.filters.http.router",
	Type:  "envoy.extensions.filters.http.router.v3.Router",
	Parse: parse,
	New:   newFactory,
}

// Config is the configuration of the router.
type Config struct {
	SuppressEnvoyHeaders bool
}

// counters are shared with the connection manager's scope, http.<stat_prefix>.
type counters struct {
	NoRoute    stats.Counter `stat:"no_route" help:"Requests without a route"`
	NoCluster  stats.Counter `stat:"no_cluster" help:"Requests whose cluster does not exist"`
	Redirect   stats.Counter `stat:"rq_redirect" help:"Always 0, as in Envoy: redirects are in rq_direct_response"`
	Direct     stats.Counter `stat:"rq_direct_response" help:"Requests answered by the route itself"`
	Total      stats.Counter `stat:"rq_total" help:"Requests that the router has seen"`
	ResetAfter stats.Counter `stat:"rq_reset_after_downstream_response_started" help:"Streams reset after the response had begun"`
	Retry      stats.Counter `stat:"rq_retry_skipped_request_not_complete" help:"Retries not made because the request body was not kept whole"`
}

// shared is what all streams of one chain have in common.
type shared struct {
	config   *Config
	clusters cluster.Source
	counters counters
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := &shared{config: c, clusters: env.Clusters}
	env.Parent.Bind(&sh.counters)
	return func() filter.HTTP { return &Filter{sh: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	sh *shared

	action  *route.ForwardAction
	retry   *route.RetryPolicy
	cluster *cluster.Cluster
	at      cluster.Attempt
	tried   [4]*cluster.Host
	timing  timing
	replay  filter.Replay
	keep    bool // the request body is kept for a retry
	retries uint32
	start   time.Time      // of the first attempt
	until   time.Time      // global timeout, zero: none, or not begun since the request is incomplete
	again   cluster.Ticket // a place among the retries, for the next attempt

	conn *cluster.Conn
	up   codec.ClientStream
	pump pump
}

var _ filter.Terminal = (*Filter)(nil)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	f.replay.Buf.Release()
	f.replay.Limit, f.replay.Overflow, f.replay.Ended, f.replay.Trailers = 0, false, false, false
	f.action, f.retry, f.cluster = nil, nil, nil
	f.at = cluster.Attempt{}
	f.tried = [4]*cluster.Host{}
	f.timing, f.keep, f.retries = timing{}, false, 0
	f.conn, f.up, f.again = nil, nil, cluster.Ticket{}
}

// ServeStream implements filter.Terminal.
func (f *Filter) ServeStream(s *filter.Stream) error {
	f.sh.counters.Total.Inc()
	r, ok := s.Route.(*route.Route)
	if !ok || r == nil {
		f.sh.counters.NoRoute.Inc()
		return &replyNoRoute
	}
	switch r.Kind {
	case route.Redirect:
		f.sh.counters.Direct.Inc() // Envoy has rq_redirect, and counts here
		return r.RedirectReply(s)
	case route.Direct:
		f.sh.counters.Direct.Inc()
		return r.DirectReply(s)
	}
	err := f.forward(s, r)
	if reply, ok := err.(*filter.Reply); ok {
		return r.Dress(reply)
	}
	return err
}

// forward sends the request to the route's cluster, as often as its retry policy
// and the rules of safe retry allow.
func (f *Filter) forward(s *filter.Stream, r *route.Route) error {
	if r = f.target(s, r); f.cluster == nil {
		f.sh.counters.NoCluster.Inc()
		return f.noCluster()
	}
	f.at.Conn, f.at.Headers, f.at.Priority = s.Conn, &s.Request, f.action.Priority
	if err := f.prepare(s, r); err != nil {
		return err
	}
	ticket, err := f.cluster.Admit(f.at.Priority)
	if err != nil {
		f.countReply(&replyOverflow)
		return &replyOverflow
	}
	defer ticket.Done()
	if f.action.ConnectTerminate && s.Request.Value(header.Method) == "CONNECT" {
		return f.terminate(s, r)
	}
	for {
		s.Meta.Attempts++
		held := f.again // the place of this attempt among the retries
		f.again = cluster.Ticket{}
		err := f.attempt(s, r)
		held.Done()
		if err == nil {
			return nil
		}
		again, failed := f.decide(s, err)
		if !again {
			return f.final(s, failed)
		}
		if err := f.backOff(s); err != nil {
			f.again.Done()
			return err
		}
	}
}

// target sets the cluster that the route leads to, nil if there is none. A control plane
// removes a cluster as soon as no route leads to it any more, which may be a moment
// after this stream has chosen its route: then the route of now counts.
func (f *Filter) target(s *filter.Stream, r *route.Route) *route.Route {
	f.find(s, r)
	if f.cluster != nil {
		return r
	}
	s.Engine.RefreshRoute()
	now, ok := s.Route.(*route.Route)
	if !ok || now == nil || now == r || now.Forward == nil {
		s.Route = r
		return r
	}
	f.find(s, now)
	return now
}

func (f *Filter) find(s *filter.Stream, r *route.Route) {
	f.action = r.Forward
	s.Meta.Cluster = r.ClusterName(s)
	f.cluster = f.sh.clusters.Cluster(s.Meta.Cluster)
}

// final is what the client gets for the failure of the last attempt.
func (f *Filter) final(s *filter.Stream, failed error) error {
	if r, ok := failed.(*filter.Reply); ok && s.Meta.Attempts > 1 {
		failed = retried(r)
	}
	f.countReply(failed)
	return failed
}

func (f *Filter) noCluster() error {
	if code := f.action.NotFoundCode; code != 0 && code != 503 {
		return &filter.Reply{Code: code, Details: replyNoCluster.Details, Flags: replyNoCluster.Flags}
	}
	return &replyNoCluster
}

// prepare works out time limits and the retry policy, and makes the request what
// upstream is to see.
func (f *Filter) prepare(s *filter.Stream, r *route.Route) error {
	f.start = s.Now()
	f.timing = timingOf(s, f.action)
	f.until = time.Time{}
	if t := f.timing.global; t > 0 {
		if s.Engine.RequestBody() == codec.End {
			f.until = f.start.Add(t)
		}
		if !f.sh.config.SuppressEnvoyHeaders {
			expected := t
			if p := f.timing.perTry; p > 0 && p < t {
				expected = p
			}
			s.Request.SetInt(header.XEnvoyExpectedRqTimeoutMs, expected.Milliseconds())
		}
	}
	if err := r.FinalizeRequest(s, !f.sh.config.SuppressEnvoyHeaders); err != nil {
		return err
	}
	f.retry = f.policy(s)
	f.keep = f.retry != nil && s.Engine.RequestBody() != codec.End
	f.replay.Limit = f.action.RetryBufferLimit
	if f.replay.Limit == 0 {
		f.replay.Limit = f.cluster.Spec().BufferLimit
	}
	if f.replay.Limit == 0 {
		f.replay.Limit = 1 << 20
	}
	return nil
}

// attempt makes one try. Its error says how it failed; nil means that the response
// has been passed on to the end.
func (f *Filter) attempt(s *filter.Stream, r *route.Route) (err error) {
	if err := f.connect(s); err != nil {
		return err
	}
	defer func() { f.release(s, err) }()
	if f.action.AttemptCount {
		s.Request.SetInt(header.XEnvoyAttemptCount, int64(s.Meta.Attempts))
	}
	if f.action.AutoHostRewrite && f.conn.Host.Hostname != "" {
		r.RewriteHost(s, f.conn.Host.Hostname, !f.sh.config.SuppressEnvoyHeaders)
	}
	next, err := f.exchange(s)
	if err != nil {
		return err
	}
	code := s.Response.StatusCode()
	f.countHost(code)
	if f.worthRetrying(s, code) && f.mayRetry(s) {
		f.drop(next)
		return &retryResponse{code}
	}
	f.countResponse(code)
	return f.respond(s, r, next)
}

// connect picks a host and takes a connection to it.
func (f *Filter) connect(s *filter.Stream) error {
	host, err := f.cluster.Pick(&f.at)
	if err != nil {
		return &replyNoHealthyHost
	}
	s.Meta.UpstreamHost, s.Meta.UpstreamHostname = host.Addr, host.Hostname
	before := s.Elapsed()
	f.conn, err = f.acquire(host)
	s.Meta.PoolReady = max(s.Tick()-before, 1)
	if err != nil {
		f.noteTried(host)
		return err
	}
	s.Meta.UpstreamLocal, s.Meta.UpstreamConn = f.conn.Local, f.conn.ID
	if f.up, err = f.conn.Open(context.Background()); err != nil {
		f.cluster.Release(f.conn, false)
		f.noteTried(host)
		return &upstreamFailure{err: err, reused: f.conn.Used()}
	}
	f.noteTried(host)
	return nil
}

func (f *Filter) acquire(host *cluster.Host) (*cluster.Conn, error) {
	if f.at.Fresh {
		return f.cluster.AcquireFresh(context.Background(), host, &f.at, f.until)
	}
	return f.cluster.Acquire(context.Background(), host, &f.at, f.until)
}

func (f *Filter) noteTried(h *cluster.Host) {
	n := len(f.at.Tried)
	if n < len(f.tried) {
		f.tried[n] = h
		f.at.Tried = f.tried[:n+1]
	}
}

// exchange sends the request and waits for the final response head.
func (f *Filter) exchange(s *filter.Stream) (codec.Next, error) {
	reused := f.conn.Used()
	f.hold(true)
	s.Meta.UpstreamStart = s.Elapsed()
	if err := f.send(s); err != nil {
		if upstreamFault(err) {
			return 0, &upstreamFailure{err: err, reused: reused}
		}
		return 0, err
	}
	for {
		s.Response.Reset()
		next, err := f.await(s)
		if err != nil {
			return 0, f.awaitFailed(s, err, reused)
		}
		code := s.Response.StatusCode()
		if code >= 200 || code == 101 {
			s.Meta.ResponseStart = s.Elapsed()
			s.Meta.UpstreamProtocol = f.up.Protocol()
			return next, nil
		}
		if err := s.Engine.SendInformational(&s.Response); err != nil {
			return 0, err
		}
	}
}

// send writes the head and what of the body is at hand. A body that is still on its
// way is left to the pump.
func (f *Filter) send(s *filter.Stream) error {
	body := s.Engine.RequestBody()
	first := s.Meta.Attempts == 1
	upgrade := s.Request.Has(header.Upgrade) || s.Request.Value(header.Method) == "CONNECT"
	end := body == codec.End && f.replay.Buf.Len() == 0
	if err := f.up.WriteHeaders(&s.Request, end); err != nil {
		return err
	}
	if end || upgrade {
		// What is held back leaves with the wait for the response.
		s.Meta.UpstreamEnd = s.Elapsed()
		return nil
	}
	if !first && f.replay.Buf.Len() > 0 {
		var again buffer.Buf
		f.replay.Buf.Share(&again, f.replay.Buf.Len())
		done := f.replay.Ended && !f.replay.Trailers
		if err := f.up.WriteData(&again, done); err != nil {
			return err
		}
	}
	if f.replay.Ended {
		if f.replay.Trailers {
			return f.up.WriteTrailers(&s.RequestTrailers)
		}
		return f.up.Flush()
	}
	left, err := s.Engine.RelayRequest(f.up, f.replayOrNil(), true)
	s.Tick()
	if err != nil || left == codec.End {
		return err
	}
	f.pump.start(f, s)
	return nil
}

// hold lets the end of the request leave together with the wait for the response, while
// one goroutine does both.
func (f *Filter) hold(on bool) {
	if h, ok := f.up.(codec.EndHolder); ok {
		h.HoldEnd(on)
	}
}

func (f *Filter) replayOrNil() *filter.Replay {
	if f.keep {
		return &f.replay
	}
	return nil
}

// respond passes the response on.
func (f *Filter) respond(s *filter.Stream, r *route.Route, next codec.Next) error {
	if !f.sh.config.SuppressEnvoyHeaders && f.requestSent(s) {
		s.Response.SetInt(header.XEnvoyUpstreamServiceTime, (s.Elapsed() - max(s.Meta.RequestEnd, f.start.Sub(s.Meta.Start))).Milliseconds())
	}
	if f.action.AttemptCountBack {
		s.Response.SetInt(header.XEnvoyAttemptCount, int64(s.Meta.Attempts))
	}
	s.Meta.Details = "via_upstream"
	if err := r.FinalizeResponse(s); err != nil {
		return err
	}
	if err := s.Engine.SendHeaders(next == codec.End); err != nil {
		return err
	}
	if f.up.Upgraded() {
		if err := f.tunnel(s); err != nil {
			return err
		}
		// Envoy's words for an upgraded connection that upstream has ended.
		s.Meta.Flags |= meta.UpstreamConnectionTermination
		s.Meta.Details = "upstream_reset_after_response_started{connection_termination}"
		return nil
	}
	if err := s.Engine.RelayResponse(f.up, next, f.until); err != nil {
		return f.relayFailed(s, err)
	}
	s.Meta.ResponseEnd = s.Elapsed()
	f.countTime(s)
	return nil
}

// requestSent reports whether the whole request has gone up. One that asks for an
// upgrade never has.
func (f *Filter) requestSent(s *filter.Stream) bool {
	return s.Engine.RequestBody() == codec.End && !s.Request.Has(header.Upgrade) && s.Request.Value(header.Method) != "CONNECT"
}

// relayFailed finds the cause of a response that broke off: where the pump has ended
// the wait for it, that is the pump's error.
func (f *Filter) relayFailed(s *filter.Stream, err error) error {
	if f.pump.running && errors.Is(err, netio.ErrInterrupted) {
		f.pump.stop(s)
		if f.pump.err != nil {
			return f.pump.err
		}
	}
	if isTimeout(err) {
		f.cluster.Stats().UpstreamRqTimeout.Inc()
		return errTimeoutInBody
	}
	return err
}

// tunnel moves raw bytes both ways after an upgrade, until one side ends.
func (f *Filter) tunnel(s *filter.Stream) error {
	f.keep = false
	f.pump.start(f, s)
	if err := s.Engine.RelayResponse(f.up, codec.Data, time.Time{}); err != nil {
		return f.relayFailed(s, err)
	}
	return nil
}

// release ends the attempt: it stops the pump and gives the connection back. failed is
// how the attempt ended.
func (f *Filter) release(s *filter.Stream, failed error) {
	if f.up == nil {
		return
	}
	clean := f.pump.stop(s)
	f.countBytes(f.up.WireBytes())
	switch over := f.up.Release(); {
	case over || failed == nil:
		f.cluster.Release(f.conn, over && clean)
	default:
		f.cluster.Abandon(f.conn)
	}
	f.up, f.conn = nil, nil
}

// drop gives up a response that is going to be replaced by a retry's.
func (f *Filter) drop(next codec.Next) {
	if next != codec.End {
		f.up.Reset(codec.ResetCancel)
	}
}

// backOff waits before a retry: a random time up to twice the base for each attempt
// more, at most the maximum. The safe retry of a dead reused connection does not wait.
func (f *Filter) backOff(s *filter.Stream) error {
	if f.retry == nil || f.at.Fresh && f.retries == 0 {
		return nil
	}
	limit := min(f.retry.Base<<min(f.retries, 20), f.retry.Max)
	if limit <= 0 {
		return nil
	}
	return s.Engine.Sleep(time.Duration(rand.Int64N(int64(limit))))
}

// pump moves the rest of the request body on a second goroutine, borrowed only while
// the body is still arriving after its head.
type pump struct {
	running bool
	ended   atomic.Bool
	wg      sync.WaitGroup
	err     error
	done    atomic.Int64 // when the request was complete, Unix nanoseconds; 0: it is not
	run     func()       // made once, so that a start takes no memory

	engine filter.Engine
	up     codec.ClientStream
	replay *filter.Replay
}

func (p *pump) start(f *Filter, s *filter.Stream) {
	f.hold(false)
	p.running, p.err = true, nil
	p.engine, p.up, p.replay = s.Engine, f.up, f.replayOrNil()
	p.ended.Store(false)
	p.done.Store(0)
	if p.run == nil {
		p.run = p.move
	}
	p.wg.Add(1)
	go p.run()
}

func (p *pump) move() {
	defer p.wg.Done()
	defer p.ended.Store(true)
	_, err := p.engine.RelayRequest(p.up, p.replay, false)
	if err == nil {
		p.done.Store(time.Now().UnixNano())
		return
	}
	p.err = err
	if !upstreamFault(err) { // then there may be an answer that explains it
		p.up.Interrupt() // wakes the goroutine that waits for the response
	}
}

// stop waits for the pump to end, interrupting it if the exchange is over before the
// request is. It reports whether the request was sent to its end.
func (p *pump) stop(s *filter.Stream) bool {
	if !p.running {
		return true
	}
	if !p.ended.Load() {
		s.Engine.InterruptRequest()
	}
	p.wg.Wait()
	p.running = false
	p.engine, p.up, p.replay = nil, nil, nil
	return p.err == nil && s.Engine.RequestBody() == codec.End
}
