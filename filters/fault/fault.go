// Package fault is the HTTP filter fault: it delays requests, answers them with an error,
// and slows responses down, so that people see what becomes of their programs then.
package fault

import (
	"strconv"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

const typ = "envoy.extensions.filters.http.fault.v3.HTTPFault"

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:      wellKnown,
	Type:      typ,
	RouteType: typ,
	Parse:     parse,
	New:       newFactory,
}

// Config is the parsed configuration of the filter, or of a route in its place.
type Config struct {
	Cluster string          // upstream_cluster: only requests to it, "" for all
	Nodes   map[string]bool // downstream_nodes: only from these, nil for all
	Headers match.Headers   // only requests with these

	Delay *Delay // nil: none
	Abort *Abort // nil: none
	Rate  *Rate  // nil: none
	// Most is how many faults there are at a time.
	Most runtime.UintValue
	// ByDownstream counts also by x-envoy-downstream-service-cluster.
	ByDownstream bool
	Metadata     map[string]any // filter_metadata
}

// Delay is how long which share of the requests waits.
type Delay struct {
	ByHeader bool // x-envoy-fault-delay-request says how long
	Percent  percent
	Millis   setting
}

// Abort is what which share of the requests is answered.
type Abort struct {
	ByHeader   bool // x-envoy-fault-abort-request or -grpc-request says what
	Percent    percent
	HTTP, GRPC setting // one of them has a default other than 0
	Body       string
}

// Rate is how fast which share of the responses goes.
type Rate struct {
	ByHeader bool // x-envoy-fault-throughput-response says how fast
	Percent  percent
	KiB      uint64 // in a second, at least 1 unless ByHeader
}

// setting is a number that the runtime may override.
type setting struct {
	value runtime.UintValue
	key   func(def uint64) runtime.UintValue
	def   uint64
}

// percent is a share that the runtime may override, and a header lower.
type percent struct {
	value runtime.FractionValue
	def   match.Fraction
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := newShared(c, env)
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	c      *Config
	from   *downstream // nil: not known
	active bool        // counts as an active fault
	pace   pacer       // of the response
}

var (
	_ filter.RequestHeaders = (*Filter)(nil)
	_ filter.Done           = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { f.c, f.from, f.active, f.pace.on = nil, nil, false, false }

// OnRequestHeaders implements filter.RequestHeaders. A delay may be followed by an error.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	f.c = f.own
	if c, ok := filter.Override[*Config](s, f.slot); ok {
		f.c = c
	}
	if f.c.Delay == nil && f.c.Abort == nil && f.c.Rate == nil || !f.c.concerns(s) {
		return nil
	}
	if name, ok := s.Request.Find("x-envoy-downstream-service-cluster"); ok && name != "" {
		f.from = f.downstream(name)
	}
	f.slow(s)
	delayed := false
	if d := f.delay(s); d > 0 && f.begin() {
		f.Delays.Inc()
		if f.from != nil && f.c.ByDownstream {
			f.from.Delays.Inc()
		}
		s.Meta.Flags |= meta.DelayInjected
		s.Decide("delays the request", "")
		f.note(s)
		if err := s.Engine.Sleep(d); err != nil {
			return err
		}
		delayed = true
	}
	r := f.abort(s)
	if r != nil && f.begin() {
		f.Aborts.Inc()
		if f.from != nil && f.c.ByDownstream {
			f.from.Aborts.Inc()
		}
		f.note(s)
		return r
	}
	if delayed && !f.pace.on {
		f.end()
	}
	return nil
}

// Forecast implements filter.Forecaster. Where chance decides it is asked, as for a request.
func (f *Filter) Forecast(s *filter.Stream) error {
	g := &Filter{shared: f.shared, c: f.own}
	if c, ok := filter.Override[*Config](s, f.slot); ok {
		g.c = c
	}
	if !g.c.concerns(s) {
		return nil
	}
	if uint64(max(f.Active.Value(), 0)) >= g.c.Most.Get() {
		s.Decide("has as many faults as it may (max_active_faults)", "")
		return nil
	}
	if g.delay(s) > 0 {
		s.Decide("would delay the request", "")
	}
	if r := g.abort(s); r != nil {
		return r
	}
	return nil
}

// OnDone implements filter.Done.
func (f *Filter) OnDone(*filter.Stream) { f.end() }

// concerns reports whether the request is one of those that faults are for.
func (c *Config) concerns(s *filter.Stream) bool {
	if c.Cluster != "" && s.ClusterName() != c.Cluster {
		return false
	}
	if c.Nodes != nil && !c.Nodes[s.Request.Get("x-envoy-downstream-service-node")] {
		return false
	}
	return c.Headers.Match(&s.Request)
}

// begin counts the stream as an active fault, once, unless there are enough.
func (f *Filter) begin() bool {
	if f.active {
		return true
	}
	if uint64(max(f.Active.Value(), 0)) >= f.c.Most.Get() {
		f.Overflow.Inc()
		return false
	}
	f.Active.Inc()
	f.active = true
	return true
}

func (f *Filter) end() {
	if f.active {
		f.active = false
		f.Active.Dec()
	}
}

// note puts filter_metadata into the dynamic metadata.
func (f *Filter) note(s *filter.Stream) {
	for key, v := range f.c.Metadata {
		s.Metadata.Set(f.name, key, v)
	}
}

// delay returns how long the request waits, 0 for not at all.
func (f *Filter) delay(s *filter.Stream) time.Duration {
	d := f.c.Delay
	if d == nil {
		return 0
	}
	share := d.Percent.of(s, d.ByHeader, "x-envoy-fault-delay-request-percentage")
	if f.from != nil {
		share = d.Percent.from(f.from.delayPercent, share)
	}
	if !share.Match(chance()) {
		return 0
	}
	ms := d.Millis
	if d.ByHeader {
		n, ok := number(&s.Request, "x-envoy-fault-delay-request")
		if !ok {
			return 0
		}
		ms.value, ms.def = ms.key(n), n
	}
	n := ms.value.Get()
	if f.from != nil {
		n = f.from.delayMillis.or(n)
	}
	return time.Duration(min(n, maxMillis)) * time.Millisecond
}

const maxMillis = uint64(1<<63-1) / uint64(time.Millisecond)

// abort returns the answer, nil for none.
func (f *Filter) abort(s *filter.Stream) *filter.Reply {
	a := f.c.Abort
	if a == nil {
		return nil
	}
	share := a.Percent.of(s, a.ByHeader, "x-envoy-fault-abort-request-percentage")
	if f.from != nil {
		share = a.Percent.from(f.from.abortPercent, share)
	}
	if !share.Match(chance()) {
		return nil
	}
	status, grpc := a.HTTP, a.GRPC
	if a.ByHeader {
		if n, ok := number(&s.Request, "x-envoy-fault-abort-request"); ok && n >= 200 && n < 600 {
			status.value, status.def = status.key(n), n
		} else if n, ok := number(&s.Request, "x-envoy-fault-abort-grpc-request"); ok {
			grpc.value, grpc.def = grpc.key(n), n
		}
	}
	code, grpcStatus := 200, 0
	switch {
	case status.def > 0:
		code = int(status.value.Get())
		if f.from != nil {
			code = int(f.from.httpStatus.or(status.def))
		}
		if code < 200 || code > 599 { // of the runtime
			code = 500
		}
	case grpc.def > 0:
		grpcStatus = int(grpc.value.Get())
		if f.from != nil {
			grpcStatus = int(f.from.grpcStatus.or(grpc.def))
		}
	default:
		return nil
	}
	return &filter.Reply{Code: code, GRPC: grpcStatus, Body: a.Body, Details: "fault_filter_abort", Flags: meta.FaultInjected}
}

// of is the share of now. A header may lower what is configured.
func (p *percent) of(s *filter.Stream, byHeader bool, name string) match.Fraction {
	share := p.value.Get()
	if byHeader && share == p.def {
		if n, ok := number(&s.Request, name); ok {
			share.Numerator = uint32(min(n, uint64(share.Numerator)))
		}
	}
	return share
}

// from is the share for a client's cluster: its own key comes in place of the general one.
func (p *percent) from(own runtime.FractionValue, share match.Fraction) match.Fraction {
	if v := own.Get(); v != unset {
		return v
	}
	if share == p.value.Get() {
		return p.def
	}
	return share
}

// number reads a decimal number from a request header.
func number(m *header.Map, name string) (uint64, bool) {
	text, ok := m.Find(name)
	if !ok || len(text) > 18 {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}
