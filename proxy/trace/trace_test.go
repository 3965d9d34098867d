package trace

import (
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
)

type list struct{ spans []string }

func (l *list) Put(span []byte) { l.spans = append(l.spans, string(span)) }

// providers are those of this package, as most are configured.
func providers() map[string]Provider {
	return map[string]Provider{
		"otlp": OTLP{}, "zipkin": &Zipkin{Shared: true}, "zipkin-w3c": &Zipkin{W3C: true, Wide: true, Proto: true},
	}
}

// FuzzPropagation takes fields that say where a request comes from: whatever they say, what
// upstream is told can be read again, and leads to the same trace.
func FuzzPropagation(f *testing.F) {
	f.Add("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1")
	f.Add("b3", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1-1111111111111111", "")
	f.Add("b3", "d", "")
	f.Add("b3", "-", "0")
	f.Add("x-b3-traceid", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
	f.Add("x-b3-traceid", "0af", "b7ad6b7169203331")
	f.Fuzz(func(t *testing.T, name, value, other string) {
		for kind, p := range providers() {
			var m header.Map
			m.AddID(header.Authority, "host")
			m.Add(strings.ToLower(name), value)
			m.Add(tracestate, other)
			m.Add(b3SpanID, other)
			tracer := New(p, &list{})
			s := tracer.Start(nil, Request{Header: &m, Start: time.Now(), Sampled: true})
			if s == nil {
				continue
			}
			s.Inject(&m)
			s.Child(nil, "child", time.Now()).End(time.Now())
			s.End(time.Now())
			next := tracer.Start(nil, Request{Header: &m, Start: time.Now(), Sampled: !s.Sampled})
			switch {
			case next == nil:
				t.Fatalf("%s: what was told upstream cannot be read: %v", kind, m)
			case next.TraceID != s.TraceID:
				t.Fatalf("%s: the trace %x goes on as %x", kind, s.TraceID, next.TraceID)
			case next.Sampled != s.Sampled:
				t.Fatalf("%s: upstream is told something else of being sampled", kind)
			}
		}
	})
}

// What is not sampled costs nothing but what upstream is told.
func TestUnsampledAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for kind, p := range providers() {
		var m header.Map
		var memory *Span
		tracer := New(p, &list{})
		run := func() {
			m.Reset()
			m.AddID(header.Authority, "host")
			memory = tracer.Start(memory, Request{Header: &m, Start: time.Now()})
			memory.Tag("a", "b")
			memory.Inject(&m)
			memory.End(time.Now())
		}
		run()
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}

func TestSpansAreBounded(t *testing.T) {
	l := &list{}
	var m header.Map
	s := New(OTLP{}, l).Start(nil, Request{Header: &m, Start: time.Now(), Sampled: true})
	for i := range 10 * maxTags {
		s.Tag(strings.Repeat("t", i), "\xff")
	}
	s.End(time.Now())
	if len(s.tags) != maxTags || len(l.spans) != 1 {
		t.Errorf("%d tags in %d spans", len(s.tags), len(l.spans))
	}
}
