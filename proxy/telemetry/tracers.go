package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/export"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/trace"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// spanStats count the spans for OpenTelemetry.
type spanStats struct {
	Sent    stats.Counter `stat:"spans_sent" help:"Spans that a collector has been sent"`
	Dropped stats.Counter `stat:"spans_dropped" help:"Spans dropped since there were too many of them"`
	Timer   stats.Counter `stat:"timer_flushed" help:"Batches sent since the time was over"`
}

// zipkinStats count the spans for Zipkin.
type zipkinStats struct {
	Sent    stats.Counter `stat:"spans_sent" help:"Spans in batches that were sent"`
	Timer   stats.Counter `stat:"timer_flushed" help:"Batches sent since the time was over"`
	None    stats.Counter `stat:"reports_skipped_no_cluster" help:"Batches lost since there is no such cluster"`
	Reports stats.Counter `stat:"reports_sent" help:"Batches that the collector has taken"`
	Dropped stats.Counter `stat:"reports_dropped" help:"Batches that the collector has refused or that did not reach it, and spans that found no room"`
	Failed  stats.Counter `stat:"reports_failed" help:"Batches that were reset"`
}

const tracesMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

func (h *Hub) openTelemetry(p *OpenTelemetry) (*trace.Tracer, closer) {
	st, release := stats.Shared[spanStats](h.o.Stats, "tracing.opentelemetry", "", "")
	resource := p.Resource
	if p.SDK {
		resource = append(h.sdk(), resource...)
	}
	head := appendResource(nil, resource)
	var scope []byte
	if p.Scope {
		scope = h.appendScope(nil)
	}
	entries := h.setting("tracing.opentelemetry.min_flush_spans", 5)
	queue := export.NewQueue(export.Options{
		Interval: h.interval("tracing.opentelemetry.flush_interval_ms", 5000),
		Entries:  func() int { return int(entries()) }, MaxEntries: p.MaxSpans,
		Dropped: func(n int) { st.Dropped.Add(uint64(n)) },
		Send: func(ctx context.Context, b export.Batch) {
			if b.Timed {
				st.Timer.Inc()
			}
			st.Sent.Add(uint64(b.N))
			// The error is no one's: what is lost is counted with the cluster.
			_ = p.Target.Send(ctx, h.client, tracesMethod, "application/x-protobuf", groups(head, scope, b.Bytes))
		},
	})
	return trace.New(trace.OTLP{Sampler: p.Sampler}, queue), closeQueue(queue, release)
}

// groups makes a request of the entries of one resource and one scope: of spans, log
// records or metrics, whose messages look alike.
func groups(resource, scope, entries []byte) []byte {
	b := make([]byte, 0, len(resource)+len(scope)+len(entries)+32)
	b, outer := wire.Begin(b, 1)
	b = append(b, resource...)
	b, inner := wire.Begin(b, 2)
	b = append(append(b, scope...), entries...)
	return wire.End(wire.End(b, inner), outer)
}

// sdk is what a resource tells about this build, under Envoy's name.
func (h *Hub) sdk() []Attribute {
	return []Attribute{{"telemetry.sdk.language", "go"}, {"telemetry.sdk.name", "envoy"}, {"telemetry.sdk.version", h.o.Version}}
}

// appendResource appends the field resource.
func appendResource(b []byte, attributes []Attribute) []byte {
	b, resource := wire.Begin(b, 1)
	for _, a := range attributes {
		b = appendAttribute(b, 1, a)
	}
	return wire.End(b, resource)
}

// appendAttribute appends a KeyValue with a text.
func appendAttribute(b []byte, field int, a Attribute) []byte {
	b, pair := wire.Begin(b, field)
	b = wire.Bytes(b, 1, a.Name)
	b, value := wire.Begin(b, 2)
	b = wire.Bytes(b, 1, a.Value)
	return wire.End(wire.End(b, value), pair)
}

// appendScope appends the field scope: Envoy's name, which is what those look for who made
// their dashboards for it.
func (h *Hub) appendScope(b []byte) []byte {
	b, scope := wire.Begin(b, 1)
	return wire.End(wire.Text(wire.Bytes(b, 1, "envoy"), 2, h.o.Version), scope)
}

func (h *Hub) zipkin(p *Zipkin) (*trace.Tracer, closer) {
	st, release := stats.Shared[zipkinStats](h.o.Stats, "tracing.zipkin", "", "")
	spans := p.Spans
	spans.Service, spans.Address = h.o.Node.Cluster, call.OwnAddress()
	entries := h.setting("tracing.zipkin.min_flush_spans", 5)
	timeout := h.interval("tracing.zipkin.request_timeout", 5000)
	queue := export.NewQueue(export.Options{
		Interval: h.interval("tracing.zipkin.flush_interval_ms", 5000), Entries: func() int { return int(entries()) },
		Dropped: func(n int) { st.Dropped.Add(uint64(n)) },
		Send: func(ctx context.Context, b export.Batch) {
			if b.Timed {
				st.Timer.Inc()
			}
			st.Sent.Add(uint64(b.N))
			st.count(h.postZipkin(ctx, p, b.Bytes, timeout()))
		},
	})
	return trace.New(&spans, queue), closeQueue(queue, release)
}

// count counts what became of a batch.
func (st *zipkinStats) count(err error) {
	switch {
	case err == nil:
		st.Reports.Inc()
	case errors.Is(err, call.ErrNoCluster):
		st.None.Inc()
	case errors.Is(err, codec.ErrReset):
		st.Failed.Inc()
	default: // an answer that is no success, or one that the proxy gives in its place
		st.Dropped.Inc()
	}
}

func (h *Hub) postZipkin(ctx context.Context, p *Zipkin, spans []byte, timeout time.Duration) error {
	contentType, body := "application/x-protobuf", spans
	if !p.Spans.Proto {
		contentType = "application/json"
		body = append(append(append(make([]byte, 0, len(spans)+1), '['), spans[:len(spans)-1]...), ']')
	}
	to := *p.Target.HTTP
	if to.Timeout <= 0 {
		to.Timeout = timeout
	}
	t := export.Target{HTTP: &to}
	return t.Send(ctx, h.client, "", contentType, body)
}
