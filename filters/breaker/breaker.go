// Package breaker is the HTTP filter mecha.filters.http.breaker: a circuit breaker for
// each route. After too many failures it refuses requests for a while, then lets a few
// through to see how they end.
//
// It is not Envoy's: what Envoy calls circuit breakers are limits of what is in flight.
package breaker

import (
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

const typ = "mecha.filters.http.breaker.v1.Breaker"

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Limits]{
	Name:      "mecha.filters.http.breaker",
	Type:      typ,
	RouteType: typ,
	Parse:     parse,
	New:       newFactory,
}

// Limits is the parsed configuration of the filter, or of a route in its place.
type Limits struct {
	Consecutive uint32        // failures in a row that open a breaker, 0 is never
	Percentage  float64       // of failures that open it, 0 is never
	Requests    uint32        // so many there must be for that
	Window      time.Duration // in so long
	OpenTime    time.Duration
	MaxOpenTime time.Duration
	Probes      uint32  // requests at a time while half open
	Successes   uint32  // in a row that close it
	HTTP        []Range // which codes are failures
	GRPC        uint32  // which statuses are: bit n is status n
}

// Range is the codes from From to To.
type Range struct{ From, To int }

type counters struct {
	Refused    stats.Counter `stat:"rq_refused" help:"requests that were refused"`
	Probes     stats.Counter `stat:"rq_probes" help:"requests that were let through by half-open breakers"`
	Opened     stats.Counter `stat:"opened" help:"times that a breaker opened"`
	HalfOpened stats.Counter `stat:"half_opened" help:"times that one became half open"`
	Closed     stats.Counter `stat:"closed" help:"times that one closed again"`
	Open       stats.Gauge   `stat:"open" help:"breakers that are open"`
	HalfOpen   stats.Gauge   `stat:"half_open" help:"breakers that are half open"`
	Overflow   stats.Counter `stat:"overflow" help:"requests whose route has no breaker since there are too many"`
}

func newFactory(l *Limits, env filter.Env) (func() filter.HTTP, error) {
	b := &breakers{own: l, slot: env.Slot}
	var release func()
	b.counters, release = stats.SharedUnder[counters](env.Parent, stats.Label{Value: "breaker"})
	env.OnRetire(func() {
		b.retire()
		release()
	})
	return func() filter.HTTP { return &Filter{breakers: b} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*breakers
	machine *machine // nil: the stream has none, or it was told how the request ended
	pass    pass
	inTail  bool // the gRPC status comes with the trailers
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
	_ filter.Done             = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { f.machine, f.pass, f.inTail = nil, pass{}, false }

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	now := s.Now()
	m := f.of(s, now)
	if m == nil {
		return nil
	}
	p, ok, wait := m.admit(now)
	if ok {
		f.machine, f.pass = m, p
		if p.probe {
			s.Decide("is half open, and lets it through on trial", s.Route.Name())
		}
		return nil
	}
	f.Refused.Inc()
	if wait <= 0 {
		return &refusedHalfOpen
	}
	return refusal(wait)
}

// overloaded is how Envoy marks what its circuit breakers refuse.
var overloaded = header.Field{Name: "x-envoy-overloaded", Value: "true"}

var refusedHalfOpen = filter.Reply{
	Code: 503, Body: "circuit breaker half open", Details: "circuit_breaker_half_open", Flags: meta.UpstreamOverflow,
	Header: []header.Field{overloaded},
}

// refusal says in how many seconds to come again.
func refusal(wait time.Duration) *filter.Reply {
	seconds := strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
	return &filter.Reply{
		Code: 503, Body: "circuit breaker open", Details: "circuit_breaker_open", Flags: meta.UpstreamOverflow,
		Header: []header.Field{overloaded, {Name: "retry-after", Value: seconds}},
	}
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	if f.machine == nil {
		return nil
	}
	m := &s.Response
	grpc := m.StatusCode() == 200 && filter.IsGRPC(m)
	switch {
	case grpc && m.Has(header.GrpcStatus):
		f.done(s, !f.machine.limits.grpcFails(m.Value(header.GrpcStatus)))
	case grpc && !end:
		f.inTail = true
	default:
		f.done(s, !f.machine.limits.fails(m.StatusCode()))
	}
	return nil
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if f.machine != nil && f.inTail {
		f.done(s, !f.machine.limits.grpcFails(s.ResponseTrailers.Value(header.GrpcStatus)))
	}
	return nil
}

// OnDone implements filter.Done. A request whose client went before there was a response
// says nothing; a call whose status did not come has failed.
func (f *Filter) OnDone(s *filter.Stream) {
	const client = meta.DownstreamConnectionTermination | meta.DownstreamRemoteReset | meta.DownstreamProtocolError
	switch {
	case f.machine == nil:
	case s.Meta.Flags&client != 0 || !f.inTail:
		f.machine.cancel(f.pass)
	default:
		f.done(s, false)
	}
}

func (f *Filter) done(s *filter.Stream, success bool) {
	f.machine.done(f.pass, success, s.Now())
	f.machine = nil
}

func (l *Limits) fails(code int) bool {
	for _, r := range l.HTTP {
		if code >= r.From && code <= r.To {
			return true
		}
	}
	return false
}

func (l *Limits) grpcFails(status string) bool {
	n, err := strconv.ParseUint(status, 10, 5)
	return err != nil || l.GRPC&(1<<n) != 0
}
