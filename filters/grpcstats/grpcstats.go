// Package grpcstats is the HTTP filter grpc_stats: it counts gRPC calls by their status,
// and the messages of both directions, in the statistics of the cluster that the route
// leads to. Messages are counted by their frames as they pass; nothing is kept back.
package grpcstats

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:  "envoy.filters.http.grpc_stats",
	Type:  "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
	Parse: parse,
	New:   newFactory,
}

// Config says under which names calls are counted, and what else.
type Config struct {
	AllMethods   bool                           // stats_for_all_methods: each under its own name
	Methods      map[string]map[string]struct{} // individual_method_stats_allowlist: by service, the methods with a name of their own
	ReplaceDots  bool                           // replace_dots_in_grpc_service_name
	EmitState    bool                           // emit_filter_state
	UpstreamTime bool                           // enable_upstream_stats
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	return func() filter.HTTP { return &Filter{config: c, clusters: env.Clusters} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	config   *Config
	clusters cluster.Source

	calls    *calls // nil: nothing is counted
	request  bool   // the request is gRPC
	response bool   // so is the response
	sent     frames // messages of the request
	received frames // messages of the response
	state    State
	told     bool // the stream has the state
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.RequestData      = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseData     = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
	_ filter.Choosy           = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { *f = Filter{config: f.config, clusters: f.clusters} }

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	f.request = filter.IsGRPC(&s.Request)
	if !f.request {
		return nil
	}
	service, method, ok := method(s.Request.Value(header.Path))
	if !ok {
		return nil
	}
	if c := s.Target(f.clusters); c != nil {
		f.calls = f.config.callsOf(c, service, method)
	}
	return nil
}

// method cuts /SERVICE/METHOD, as Envoy does: empty parts and the query do not count.
func method(path string) (service, method string, ok bool) {
	path, _, _ = strings.Cut(path, "?")
	path = strings.Trim(path, "/")
	service, method, _ = strings.Cut(path, "/")
	method = strings.TrimLeft(method, "/")
	return service, method, service != "" && method != "" && strings.IndexByte(method, '/') < 0
}

// OnRequestData implements filter.RequestData.
func (f *Filter) OnRequestData(s *filter.Stream, b *buffer.Buf, _ bool) error {
	if !f.request {
		return nil
	}
	if n := f.sent.see(b); n > 0 {
		f.tell(s)
		if f.calls != nil {
			f.calls.Requests.Add(n)
		}
	}
	return nil
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	m := &s.Response
	if end {
		f.response = m.Has(header.GrpcStatus)
	} else {
		f.response = m.StatusCode() == 200 && filter.IsGRPC(m)
	}
	f.over(s, m, end)
	return nil
}

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(s *filter.Stream, b *buffer.Buf, _ bool) error {
	if !f.response {
		return nil
	}
	if n := f.received.see(b); n > 0 {
		f.tell(s)
		if f.calls != nil {
			f.calls.Responses.Add(n)
		}
	}
	return nil
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.response }

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	f.over(s, &s.ResponseTrailers, true)
	return nil
}

// over counts the status of the call, where m has it, and at the end its time.
func (f *Filter) over(s *filter.Stream, m *header.Map, end bool) {
	if f.calls == nil {
		return
	}
	if m.Has(header.GrpcStatus) {
		f.calls.Count(f.calls.scope, m.Value(header.GrpcStatus))
	}
	if end && f.config.UpstreamTime && s.Meta.RequestEnd > 0 && s.Meta.UpstreamStart > 0 {
		f.calls.time().Record(uint64(max(s.Elapsed()-s.Meta.RequestEnd, 0).Milliseconds()))
	}
}

// tell puts the numbers of messages into the filter state.
func (f *Filter) tell(s *filter.Stream) {
	if !f.config.EmitState {
		return
	}
	f.state = State{f.sent.count, f.received.count}
	if !f.told {
		f.told = true
		s.State.Set(Spec.Name, &f.state)
	}
}
