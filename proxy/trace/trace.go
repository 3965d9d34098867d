// Package trace makes spans: what they are called, which of them are sampled, how they
// travel in header fields (W3C, B3), and how they look to a collector (OTLP, Zipkin).
//
// Who sends them is in proxy/export, what a request's spans say is for the engine and the
// router, and where providers come from is in proxy/telemetry.
package trace

import (
	"encoding/hex"
	"math/rand/v2"
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// Kind is the part that the proxy plays in a span.
type Kind uint8

// The kinds.
const (
	Server Kind = iota
	Client
)

// Sink takes finished spans in the format of its tracer. Put must not block; span is lent.
type Sink interface{ Put(span []byte) }

// Context is what travels with a request.
type Context struct {
	TraceID [16]byte
	ID      [8]byte
	Parent  [8]byte // zero: none
	Sampled bool
	State   string // tracestate, lent for the life of the stream
}

// Tracer makes spans for one provider. It is immutable and safe for concurrent use.
type Tracer struct {
	provider Provider
	sink     Sink
}

// Provider is how the spans of a tracer look. OTLP and Zipkin implement it.
type Provider interface {
	// start fills in a span for a request. It returns false where there is to be none since
	// what the request brings cannot be read.
	start(s *Span, r *Request) bool
	// child fills in a span that begins within another one.
	child(s, parent *Span)
	// inject writes the span's context into a request.
	inject(s *Span, m *header.Map)
	// append appends a finished span.
	append(dst []byte, s *Span, end time.Time) []byte
}

// New returns a tracer whose sampled spans go to sink.
func New(p Provider, sink Sink) *Tracer { return &Tracer{p, sink} }

// Request is what a span is begun for.
type Request struct {
	Header   *header.Map
	Start    time.Time
	Sampled  bool // what the connection manager has decided; a parent may know better
	Outbound bool // traffic_direction
	Split    bool // there is going to be a span for each attempt (spawn_upstream_span)
}

// Span is one span, in memory that is used again. A nil Span is one that nobody makes: its
// methods do nothing.
//
// Texts that it is given are lent until it ends.
type Span struct {
	Context
	tracer *Tracer
	kind   Kind
	b3     bool // the request has brought the header field b3
	wide   bool // the trace ID has 128 bits
	shared bool // the other side's span is the same one
	remote bool // the parent is somewhere else
	failed bool // the status is an error
	name   string
	start  time.Time

	request Request // while it is begun
	tags    []tag
	events  []event
}

type tag struct{ name, value string }

type event struct {
	name string
	at   time.Time
}

// Start begins the span of a request in memory, which it takes for it; nil makes new
// memory. It returns nil where there is to be no span.
func (t *Tracer) Start(memory *Span, r Request) *Span {
	if t == nil || t.provider == nil {
		return nil
	}
	s := fresh(memory)
	s.tracer, s.start, s.request = t, r.Start, r // there, since it costs nothing there
	ok := t.provider.start(s, &s.request)
	if s.request = (Request{}); !ok {
		return nil
	}
	return s
}

// fresh makes memory ready for another span.
func fresh(memory *Span) *Span {
	if memory == nil {
		return &Span{}
	}
	clear(memory.tags)
	*memory = Span{tags: memory.tags[:0], events: memory.events[:0]}
	return memory
}

// Child begins a span within s, in memory.
func (s *Span) Child(memory *Span, name string, start time.Time) *Span {
	if s == nil {
		return nil
	}
	c := fresh(memory)
	c.tracer, c.name, c.start = s.tracer, name, start
	c.Context, c.b3, c.wide, c.kind = s.Context, s.b3, s.wide, Client
	s.tracer.provider.child(c, s)
	return c
}

// Inject writes the context of s into a request: what follows there is its child.
func (s *Span) Inject(m *header.Map) {
	if s != nil {
		s.tracer.provider.inject(s, m)
	}
}

// Inject tells upstream of a span, which may be nil, unless it is to be told of none.
func (t *Tracing) Inject(s *Span, m *header.Map) {
	if s != nil && !t.NoContext {
		s.Inject(m)
	}
}

// Recording reports whether the span is sampled: only then does it matter what it says.
func (s *Span) Recording() bool { return s != nil && s.Sampled }

// Ignore makes a span that was begun one that is not sampled.
func (s *Span) Ignore() {
	if s != nil {
		s.Sampled = false
	}
}

// SetName names the span.
func (s *Span) SetName(name string) {
	if s != nil && name != "" {
		s.name = Valid(name)
	}
}

// maxTags bounds a span.
const maxTags = 128

// Tag adds a tag, or replaces it.
func (s *Span) Tag(name, value string) {
	if !s.Recording() {
		return
	}
	for i := range s.tags {
		if s.tags[i].name == name {
			s.tags[i].value = Valid(value)
			return
		}
	}
	if len(s.tags) < maxTags {
		s.tags = append(s.tags, tag{name, Valid(value)})
	}
}

// Event notes that something has happened.
func (s *Span) Event(name string, at time.Time) {
	if s.Recording() {
		s.events = append(s.events, event{name, at})
	}
}

// Status tells the span the status code of the response: 5xx is a failure, and 4xx is one
// of whoever has asked.
func (s *Span) Status(code int) {
	if s != nil && (code >= 500 || code >= 400 && s.kind == Client) {
		s.failed = true
	}
}

// Fail makes the status of the span an error.
func (s *Span) Fail() {
	if s != nil {
		s.failed = true
	}
}

// End ends the span and hands it on.
func (s *Span) End(at time.Time) {
	if !s.Recording() {
		return
	}
	p := scratch.Get().(*[]byte)
	*p = s.tracer.provider.append((*p)[:0], s, at)
	s.tracer.sink.Put(*p)
	scratch.Put(p)
}

// AppendTraceID appends the trace ID as %TRACE_ID% prints it.
func (s *Span) AppendTraceID(dst []byte) []byte {
	if s.wide {
		return hex.AppendEncode(dst, s.TraceID[:])
	}
	return hex.AppendEncode(dst, s.TraceID[8:])
}

// AppendID appends the span ID as %SPAN_ID% prints it.
func (s *Span) AppendID(dst []byte) []byte { return hex.AppendEncode(dst, s.ID[:]) }

// randomID makes an ID; 0 would be none.
func randomID() (id [8]byte) {
	for id == [8]byte{} {
		n := rand.Uint64()
		for i := range id {
			id[i] = byte(n >> (8 * i))
		}
	}
	return id
}
