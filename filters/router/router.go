// Package router is the terminal HTTP filter that sends a request where its route
// says: it picks a host, takes a pooled connection, sends, waits, retries what may be
// retried, and passes the response on.
//
// What comes in: a stream with its route. What goes out: the response, or a local
// reply with Envoy's code, flag and details. Which route applies is decided in package
// route; hosts, pools and limits are in package cluster.
package router

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/capsule"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/route"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/transport"
	"github.com/mecha-mesh/mecha/proxy/why"
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
	RespectExpected      bool                    // respect_expected_rq_timeout
	NoDynamicStats       bool                    // dynamic_stats is false
	NoGRPCFailureCodes   bool                    // suppress_grpc_request_failure_code_stats
	Strict               []string                // strict_check_headers, lower case
	Logs                 []accesslog.Spec        // upstream_log: one line for each attempt
	ChildSpan            bool                    // start_child_span
	NoEarlyData          bool                    // reject_connect_request_early_data
	Upstream             []filter.UpstreamFilter // upstream_http_filters, of clusters without filters of their own
	LogPoolReady         bool                    // another one when it has its connection (flush_upstream_log_on_upstream_stream)
}

// counters are shared with the connection manager's scope, http.<stat_prefix>.
type counters struct {
	NoRoute           stats.Counter `stat:"no_route" help:"Requests without a route"`
	NoCluster         stats.Counter `stat:"no_cluster" help:"Requests whose cluster does not exist"`
	Redirect          stats.Counter `stat:"rq_redirect" help:"Always 0, as in Envoy: redirects are in rq_direct_response"`
	Direct            stats.Counter `stat:"rq_direct_response" help:"Requests answered by the route itself"`
	Total             stats.Counter `stat:"rq_total" help:"Requests that the router has seen"`
	ResetAfter        stats.Counter `stat:"rq_reset_after_downstream_response_started" help:"Streams reset after the response had begun"`
	RedirectLocation  stats.Counter `stat:"passthrough_internal_redirect_bad_location" help:"Redirects passed on since their location is no absolute URL"`
	RedirectScheme    stats.Counter `stat:"passthrough_internal_redirect_unsafe_scheme" help:"Redirects passed on since they lead to another scheme"`
	RedirectTooMany   stats.Counter `stat:"passthrough_internal_redirect_too_many_redirects" help:"Redirects passed on since there were enough"`
	RedirectNoRoute   stats.Counter `stat:"passthrough_internal_redirect_no_route" help:"Redirects passed on since they have no route"`
	RedirectPredicate stats.Counter `stat:"passthrough_internal_redirect_predicate" help:"Redirects passed on since the policy does not want them"`
	MirrorOverflow    stats.Counter `stat:"rq_mirror_overflow" help:"Copies of requests not sent since too many are under way"`
	Paused            stats.Counter `stat:"downstream_flow_control_paused_reading_total" help:"Times that reading from a client was paused since the host took no more"`
	Resumed           stats.Counter `stat:"downstream_flow_control_resumed_reading_total" help:"Times that this was over"`
	Retry             stats.Counter `stat:"rq_retry_skipped_request_not_complete" help:"Retries not made because the request body was not kept whole"`
}

// shared is what all streams of one chain have in common.
type shared struct {
	config    *Config
	clusters  cluster.Source
	zone      string // ours
	runtime   *runtime.Runtime
	shadows   atomic.Int64 // copies of requests under way
	address   func() netip.Addr
	counters  *counters
	datagrams *netio.UDPPool // for CONNECT-UDP

	bodyLimit int // of routes that do not say
}

// bodyLimit is per_connection_buffer_limit_bytes of a listener that does not say.
const bodyLimit = 1 << 20

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := &shared{config: c, clusters: env.Clusters, zone: env.Node.Zone, runtime: env.Runtime, address: sync.OnceValue(call.OwnAddress)}
	sh.datagrams = netio.NewUDPPool(capsule.MaxPayload)
	s, release := stats.SharedUnder[counters](env.Parent)
	env.OnRetire(release)
	sh.counters = s
	if sh.bodyLimit = env.BufferLimit; sh.bodyLimit <= 0 {
		sh.bodyLimit = bodyLimit
	}
	logs, err := accesslog.OpenSet(c.Logs, env.Logs)
	if err != nil {
		return nil, err
	}
	if logs == nil {
		return func() filter.HTTP { return &Filter{sh: sh} }, nil
	}
	env.OnRetire(logs.Close)
	return func() filter.HTTP { return &Filter{sh: sh, log: &attemptLog{logs: logs}} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	sh  *shared
	log *attemptLog // nil: none, unless a stream wants spans for its attempts

	action  *route.ForwardAction
	retry   *route.RetryPolicy
	cluster *cluster.Cluster
	parts   route.Parts // where requests of the route are counted, too
	at      cluster.Attempt
	options transport.Options // what at.Options points to, if something is asked of connections
	tried   []*cluster.Host
	timing  timing
	grpc    bool // the request says so

	answered  bool // a response was counted, and is passed on
	undecided bool // it is a gRPC call whose status is still to come
	hedge     hedge
	replay    filter.Replay
	keep      bool // the request body is kept for a retry
	retries   uint32
	start     time.Time     // of the first attempt
	until     time.Time     // global timeout, zero: none, or not begun since the request is incomplete
	tryEnd    time.Time     // of this attempt at the latest, zero: never
	asked     time.Duration // how long the host wants us to wait before the next attempt

	host       *cluster.Host      // of the last attempt
	alt        *cluster.PartStats // x-envoy-upstream-alt-stat-name
	canary     bool               // the response is from a canary
	shadows    mirrors
	cookies    []string       // Set-Cookie values of hash policies
	altTimeout bool           // x-envoy-upstream-rq-timeout-alt-response
	again      cluster.Ticket // a place among the retries, for the next attempt

	conn   *cluster.Conn
	up     codec.ClientStream
	behind *filtered // what up is where there are upstream filters; made when first needed
	trial  trial
	pump   pump
}

var _ filter.Terminal = (*Filter)(nil)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	f.replay.Buf.Release()
	f.replay.Limit, f.replay.Overflow, f.replay.Ended, f.replay.Trailers = 0, false, false, false
	f.action, f.retry, f.cluster = nil, nil, nil
	f.at, f.options = cluster.Attempt{}, transport.Options{}
	clear(f.tried)
	f.tried = f.tried[:0]
	f.timing, f.keep, f.retries, f.asked = timing{}, false, 0, 0
	f.grpc, f.hedge, f.altTimeout, f.canary, f.answered, f.undecided = false, hedge{}, false, false, false, false
	f.host, f.alt, f.cookies = nil, nil, nil
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
	f.shadows.drop(f.sh)
	if f.keep && f.replay.Overflow {
		f.cluster.Stats().RetryOrShadowAbandoned.Inc()
	}
	if reply, ok := err.(*filter.Reply); ok {
		return r.Dress(reply)
	}
	return err
}

// Forecast implements filter.Forecaster. A cluster that nobody uses stays unused: its hosts
// would have to be looked up.
func (f *Filter) Forecast(s *filter.Stream) error {
	r, ok := s.Route.(*route.Route)
	if !ok || r == nil {
		return &replyNoRoute
	}
	switch r.Kind {
	case route.Redirect:
		return r.RedirectReply(s)
	case route.Direct:
		return r.DirectReply(s)
	}
	if f.find(s, r); f.cluster == nil {
		return f.noCluster()
	}
	if !f.cluster.Used() {
		s.Decide("cannot tell the host: nothing was sent yet to cluster", s.Meta.Cluster)
		return nil
	}
	f.aim(s)
	host, err := f.cluster.Pick(&f.at)
	if notePick(s, host, err); err != nil {
		return &replyNoHealthyHost
	}
	s.Meta.UpstreamHost = host.Addr
	return nil
}

// forward sends the request to the route's cluster, as often as its retry policy
// and the rules of safe retry allow.
func (f *Filter) forward(s *filter.Stream, r *route.Route) error {
	if r = f.target(s, r); f.cluster == nil {
		f.sh.counters.NoCluster.Inc()
		return f.noCluster()
	}
	f.parts = r.Parts(s)
	s.Meta.VirtualCluster = f.parts.VirtualCluster
	f.aim(s)
	if err := f.maintenance(s); err != nil {
		return err
	}
	if err := f.dropOverload(s); err != nil {
		return err
	}
	if err := f.prepare(s, r); err != nil {
		return err
	}
	ticket, err := f.cluster.AdmitAt(f.at.Priority, s.Now())
	if err != nil {
		f.countReply(s, &replyOverflow)
		return &replyOverflow
	}
	defer ticket.Done()
	if err := f.eager(s); err != nil {
		f.countReply(s, err)
		return err
	}
	if f.action.Terminates(&s.Request) {
		return f.terminate(s, r)
	}
	if ok, err := f.hedges(s); ok || err != nil {
		if err != nil {
			return err
		}
		return f.forwardHedged(s, r)
	}
	for {
		s.Meta.Attempts++
		held := f.again // the place of this attempt among the retries
		if f.again = (cluster.Ticket{}); held != (cluster.Ticket{}) {
			f.cluster.Stats().UpstreamRqRetry.Inc()
			for _, p := range f.parts.All() {
				p.Retry.Inc()
			}
		}
		err := f.attempt(s, r)
		held.Done()
		if err == nil {
			return nil
		}
		if err == errRedirect {
			return s.Engine.Restart(&f.replay.Buf)
		}
		if err == filter.ErrRestart {
			return err
		}
		again, failed := f.decide(s, err)
		if !again {
			return f.final(s, failed)
		}
		if err := f.backOff(s); err != nil {
			f.again.Done()
			return err
		}
		var slow *tryTimeout
		f.retell(s, errors.As(err, &slow))
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
	s.Meta.Cluster, s.Meta.ClusterStatName = "", ""
	name := r.ClusterName(s)
	f.cluster = f.sh.clusters.Cluster(name)
	if c := s.Cluster; f.cluster == nil && c != nil && c.Spec().Name == name {
		f.cluster = c // it was asked for, and is given back at this moment
	}
	if f.cluster == nil {
		note(s, why.Route, "leads to a cluster that does not exist", name)
	} else {
		s.Meta.Cluster, s.Meta.ClusterStatName = name, f.cluster.StatName()
	}
}

// aim says what the choice of a host depends on.
func (f *Filter) aim(s *filter.Stream) {
	f.at.State, f.at.Shared = s, s.Shared()
	f.at.Override = s.Upstream
	a := &f.at
	a.Conn, a.Stream, a.Headers, a.Metadata, a.Priority = s.Accepted(), &s.Meta, &s.Request, &s.Metadata, f.action.Priority
	if len(f.action.HashPolicies) > 0 && f.cluster.Spec().Policy.UsesHash() {
		a.Hash, f.cookies, a.HasHash = f.action.Hash(s)
	}
	a.Match = f.action.Match
	if own := s.Metadata.Namespace("envoy.lb"); len(own) > 0 {
		a.Match = a.Match.Merge(cluster.NewLabels(own))
	}
}

// final is what the client gets for the failure of the last attempt.
func (f *Filter) final(s *filter.Stream, failed error) error {
	if r, ok := failed.(*filter.Reply); ok && s.Meta.Attempts > 1 {
		failed = retried(r)
	}
	f.countReply(s, failed)
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
	if err := f.strict(s); err != nil {
		return err
	}
	f.start = s.Now()
	f.grpc = filter.IsGRPC(&s.Request)
	f.timing = f.timingOf(s)
	f.hedge = f.hedgeOf(s)
	if f.action.AttemptCount {
		s.Request.SetInt(header.XEnvoyAttemptCount, 1)
	}
	f.until, f.tryEnd = time.Time{}, time.Time{}
	if t := f.timing.global; t > 0 && s.Engine.RequestBody() == codec.End {
		f.until = f.start.Add(t)
	}
	if s.Request.Has(header.XEnvoyUpstreamRqTimeoutAltResponse) {
		f.altTimeout = true
		s.Request.DelID(header.XEnvoyUpstreamRqTimeoutAltResponse)
	}
	if name := s.Request.Value(header.XEnvoyUpstreamAltStatName); name != "" {
		f.alt = f.cluster.AltStats(name)
		s.Request.DelID(header.XEnvoyUpstreamAltStatName)
	}
	f.tellTimeout(s, 0)
	s.Engine.LimitTryIdle(f.timing.perTryIdle)
	if err := r.FinalizeRequest(s, !f.sh.config.SuppressEnvoyHeaders); err != nil {
		return err
	}
	f.nameServer(s)
	f.retry = f.action.Retry.Merge(&s.Request)
	if len(f.action.Mirrors) > 0 {
		f.mirror(s)
	}
	f.keep = (f.retry != nil || f.action.Redirect != nil || len(f.shadows.waiting) > 0) && s.Engine.RequestBody() != codec.End
	f.replay.Limit = f.bodyLimit()
	return nil
}

// bodyLimit is how much of a request body may be kept.
func (f *Filter) bodyLimit() int {
	if f.action.BodyLimitSet {
		return f.action.BodyLimit
	}
	return f.sh.bodyLimit
}

// retell prepares the request head for another attempt. timeout tells whether the
// one before took too long.
func (f *Filter) retell(s *filter.Stream, timeout bool) {
	f.tellTimeout(s, time.Since(s.Meta.Start.Add(f.begun(s))))
	if f.action.TimeoutRetry {
		text := "false"
		if timeout {
			text = "true"
		}
		s.Request.SetID(header.XEnvoyIsTimeoutRetry, text)
	}
}
