package l7

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// traceCounters count why requests are traced.
type traceCounters struct {
	HealthCheck    stats.Never   `stat:"tracing.health_check" help:"0: what a health check is turns out later"`
	ClientEnabled  stats.Counter `stat:"tracing.client_enabled" help:"Requests traced since the client wants it"`
	NotTraceable   stats.Counter `stat:"tracing.not_traceable" help:"Requests that are not traced"`
	RandomSampling stats.Counter `stat:"tracing.random_sampling" help:"Requests traced by chance"`
	ServiceForced  stats.Counter `stat:"tracing.service_forced" help:"Requests traced since a service wants it"`
}

func (c *traceCounters) count(why trace.Reason) {
	switch why {
	case trace.ClientForced:
		c.ClientEnabled.Inc()
	case trace.ServiceForced:
		c.ServiceForced.Inc()
	case trace.Sampling:
		c.RandomSampling.Inc()
	default:
		c.NotTraceable.Inc()
	}
}

// tracing makes the tracing of a manager, nil if it has none.
func (m *Manager) tracing(env filter.Env) error {
	c := m.spec.Tracing
	if c == nil {
		return nil
	}
	var tracer *trace.Tracer
	if env.Tracers != nil {
		t, release, err := env.Tracers.Tracer(c.Provider)
		if err != nil {
			return err
		}
		env.OnRetire(release)
		tracer = t
	}
	m.traces = trace.NewTracing(c, tracer, env.Runtime)
	return nil
}

// routeTrace is what the route says of traces, nil if it says nothing.
func (st *stream) routeTrace() *trace.Route {
	if r, ok := st.Route.(trace.Routed); ok {
		return r.Trace()
	}
	return nil
}

// trace decides whether the request is traced, and begins its span.
func (st *stream) trace() {
	t := st.m.traces
	st.Tracing = t
	if t == nil {
		return
	}
	st.Traced = t.Decide(&st.Request, st.m.spec.RequestID, st.routeTrace())
	st.m.counters.count(st.Traced)
	st.Span = t.Tracer.Start(st.span, trace.Request{
		Header: &st.Request, Start: st.Meta.Start, Sampled: st.Traced.Traced(), Outbound: st.m.outbound, Split: t.Spawn,
	})
	if st.Span == nil {
		return
	}
	st.span = st.Span
	if c := st.m.node; st.Span.Recording() {
		st.Span.Tag("node_id", c.ID)
		st.Span.Tag("zone", c.Zone)
	}
}

// endTrace ends the span.
func (st *stream) endTrace() {
	if st.Span.Recording() {
		st.Tracing.EndRequest(st.Span, st.LogEntry(), st.routeTrace(), st.Accepted().Direct, st.Meta.Start.Add(st.Meta.End))
	}
}
