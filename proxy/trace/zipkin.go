package trace

import (
	"encoding/hex"
	"net/netip"
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/wire"
)

// Zipkin makes spans for Zipkin: context travels as B3. With Proto each finished span is a
// field spans of zipkin.proto3.ListOfSpans, otherwise a JSON object and a comma
// (https://zipkin.io/zipkin-api/#/default/post_spans).
type Zipkin struct {
	Service string
	Address netip.Addr // of this proxy
	Proto   bool
	Wide    bool // traces that begin here have IDs of 128 bits (trace_id_128bit)
	Shared  bool // the server's span is the client's (shared_span_context)
	Split   bool // the span of a request is always a server's (split_spans_for_request)
	W3C     bool // W3C fields are read where there is no B3, and written (USE_B3_WITH_W3C_PROPAGATION)
}

func (z *Zipkin) start(s *Span, r *Request) bool {
	c, ok := parseB3(r.Header)
	if !ok {
		return false
	}
	if z.W3C && !c.found && c.d == undecided && !c.single && r.Header.Has(header.Traceparent) {
		if parent, ok := parseTraceparent(r.Header.Value(header.Traceparent)); ok {
			c.Context, c.found, c.wide, c.d = parent, true, true, decided(parent.Sampled)
		}
	}
	s.name = r.Header.Value(header.Authority)
	s.b3 = c.single
	if s.Sampled = r.Sampled; c.d != undecided {
		s.Sampled = c.d == sampled
	}
	if r.Outbound && !r.Split && !z.Split {
		s.kind = Client
	}
	s.shared = s.kind == Server && z.Shared
	switch {
	case !c.found:
		s.ID = randomID()
		copy(s.TraceID[8:], s.ID[:])
		if s.wide = z.Wide; s.wide {
			high := randomID()
			copy(s.TraceID[:], high[:])
		}
	case s.shared:
		s.TraceID, s.ID, s.Parent, s.wide = c.TraceID, c.ID, c.Parent, c.wide
	default:
		s.TraceID, s.ID, s.Parent, s.wide = c.TraceID, randomID(), c.ID, c.wide
	}
	return true
}

func (z *Zipkin) child(s, parent *Span) { s.Parent, s.ID = parent.ID, randomID() }

func (z *Zipkin) inject(s *Span, m *header.Map) {
	s.injectB3(m)
	if z.W3C {
		injectW3C(&s.Context, m)
	}
}

// last is the annotation with which a span ends: server send, client receive.
func (s *Span) last() string {
	if s.kind == Server {
		return "ss"
	}
	return "cr"
}

func (z *Zipkin) append(b []byte, s *Span, end time.Time) []byte {
	s.events = append(s.events, event{s.last(), end})
	if z.Proto {
		return z.appendProto(b, s, end)
	}
	b = append(b, `{"traceId":"`...)
	b = append(s.AppendTraceID(b), `","id":"`...)
	b = append(s.AppendID(b), '"')
	if s.Parent != [8]byte{} {
		b = append(hex.AppendEncode(append(b, `,"parentId":"`...), s.Parent[:]), '"')
	}
	b = accesslog.AppendQuoted(append(b, `,"name":`...), s.name)
	kind := `,"kind":"SERVER"`
	if s.kind == Client {
		kind = `,"kind":"CLIENT"`
	}
	b = append(b, kind...)
	if s.shared {
		b = append(b, `,"shared":true`...)
	}
	b = strconv.AppendInt(append(b, `,"timestamp":`...), s.start.UnixMicro(), 10)
	b = strconv.AppendInt(append(b, `,"duration":`...), duration(s, end), 10)
	b = accesslog.AppendQuoted(append(b, `,"localEndpoint":{"serviceName":`...), z.Service)
	if z.Address.IsValid() {
		family := `,"ipv4":"`
		if z.Address.Is6() {
			family = `,"ipv6":"`
		}
		b = append(z.Address.AppendTo(append(b, family...)), `","port":0`...)
	}
	b = append(b, `},"annotations":[`...)
	for i := range s.events {
		b = strconv.AppendInt(append(b, `{"timestamp":`...), s.events[i].at.UnixMicro(), 10)
		b = append(accesslog.AppendQuoted(append(b, `,"value":`...), s.events[i].name), `},`...)
	}
	b = append(b[:len(b)-1], `],"tags":{`...)
	for i := range s.tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = accesslog.AppendQuoted(append(accesslog.AppendQuoted(b, s.tags[i].name), ':'), s.tags[i].value)
	}
	return append(b, "}},"...)
}

// duration is that of a span in microseconds, at least one.
func duration(s *Span, end time.Time) int64 { return max(end.Sub(s.start).Microseconds(), 1) }

func (z *Zipkin) appendProto(b []byte, s *Span, end time.Time) []byte {
	b, span := wire.Begin(b, 1)
	if s.wide {
		b = wire.Bytes(b, 1, s.TraceID[:])
	} else {
		b = wire.Bytes(b, 1, s.TraceID[8:])
	}
	if s.Parent != [8]byte{} {
		b = wire.Bytes(b, 2, s.Parent[:])
	}
	b = wire.Bytes(b, 3, s.ID[:])
	kind := uint64(2)
	if s.kind == Client {
		kind = 1
	}
	b = wire.Varint(b, 4, kind)
	b = wire.Text(b, 5, s.name)
	b = wire.Fixed64(b, 6, uint64(s.start.UnixMicro()))
	b = wire.Varint(b, 7, uint64(duration(s, end)))
	b, endpoint := wire.Begin(b, 8)
	b = wire.Text(b, 1, z.Service)
	switch {
	case z.Address.Is4():
		b = wire.Bytes(b, 2, z.Address.AsSlice())
	case z.Address.Is6():
		b = wire.Bytes(b, 3, z.Address.AsSlice())
	}
	b = wire.End(b, endpoint)
	for i := range s.events {
		var one int
		b, one = wire.Begin(b, 10)
		b = wire.Fixed64(b, 1, uint64(s.events[i].at.UnixMicro()))
		b = wire.End(wire.Bytes(b, 2, s.events[i].name), one)
	}
	for i := range s.tags {
		var one int
		b, one = wire.Begin(b, 11)
		b = wire.Bytes(b, 1, s.tags[i].name)
		b = wire.End(wire.Bytes(b, 2, s.tags[i].value), one)
	}
	return wire.End(wire.Bool(b, 13, s.shared), span)
}
