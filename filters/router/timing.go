package router

import (
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// timing is the time limits of one exchange; 0 is none.
type timing struct{ global, perTry time.Duration }

// timingOf takes the limits from the route, and from the request headers that
// override them (x-envoy-upstream-rq-timeout-ms, -per-try-timeout-ms).
func timingOf(s *filter.Stream, a *route.ForwardAction) timing {
	t := timing{global: a.Timeout}
	if a.Retry != nil {
		t.perTry = a.Retry.PerTry
	}
	if ms, ok := millis(s, header.XEnvoyUpstreamRqTimeoutMs); ok {
		t.global = ms
	}
	if ms, ok := millis(s, header.XEnvoyUpstreamRqPerTryTimeoutMs); ok {
		t.perTry = ms
	}
	s.Request.DelID(header.XEnvoyUpstreamRqTimeoutMs)
	s.Request.DelID(header.XEnvoyUpstreamRqPerTryTimeoutMs)
	if t.global > 0 && t.perTry >= t.global {
		t.perTry = 0
	}
	return t
}

func millis(s *filter.Stream, id header.ID) (time.Duration, bool) {
	if !s.Request.Has(id) {
		return 0, false
	}
	n, err := strconv.ParseUint(s.Request.Value(id), 10, 32)
	return time.Duration(n) * time.Millisecond, err == nil
}

// lookAgain is how often a response that is waited for without a limit, since the
// request is still on its way, is looked at: the time limits begin when it is complete.
const lookAgain = 100 * time.Millisecond

// await waits for a response head.
func (f *Filter) await(s *filter.Stream) (codec.Next, error) {
	begun := time.Now() // of this attempt
	for {
		until, pending := f.deadline(&begun)
		if pending {
			until = time.Now().Add(lookAgain)
		}
		next, err := s.Engine.Await(f.up, &s.Response, until)
		if !pending || !isTimeout(err) {
			return next, err
		}
	}
}

// deadline is when the wait for a response head ends. It is pending while the request
// is incomplete; begun is moved to its end.
func (f *Filter) deadline(begun *time.Time) (until time.Time, pending bool) {
	t := f.timing
	if t.global <= 0 && t.perTry <= 0 {
		return time.Time{}, false
	}
	if f.pump.running {
		done := f.pump.done.Load()
		if done == 0 {
			return time.Time{}, true
		}
		if end := time.Unix(0, done); end.After(*begun) {
			*begun = end
		}
	}
	if f.until.IsZero() && t.global > 0 {
		f.until = begun.Add(t.global)
	}
	until = f.until
	if t.perTry > 0 {
		if p := begun.Add(t.perTry); until.IsZero() || p.Before(until) {
			until = p
		}
	}
	return until, false
}

// policy is the route's retry policy with what the request headers add to it
// (x-envoy-retry-on, x-envoy-retry-grpc-on, x-envoy-max-retries,
// x-envoy-retriable-status-codes).
func (f *Filter) policy(s *filter.Stream) *route.RetryPolicy {
	m := &s.Request
	p := f.action.Retry
	if p != nil && len(p.RequestHeaders) > 0 && !p.RequestHeaders.Any(m) {
		p = nil
	}
	if !m.Has(header.XEnvoyRetryOn) && !m.Has(header.XEnvoyRetryGrpcOn) && !m.Has(header.XEnvoyMaxRetries) &&
		!m.Has(header.XEnvoyRetriableStatusCodes) {
		return p
	}
	own := route.RetryPolicy{Retries: 1, Base: 25 * time.Millisecond, Max: 250 * time.Millisecond}
	if p != nil {
		own = *p
	}
	own.On |= route.ParseRetryOn(m.Value(header.XEnvoyRetryOn)) | route.ParseRetryOn(m.Value(header.XEnvoyRetryGrpcOn))
	if n, err := strconv.ParseUint(m.Value(header.XEnvoyMaxRetries), 10, 32); err == nil {
		own.Retries = uint32(n)
	}
	own.Codes = append(own.Codes[:len(own.Codes):len(own.Codes)], route.ParseCodes(m.Value(header.XEnvoyRetriableStatusCodes))...)
	for _, id := range [...]header.ID{
		header.XEnvoyRetryOn, header.XEnvoyRetryGrpcOn, header.XEnvoyMaxRetries,
		header.XEnvoyRetriableStatusCodes, header.XEnvoyRetriableHeaderNames, header.XEnvoyHedgeOnPerTryTimeout,
	} {
		m.DelID(id)
	}
	if own.On == 0 {
		return nil
	}
	return &own
}
