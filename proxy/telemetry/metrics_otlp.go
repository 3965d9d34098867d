package telemetry

import (
	"context"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

const metricsMethod = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"

// AggregationTemporality of opentelemetry.proto.metrics.v1.
const (
	temporalityDelta      = 1
	temporalityCumulative = 2
)

// otlpSink tells an OpenTelemetry collector.
type otlpSink struct {
	*outbox
	c        *OpenTelemetrySink
	st       *sinkStats
	gone     func()
	resource []byte
	start    uint64 // when counting began, in nanoseconds since 1970
	last     uint64 // when the interval before ended
}

func (h *Hub) openTelemetrySink(c *OpenTelemetrySink) *otlpSink {
	now := uint64(time.Now().UnixNano())
	s := &otlpSink{c: c, resource: appendResource(nil, append(h.sdk(), c.Resource...)), start: now, last: now}
	s.st, s.gone = stats.Shared[sinkStats](h.o.Stats, "stats_sinks.open_telemetry", "", "")
	s.outbox = newOutbox(func(ctx context.Context, messages [][]byte) {
		for _, m := range messages {
			s.st.count(c.Target.Send(ctx, h.client, metricsMethod, "application/x-protobuf", m))
		}
	})
	return s
}

// count counts what became of a message.
func (st *sinkStats) count(err error) {
	if err != nil {
		st.Failed.Inc()
		return
	}
	st.Sent.Inc()
}

// Close implements sink.
func (s *otlpSink) Close(ctx context.Context) {
	s.outbox.Close(ctx)
	s.gone()
}

// Flush implements sink.
func (s *otlpSink) Flush(samples []stats.Sample) {
	now := uint64(time.Now().UnixNano())
	points := &points{otlpSink: s, now: now}
	if s.c.Convert != nil {
		points.sums = map[string]*point{}
	}
	for i := range samples {
		points.add(&samples[i])
	}
	s.last = now
	if !s.put(points.messages()) {
		s.st.Dropped.Inc()
	}
}

// points makes the messages of one flush.
type points struct {
	*otlpSink
	now  uint64
	body []byte // the metrics of a request
	n    int    // how many
	out  [][]byte
	sums map[string]*point // what conversions put together, by name, kind and attributes; nil: nothing
	keys []string          // of sums, as they came
}

// point is a data point that several statistics may be part of.
type point struct {
	name       string
	kind       stats.Kind
	attributes []byte
	value      uint64 // gauges as int64
	all        stats.Distribution
	bounds     []float64
}

func (p *points) add(s *stats.Sample) {
	one := point{kind: s.Kind, bounds: s.Bounds}
	switch {
	case s.Kind == stats.GaugeKind:
		one.value = uint64(s.Level)
	case s.Kind == stats.CounterKind && p.c.CounterDeltas:
		if one.value = s.Delta; one.value == 0 {
			return
		}
	case s.Kind == stats.CounterKind:
		one.value = s.Value
	case p.c.HistogramDeltas:
		if one.all = s.Interval; one.all.Count == 0 {
			return
		}
	default:
		one.all = s.Total
	}
	var to Conversion
	if p.c.Convert != nil {
		to = p.c.Convert(s.Name)
	}
	if to.Drop {
		return
	}
	if one.name = to.Name; one.name == "" {
		one.name = p.c.Prefix + s.Name
		if p.c.ShortNames {
			one.name = p.c.Prefix + s.Family
		}
	}
	field := 7 // of NumberDataPoint
	if s.Kind == stats.HistogramKind {
		field = 9
	}
	if p.c.Tags {
		for _, t := range s.Tags {
			one.attributes = appendAttribute(one.attributes, field, Attribute(t))
		}
	}
	for _, label := range to.Labels {
		one.attributes = wire.Bytes(one.attributes, field, label)
	}
	if p.sums == nil {
		p.append(&one)
		return
	}
	key := string(rune(s.Kind)) + one.name + "\x00" + string(one.attributes)
	if old := p.sums[key]; old != nil {
		old.value += one.value // gauges, too: their numbers are in two's complement
		old.all.Merge(one.all)
		return
	}
	p.sums[key] = &one
	p.keys = append(p.keys, key)
}

// append appends a Metric, in a request that may take it.
func (p *points) append(one *point) {
	if p.c.MaxPoints > 0 && p.n >= p.c.MaxPoints {
		p.cut()
	}
	b, metric := wire.Begin(p.body, 2)
	b = wire.Bytes(b, 1, one.name)
	var data int
	switch one.kind {
	case stats.GaugeKind:
		b, data = wire.Begin(b, 5)
		b = p.number(b, one, 0)
	case stats.CounterKind:
		b, data = wire.Begin(b, 7)
		b = p.number(b, one, p.since(p.c.CounterDeltas))
		b = wire.Bool(wire.Varint(b, 2, temporality(p.c.CounterDeltas)), 3, true)
	default:
		b, data = wire.Begin(b, 9)
		b = p.histogram(b, one, p.since(p.c.HistogramDeltas))
		b = wire.Varint(b, 2, temporality(p.c.HistogramDeltas))
	}
	p.body = wire.End(wire.End(b, data), metric)
	p.n++
}

func temporality(deltas bool) uint64 {
	if deltas {
		return temporalityDelta
	}
	return temporalityCumulative
}

// since is when counting began.
func (p *points) since(deltas bool) uint64 {
	if deltas {
		return p.last
	}
	return p.start
}

// number appends a NumberDataPoint. A gauge has no start.
func (p *points) number(b []byte, one *point, start uint64) []byte {
	b, data := wire.Begin(b, 1)
	if start != 0 {
		b = wire.Fixed64(b, 2, start)
	}
	b = wire.Fixed64(wire.Fixed64(b, 3, p.now), 6, one.value)
	return wire.End(append(b, one.attributes...), data)
}

// histogram appends a HistogramDataPoint.
func (p *points) histogram(b []byte, one *point, start uint64) []byte {
	b, data := wire.Begin(b, 1)
	b = wire.Fixed64(wire.Fixed64(b, 2, start), 3, p.now)
	b = wire.Double(wire.Fixed64(b, 4, one.all.Count), 5, float64(one.all.Sum))
	b, counts := wire.Begin(b, 6)
	below := uint64(0)
	for _, bound := range one.bounds {
		n := one.all.CountBelow(bound)
		b = wire.RawFixed64(b, n-below)
		below = n
	}
	b = wire.End(wire.RawFixed64(b, one.all.Count-below), counts)
	b, bounds := wire.Begin(b, 7)
	for _, bound := range one.bounds {
		b = wire.RawDouble(b, bound)
	}
	b = wire.End(b, bounds)
	return wire.End(append(b, one.attributes...), data)
}

// cut ends a request.
func (p *points) cut() {
	if p.n > 0 {
		p.out = append(p.out, groups(p.resource, nil, p.body))
	}
	p.body, p.n = p.body[:0], 0
}

// messages are the requests of the flush.
func (p *points) messages() [][]byte {
	for _, key := range p.keys {
		p.append(p.sums[key])
	}
	p.cut()
	return p.out
}
