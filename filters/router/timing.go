package router

import (
	"strconv"
	"time"

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
