package telemetry

import (
	"context"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

const streamMetricsMethod = "/envoy.service.metrics.v3.MetricsService/StreamMetrics"

// MetricType of io.prometheus.client.
const (
	familyCounter = iota
	familyGauge
	familySummary
	_ // UNTYPED
	familyHistogram
)

// metricsSink tells a MetricsService.
type metricsSink struct {
	*outbox
	c      *MetricsService
	st     *sinkStats
	gone   func()
	stream *stream
}

func (h *Hub) metricsService(c *MetricsService) *metricsSink {
	s := &metricsSink{c: c, stream: &stream{client: h.client, target: &c.Service, method: streamMetricsMethod, identifier: h.identifier("")}}
	s.st, s.gone = stats.Shared[sinkStats](h.o.Stats, "stats_sinks.metrics_service", "", "")
	s.outbox = newOutbox(func(ctx context.Context, messages [][]byte) {
		for _, m := range messages {
			s.st.count(s.stream.send(ctx, m))
		}
	})
	return s
}

// Close implements sink.
func (s *metricsSink) Close(ctx context.Context) {
	if s.outbox.Close(ctx) {
		s.stream.finish(ctx)
	}
	s.gone()
}

// Flush implements sink.
func (s *metricsSink) Flush(samples []stats.Sample) {
	f := &families{c: s.c, now: time.Now().UnixMilli()}
	for i := range samples {
		f.add(&samples[i])
	}
	f.cut()
	if !s.put(f.out) {
		s.st.Dropped.Inc()
	}
}

// families makes the messages of one flush.
type families struct {
	c    *MetricsService
	now  int64 // in milliseconds since 1970
	body []byte
	n    int
	out  [][]byte
}

func (f *families) add(s *stats.Sample) {
	switch s.Kind {
	case stats.CounterKind:
		v := s.Value
		if f.c.Deltas {
			v = s.Delta
		}
		f.family(s, familyCounter, 3, func(b []byte) []byte { return wire.Double(b, 1, float64(v)) })
	case stats.GaugeKind:
		f.family(s, familyGauge, 2, func(b []byte) []byte { return wire.Double(b, 1, float64(s.Level)) })
	default:
		d := &s.Interval
		head := func(b []byte) []byte { return wire.Double(wire.Varint(b, 1, d.Count), 2, float64(d.Sum)) }
		if f.c.Summary {
			f.family(s, familySummary, 4, func(b []byte) []byte {
				b = head(b)
				for _, q := range stats.Quantiles() {
					var one int
					b, one = wire.Begin(b, 3)
					b = wire.End(wire.Double(wire.Double(b, 1, q), 2, d.Quantile(q)), one)
				}
				return b
			})
		}
		if f.c.Histogram {
			f.family(s, familyHistogram, 7, func(b []byte) []byte {
				b = head(b)
				for _, bound := range s.Bounds {
					var one int
					b, one = wire.Begin(b, 3)
					b = wire.End(wire.Double(wire.Varint(b, 1, d.CountBelow(bound)), 2, bound), one)
				}
				return b
			})
		}
	}
}

// family appends a MetricFamily with one Metric, whose value has a field and what body
// appends.
func (f *families) family(s *stats.Sample, kind uint64, field int, body func(b []byte) []byte) {
	if f.c.Batch > 0 && f.n >= f.c.Batch {
		f.cut()
	}
	b, family := wire.Begin(f.body, 2)
	name := s.Name
	if f.c.Labels {
		name = s.Family
	}
	b = wire.Varint(wire.Bytes(b, 1, name), 3, kind)
	b, metric := wire.Begin(b, 4)
	if f.c.Labels {
		for _, t := range s.Tags {
			var label int
			b, label = wire.Begin(b, 1)
			b = wire.End(wire.Bytes(wire.Bytes(b, 1, t.Name), 2, t.Value), label)
		}
	}
	b, value := wire.Begin(b, field)
	b = wire.End(body(b), value)
	b = wire.Int(b, 6, f.now)
	f.body = wire.End(wire.End(b, metric), family)
	f.n++
}

// cut ends a message.
func (f *families) cut() {
	if f.n > 0 {
		f.out = append(f.out, f.body)
	}
	f.body, f.n = nil, 0
}
