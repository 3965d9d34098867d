package router

import (
	"errors"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// beginSpan begins the span of an attempt, if there is to be one.
func (f *Filter) beginSpan(s *filter.Stream) {
	if s.Span == nil || !s.Tracing.Spawn && !f.sh.config.ChildSpan {
		if f.log != nil {
			f.log.span = nil
		}
		return
	}
	if f.log == nil {
		f.log = &attemptLog{}
	}
	f.log.span = s.Span.Child(f.log.memory, "router "+s.Meta.ClusterStatName+" egress", s.Now())
	f.log.memory = f.log.span
	if n := s.Meta.Attempts; n > 1 && f.log.span.Recording() {
		f.log.span.Tag("retry.count", strconv.Itoa(n-1))
	}
}

// inject tells the host of the trace.
func (f *Filter) inject(s *filter.Stream) {
	if f.log != nil && f.log.span != nil {
		s.Tracing.Inject(f.log.span, &s.Request)
		return
	}
	s.Tracing.Inject(s.Span, &s.Request)
}

// endSpan ends the span of an attempt that ended as err says.
func (l *attemptLog) endSpan(s *filter.Stream, e *accesslog.Entry, err error) {
	if l.span == nil {
		return
	}
	switch reason, given := resetReason(err); {
	case given:
		l.span.Tag("canceled", "true")
	case reason != "":
		l.span.Tag("error", "true")
		l.span.Tag("error.reason", reason)
	}
	var r *trace.Route
	if routed, ok := s.Route.(trace.Routed); ok {
		r = routed.Trace()
	}
	s.Tracing.EndAttempt(l.span, e, r, s.Now())
	l.span = nil
}

// cancel notes that the rest of a response is not wanted.
func (l *attemptLog) cancel() {
	if l != nil {
		l.span.Tag("canceled", "true")
	}
}

// resetReason says in Envoy's words why an attempt was lost, or that it was given up.
func resetReason(err error) (reason string, given bool) {
	if err == nil {
		return "", false
	}
	var slow *tryTimeout
	var ce *cluster.ConnectError
	var bad *codec.ProtocolError
	var uf *upstreamFailure
	var rr *retryResponse
	var fe *filter.Error
	switch {
	case errors.As(err, &rr):
		return "", false
	case errors.As(err, &slow):
		return "", true
	case errors.As(err, &ce):
		if ce.Timeout {
			return "connection timeout", false
		}
		return "remote connection failure", false
	case errors.Is(err, cluster.ErrOverflow), errors.Is(err, cluster.ErrPendingOverflow):
		return "overflow", false
	case errors.As(err, &bad):
		return "protocol error", false
	case errors.Is(err, codec.ErrRefused):
		return "remote refused stream reset", false
	case errors.Is(err, codec.ErrReset):
		return "remote reset", false
	case errors.As(err, &uf), errors.As(err, &fe) && fe.Source == filter.Upstream:
		return "connection termination", false
	}
	return "", true
}

// take gives the span of an attempt to one that overlaps with others.
func (l *attemptLog) take() *trace.Span {
	if l == nil || l.span == nil {
		return nil
	}
	sp := l.span
	l.span, l.memory = nil, nil
	return sp
}

// give takes it back.
func (l *attemptLog) give(sp *trace.Span) {
	if sp != nil {
		l.span = sp
	}
}
