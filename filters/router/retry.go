package router

import (
	"errors"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// safeRetries is how often an exchange that cannot have reached an application is
// tried again without any policy: a connection that could not be made, on another
// host, and a reused connection that turns out to be dead, on a fresh one.
const safeRetries = 2

// decide says whether to try again after a failed attempt, and if not, what the
// client gets.
func (f *Filter) decide(s *filter.Stream, err error) (again bool, failed error) {
	var reply *filter.Reply
	var fe *filter.Error
	if errors.As(err, &reply) || errors.As(err, &fe) && fe.Source != filter.Upstream {
		return false, err
	}
	f.countFailure(err)
	if f.answered { // another filter may have it, and keep it back from the client
		noteRetry(s, err, "gives up", "the response had begun")
		return false, err
	}
	if f.expired() {
		noteRetry(s, err, "gives up", "the time of the route is over")
		return false, f.timeoutReply(s, &replyTimeout)
	}
	if !f.replayable(s) {
		noteRetry(s, err, "gives up", "the request body was not kept")
		return false, f.answer(s, err)
	}
	if f.safe(s, err) {
		noteRetry(s, err, "tries again", "nothing can have come of it")
		return true, nil
	}
	var rr *retryResponse
	if errors.As(err, &rr) {
		noteRetry(s, err, "tries again", "retry_on covers the response")
		return true, nil
	}
	if !f.matches(err) {
		noteRetry(s, err, "gives up", f.noPolicy())
		return false, f.answer(s, err)
	}
	if !f.mayRetry(s, false) {
		noteRetry(s, err, "gives up", f.limit(s))
		return false, f.answer(s, err)
	}
	f.at.Fresh = false
	noteRetry(s, err, "tries again", "retry_on covers the failure")
	return true, nil
}

// noPolicy says why a failure is not followed by another attempt.
func (f *Filter) noPolicy() string {
	if f.retry == nil {
		return "there is no retry policy"
	}
	return "retry_on does not cover it"
}

// limit says why the policy has no further attempt.
func (f *Filter) limit(s *filter.Stream) string {
	if s.Meta.Flags&meta.UpstreamRetryLimitExceeded != 0 {
		return "num_retries is used up"
	}
	if s.Meta.Flags&meta.UpstreamOverflow != 0 {
		return "the cluster's limit of retries is reached"
	}
	return "it is too late, or the request body was not kept"
}

// safe reports whether nothing can have come of the attempt, and prepares another.
func (f *Filter) safe(s *filter.Stream, err error) bool {
	if s.Meta.Attempts > safeRetries {
		return false
	}
	var ce *cluster.ConnectError
	if errors.As(err, &ce) {
		f.at.AvoidTried, f.at.HostTries = true, 5
		return len(f.cluster.Hosts()) > len(f.at.Tried)
	}
	var uf *upstreamFailure
	if !errors.As(err, &uf) || !uf.reused || !errors.Is(err, codec.ErrClosedBeforeResponse) || f.at.Fresh {
		return false
	}
	if !idempotent(s.Request.Value(header.Method)) && s.State.Get(filter.Repeatable) == nil {
		return false
	}
	f.at.Fresh = true
	return true
}

// idempotent methods may be repeated (RFC 9110 section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// replayable reports whether the request can be sent again from its beginning.
func (f *Filter) replayable(s *filter.Stream) bool {
	if s.Engine.RequestBody() == codec.End && s.Meta.UpstreamSent == 0 {
		return true // it has no body, or none was sent
	}
	if s.Meta.UpstreamSent == 0 {
		return true // its body is still where it was
	}
	return f.keep && !f.replay.Overflow
}

// mayRetry asks the policy's limits: number, circuit breaker, and time. response tells
// that it is a response in s.Response that is to be replaced.
func (f *Filter) mayRetry(s *filter.Stream, response bool) bool {
	p := f.retry
	if p == nil || f.expired() || !f.replayable(s) {
		return false
	}
	st := f.cluster.Stats()
	if f.retries >= p.Retries {
		st.UpstreamRqRetryLimitExceeded.Inc()
		for _, p := range f.parts.All() {
			p.RetryLimit.Inc()
		}
		s.Meta.Flags |= meta.UpstreamRetryLimitExceeded
		return false
	}
	ticket, err := f.cluster.AdmitRetry(f.at.Priority, s.Now())
	if err != nil {
		f.retries++ // Envoy takes it off before it asks
		for _, p := range f.parts.All() {
			p.RetryOverflow.Inc()
		}
		s.Meta.Flags |= meta.UpstreamOverflow
		return false
	}
	f.retries++
	f.again = ticket
	f.countBackOff(s, response)
	h := &p.Hosts
	if h.Any() {
		f.at.AvoidTried, f.at.OmitCanaries, f.at.Omit, f.at.HostTries = h.Previous, h.Canary, h.Omit, h.Attempts
	}
	f.at.UpdateFrequency = p.PriorityEvery
	return true
}

// matches reports whether the policy covers the failure of an attempt without a response.
func (f *Filter) matches(err error) bool {
	if f.retry == nil {
		return false
	}
	on := f.retry.On
	if errors.Is(err, cluster.ErrOverflow) || errors.Is(err, cluster.ErrPendingOverflow) {
		return false
	}
	if on&(route.On5xx|route.OnGatewayError|route.OnReset) != 0 {
		return true
	}
	var ce *cluster.ConnectError
	var uf *upstreamFailure
	switch {
	case errors.As(err, &ce):
		return on&(route.OnConnectFailure|route.OnResetBeforeRequest) != 0
	case errors.As(err, &uf):
		return on&route.OnResetBeforeRequest != 0 && !uf.sent ||
			on&route.OnRefusedStream != 0 && errors.Is(err, codec.ErrRefused)
	}
	return false
}
