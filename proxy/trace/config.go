package trace

import (
	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Config is the tracing of a connection manager: plain, validated, immutable
// (HttpConnectionManager.Tracing).
type Config struct {
	// Provider is whose spans these are: something that the Source understands; nil is the
	// default of the process.
	Provider any

	Client, Random, Overall runtime.FractionSetting // client_sampling and its like, with their keys

	Spawn     bool // spawn_upstream_span
	NoContext bool // no_context_propagation: upstream is told of no trace
	Verbose   bool
	MaxPath   int // max_path_tag_length, in bytes
	Tags      []Tag
	Operation *accesslog.Format // nil: the provider's way of naming spans
	Upstream  *accesslog.Format // upstream_operation, nil: "router CLUSTER egress"
}

// Source makes tracers.
type Source interface {
	// Tracer returns the tracer of a provider and what gives it back. One that makes no
	// spans is nil.
	Tracer(provider any) (t *Tracer, release func(), err error)
}

// Route is what a route says of traces, in place of the connection manager (Route.tracing).
type Route struct {
	Client, Random, Overall runtime.Fraction
	Tags                    []Tag
	Operation, Upstream     *accesslog.Format // nil: not said
}

// Routed is a route that may have a say in tracing. Trace returns nil where it has none.
type Routed interface{ Trace() *Route }

// Tag is one more tag of a span (envoy.type.tracing.v3.CustomTag).
type Tag struct {
	Name     string
	Value    *accesslog.Format // of a fixed one, of the environment, and of a format
	Header   string            // of a request header, lower case
	Metadata string            // "ROUTE:namespace:key", as METADATA has it
	Default  string            // of the latter two
}

// Text is the value of the tag for a stream; "" leaves it out.
func (t *Tag) Text(e *accesslog.Entry) string {
	switch {
	case t.Value != nil:
		return format(t.Value, e)
	case t.Header != "":
		if e.Request != nil {
			if v, ok := e.Request.Find(t.Header); ok {
				return v
			}
		}
	case t.Metadata != "" && e.Lookup != nil:
		p := scratch.Get().(*[]byte)
		defer scratch.Put(p)
		var ok bool
		if *p, ok = e.Lookup.AppendValue((*p)[:0], "METADATA", t.Metadata, false); ok {
			return string(*p)
		}
	}
	return t.Default
}

func format(f *accesslog.Format, e *accesslog.Entry) string {
	if text, ok := f.Literal(); ok {
		return text
	}
	p := scratch.Get().(*[]byte)
	defer scratch.Put(p)
	*p = f.Append((*p)[:0], e)
	return string(*p)
}

// Tracing is a Config that is in use. It is immutable and safe for concurrent use.
type Tracing struct {
	*Config
	Tracer *Tracer // nil makes no spans

	client, random, overall runtime.FractionValue
}

// NewTracing makes a Config ready for use.
func NewTracing(c *Config, t *Tracer, r *runtime.Runtime) *Tracing {
	return &Tracing{Config: c, Tracer: t, client: c.Client.On(r), random: c.Random.On(r), overall: c.Overall.On(r)}
}

// operation is the format of a span's name: of the route, or else of the connection
// manager.
func (t *Tracing) operation(r *Route, upstream bool) *accesslog.Format {
	of := func(own, up *accesslog.Format) *accesslog.Format {
		if upstream {
			return up
		}
		return own
	}
	if r != nil {
		if f := of(r.Operation, r.Upstream); f != nil {
			return f
		}
	}
	return of(t.Operation, t.Upstream)
}

// HasOperation reports whether a format names the spans of requests on a route.
func (t *Tracing) HasOperation(r *Route) bool { return t.operation(r, false) != nil }
