package router

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// The router's own answers.
var (
	replyNoRoute       = filter.Reply{Code: 404, Details: "route_not_found", Flags: meta.NoRouteFound}
	replyNoCluster     = filter.Reply{Code: 503, Details: "cluster_not_found", Flags: meta.NoClusterFound}
	replyNoHealthyHost = filter.Reply{Code: 503, Body: "no healthy upstream", Details: "no_healthy_upstream", Flags: meta.NoHealthyUpstream}
	replyOverflow      = filter.Reply{
		Code: 503, Body: resetBody + "overflow", Details: "upstream_reset_before_response_started{overflow}",
		Flags: meta.UpstreamOverflow, Header: []header.Field{{Name: "x-envoy-overloaded", Value: "true"}},
	}
	replyEarlyData     = filter.Reply{Code: 400, Details: "early_connect_data"}
	replyTimeout       = filter.Reply{Code: 504, Body: "upstream request timeout", Details: "response_timeout", Flags: meta.UpstreamRequestTimeout}
	replyPerTryTimeout = filter.Reply{Code: 504, Body: "upstream request timeout", Details: "upstream_per_try_timeout", Flags: meta.UpstreamRequestTimeout}
	replyPerTryIdle    = filter.Reply{Code: 504, Body: "upstream request timeout", Details: "upstream_per_try_idle_timeout", Flags: meta.UpstreamRequestTimeout}
	replyMaxDuration   = filter.Reply{Code: 504, Body: "upstream max stream duration reached", Details: "upstream_max_stream_duration_reached", Flags: meta.UpstreamMaxStreamDurationReached}
	replyTermination   = filter.Reply{Code: 503, Body: resetBody + "connection termination", Details: "upstream_reset_before_response_started{connection_termination}", Flags: meta.UpstreamConnectionTermination}
	replyRemoteReset   = filter.Reply{Code: 503, Body: resetBody + "remote reset", Details: "upstream_reset_before_response_started{remote_reset}", Flags: meta.UpstreamRemoteReset}
	replyDeadline      = filter.Reply{Code: 503, Body: resetBody + "remote reset", Details: "upstream_reset_before_response_started{remote_reset}", Flags: meta.UpstreamRemoteReset, GRPC: deadlineExceeded}
	replyRefused       = filter.Reply{Code: 503, Body: resetBody + "remote refused stream reset", Details: "upstream_reset_before_response_started{remote_refused_stream_reset}", Flags: meta.UpstreamRemoteReset}
	replyProtocol      = filter.Reply{Code: 502, Body: resetBody + "protocol error", Details: "upstream_reset_before_response_started{protocol_error}", Flags: meta.UpstreamProtocolError}
	replyConnTimeout   = filter.Reply{Code: 503, Body: resetBody + "connection timeout", Details: "upstream_reset_before_response_started{connection_timeout}", Flags: meta.UpstreamConnectionFailure}
)

// deadlineExceeded is the status DEADLINE_EXCEEDED of gRPC.
const deadlineExceeded = 4

const (
	resetBody   = "upstream connect error or disconnect/reset before headers. reset reason: "
	retriedBody = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: "
)

// retried makes a reply tell that it was not the first attempt that failed.
func retried(r *filter.Reply) *filter.Reply {
	reason, ok := strings.CutPrefix(r.Body, resetBody)
	if !ok {
		return r
	}
	again := *r
	again.Body = retriedBody + reason
	return &again
}

// upstreamFailure is an attempt that ended without a response head.
type upstreamFailure struct {
	err    error
	reused bool // the connection had carried an exchange before
	sent   bool // something of the request may have reached the host
}

func (e *upstreamFailure) Error() string { return "upstream: " + e.err.Error() }
func (e *upstreamFailure) Unwrap() error { return e.err }

// tryTimeout is an attempt that took longer than it may; reply is what the client gets if
// it was the last one.
type tryTimeout struct{ reply *filter.Reply }

func (e *tryTimeout) Error() string { return e.reply.Details }

var (
	errTryTimeout  = &tryTimeout{&replyPerTryTimeout}
	errTryIdle     = &tryTimeout{&replyPerTryIdle}
	errTryDuration = &tryTimeout{&replyMaxDuration}
)

// retryResponse is a response that is given up for a retry.
type retryResponse struct{ code int }

func (e *retryResponse) Error() string { return fmt.Sprintf("response %d", e.code) }

// upstreamFault reports whether an error of sending the request is upstream's.
func upstreamFault(err error) bool {
	var fe *filter.Error
	if errors.As(err, &fe) {
		return fe.Source == filter.Upstream
	}
	var r *filter.Reply
	return !errors.As(err, &r)
}

// awaitFailed says why no response head came.
func (f *Filter) awaitFailed(s *filter.Stream, err error, reused bool) error {
	if f.pump.running && errors.Is(err, netio.ErrInterrupted) {
		f.pump.stop(s)
		if perr := f.pump.err; perr != nil && !upstreamFault(perr) {
			return perr // the client's fault
		}
	}
	var fe *filter.Error
	var reply *filter.Reply
	switch {
	case isTimeout(err):
		slow := f.timedOut(s, err)
		if slow != errTryDuration {
			f.reportTimeout(f.conn.Host)
		}
		return slow
	case errors.As(err, &reply):
		return reply
	case errors.As(err, &fe):
		return err
	}
	reportBroken(f.conn.Host)
	return &upstreamFailure{err: err, reused: reused, sent: true}
}

// isTimeout reports whether a wait of the engine ran into the time it was given.
func isTimeout(err error) bool {
	var fe *filter.Error
	return errors.As(err, &fe) && fe.Source == filter.Upstream && fe.Code == 504
}

// timedOut tells what limit a wait for upstream has run into.
func (f *Filter) timedOut(s *filter.Stream, err error) error {
	st := f.cluster.Stats()
	host := f.conn.Host.Stats()
	switch {
	case errors.Is(err, filter.ErrTryIdle):
		st.UpstreamRqPerTryIdleTimeout.Inc()
		return errTryIdle
	case f.expired():
		st.UpstreamRqTimeout.Inc()
		for _, p := range f.parts.All() {
			p.Timeout.Inc()
		}
		host.RqTimeout.Inc()
		f.trial.cut = true
		return f.timeoutReply(s, &replyTimeout)
	case past(f.tryEnd):
		st.UpstreamRqMaxDurationReached.Inc()
		return errTryDuration
	}
	st.UpstreamRqPerTryTimeout.Inc()
	host.RqTimeout.Inc()
	return errTryTimeout
}

// timeoutReply is the answer for a timeout: an empty one where the client has asked for
// that (x-envoy-upstream-rq-timeout-alt-response).
func (f *Filter) timeoutReply(s *filter.Stream, r *filter.Reply) *filter.Reply {
	f.trackRequest(s)
	if !f.altTimeout {
		return r
	}
	return &filter.Reply{Code: 204, Details: r.Details, Flags: r.Flags}
}

// answer turns the failure of the last attempt into what the client gets.
func (f *Filter) answer(s *filter.Stream, err error) error {
	var ce *cluster.ConnectError
	var bad *codec.ProtocolError
	var slow *tryTimeout
	switch {
	case errors.As(err, &ce):
		return f.connectReply(s, ce)
	case errors.Is(err, cluster.ErrOverflow), errors.Is(err, cluster.ErrPendingOverflow):
		return &replyOverflow
	case errors.As(err, &bad):
		return &replyProtocol
	case errors.As(err, &slow):
		return f.slowReply(s, slow)
	}
	var uf *upstreamFailure
	switch {
	case !errors.As(err, &uf):
		return err
	case errors.Is(err, codec.ErrRefused):
		return &replyRefused
	case errors.Is(err, codec.ErrReset) && f.grpc && outOfTime(s):
		return &replyDeadline
	case errors.Is(err, codec.ErrReset):
		return &replyRemoteReset
	}
	return &replyTermination
}

// outOfTime reports whether the time that a gRPC client has given its call is over: then a
// host that resets it does so for that.
func outOfTime(s *filter.Stream) bool {
	d, ok := route.GRPCDeadline(&s.Request)
	return ok && time.Since(s.Meta.Start) >= d
}

// slowReply is the answer for an attempt that took too long.
func (f *Filter) slowReply(s *filter.Stream, slow *tryTimeout) error {
	if slow != errTryDuration {
		return f.timeoutReply(s, slow.reply)
	}
	if s.Engine.RequestBody() == codec.End {
		return slow.reply
	}
	early := *slow.reply
	early.Code = 408
	return &early
}

// connectReply is Envoy's answer for a connection that could not be made. It is the
// exception, so it may allocate.
func (f *Filter) connectReply(s *filter.Stream, ce *cluster.ConnectError) *filter.Reply {
	reason := ce.Reason()
	s.Meta.UpstreamFailure = reason
	if ce.Timeout {
		return &replyConnTimeout
	}
	details := "upstream_reset_before_response_started{remote_connection_failure"
	if reason != "" {
		details += "|" + strings.ReplaceAll(reason, " ", "_")
	}
	return &filter.Reply{
		Code:    503,
		Body:    resetBody + "remote connection failure", // the log alone says more
		Details: details + "}",
		Flags:   meta.UpstreamConnectionFailure,
	}
}
