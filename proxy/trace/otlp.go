package trace

import (
	"encoding/binary"
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// OTLP makes spans for OpenTelemetry: context travels as W3C has it, and each finished span
// is a field spans of opentelemetry.proto.trace.v1.ScopeSpans.
type OTLP struct{ Sampler Sampler } // nil: the connection manager decides, or the parent

// Sampler decides about a span in place of the connection manager.
type Sampler interface {
	// Sample decides; parent is nil where there is none.
	Sample(parent *Context, trace [16]byte) bool
}

// AlwaysOn samples every span.
type AlwaysOn struct{}

// Sample implements Sampler.
func (AlwaysOn) Sample(*Context, [16]byte) bool { return true }

// ParentBased does as the parent does. Where there is none, Root decides.
type ParentBased struct{ Root Sampler }

// Sample implements Sampler.
func (p ParentBased) Sample(parent *Context, trace [16]byte) bool {
	if parent != nil {
		return parent.Sampled
	}
	return p.Root.Sample(parent, trace)
}

// Ratio samples a share of all traces, the same ones everywhere: the trace ID decides.
type Ratio struct{ Share match.Fraction }

// Sample implements Sampler.
func (r Ratio) Sample(_ *Context, trace [16]byte) bool {
	return r.Share.Match(binary.LittleEndian.Uint64(trace[:8]))
}

func (o OTLP) start(s *Span, r *Request) bool {
	s.wide = true
	s.name = "ingress"
	if r.Outbound {
		s.name = "egress " + r.Header.Value(header.Authority)
		if !r.Split {
			s.kind = Client
		}
	}
	if !r.Header.Has(header.Traceparent) {
		a, b := randomID(), randomID()
		copy(s.TraceID[:], a[:])
		copy(s.TraceID[8:], b[:])
		s.ID, s.Sampled = randomID(), r.Sampled
		if s.Sampled && o.Sampler != nil {
			s.Sampled = o.Sampler.Sample(nil, s.TraceID)
		}
		return true
	}
	parent, ok := parseTraceparent(r.Header.Value(header.Traceparent))
	if !ok {
		return false
	}
	s.TraceID, s.Parent, s.ID, s.remote = parent.TraceID, parent.ID, randomID(), true
	s.State = r.Header.Get(tracestate)
	if s.Sampled = parent.Sampled; o.Sampler != nil {
		s.Sampled = o.Sampler.Sample(&parent, s.TraceID)
	}
	return true
}

func (OTLP) child(s, parent *Span) { s.Parent, s.ID = parent.ID, randomID() }

func (OTLP) inject(s *Span, m *header.Map) {
	injectW3C(&s.Context, m)
	m.Set(tracestate, s.State)
}

// Flags of a span beside that of W3C (SpanFlags).
const (
	flagSampled   = 0x1
	flagHasRemote = 0x100
	flagRemote    = 0x200
)

func (OTLP) append(b []byte, s *Span, end time.Time) []byte {
	b, span := wire.Begin(b, 2)
	b = wire.Bytes(b, 1, s.TraceID[:])
	b = wire.Bytes(b, 2, s.ID[:])
	b = wire.Text(b, 3, s.State)
	if s.Parent != [8]byte{} {
		b = wire.Bytes(b, 4, s.Parent[:])
	}
	b = wire.Text(b, 5, s.name)
	b = wire.Varint(b, 6, uint64(s.kind)+2)
	b = wire.Fixed64(b, 7, uint64(s.start.UnixNano()))
	b = wire.Fixed64(b, 8, uint64(end.UnixNano()))
	for i := range s.tags {
		var attribute, value int
		b, attribute = wire.Begin(b, 9)
		b = wire.Bytes(b, 1, s.tags[i].name)
		b, value = wire.Begin(b, 2)
		b = wire.Bytes(b, 1, s.tags[i].value)
		b = wire.End(wire.End(b, value), attribute)
	}
	for i := range s.events {
		var one int
		b, one = wire.Begin(b, 11)
		b = wire.Fixed64(b, 1, uint64(s.events[i].at.UnixNano()))
		b = wire.End(wire.Bytes(b, 2, s.events[i].name), one)
	}
	if s.failed {
		b = append(b, 15<<3|2, 2, 3<<3, 2) // status { code: STATUS_CODE_ERROR }
	}
	flags := uint32(flagHasRemote | flagSampled)
	if s.remote {
		flags |= flagRemote
	}
	return wire.End(wire.Fixed32(b, 16, flags), span)
}
