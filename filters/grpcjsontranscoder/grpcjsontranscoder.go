// Package grpcjsontranscoder is the HTTP filter grpc_json_transcoder: clients that speak JSON
// over HTTP call gRPC servers. Which request calls which method, and what of the request goes
// where in its message, says google.api.http in the descriptors of the services
// (https://github.com/googleapis/googleapis/blob/master/google/api/http.proto).
//
// How a path finds its method is in template.go and matcher.go, requests in request.go,
// responses in response.go; package jsonpb knows JSON and protobuf.
package grpcjsontranscoder

import (
	"github.com/mecha-mesh/mecha/filters/grpcjsontranscoder/jsonpb"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:      "envoy.filters.http.grpc_json_transcoder",
	Type:      "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
	RouteType: "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
	Parse:     parse,
	New:       newFactory,
}

// Config is what the filter does, or what it does on a route instead.
type Config struct {
	Disabled bool // there are no services
	methods  matcher
	printer  jsonpb.Printer

	NewlineDelimited, SSE bool // of streams; otherwise they are arrays
	KeepRoute             bool // match_incoming_request_route
	ConvertStatus         bool // convert_grpc_status

	Ignored       map[string]struct{} // ignored_query_parameters
	IgnoreUnknown bool                // ignore_unknown_query_parameters
	Capture       bool                // capture_unknown_query_parameters
	PlusIsSpace   bool                // query_param_unescape_plus
	Unescape      unescaping          // url_unescape_spec
	RejectMethod  bool                // reject_unknown_method
	RejectQuery   bool                // reject_unknown_query_parameters

	MaxRequest, MaxResponse int // bytes of a body; 0: as many as the listener may buffer
}

// method is a method as one of its rules binds it.
type method struct {
	path                         string // "/package.Service/Method"
	input                        jsonpb.Encoder
	output                       jsonpb.Type
	outputPath                   jsonpb.Path // response_body
	clientStreams, serverStreams bool
	httpBodyIn, httpBodyOut      bool // google.api.HttpBody: bytes, not JSON
}

// counters is http.<stat_prefix>.*.
type counters struct {
	Request  stats.Gauge `stat:"transcoder_request_buffer_bytes" help:"bytes of requests that wait for the rest of a message"`
	Response stats.Gauge `stat:"transcoder_response_buffer_bytes" help:"bytes of responses that wait for the rest of a message, or of the response"`
}

// defaultLimit is per_connection_buffer_limit_bytes of a listener that does not say.
const defaultLimit = 1 << 20

// shared is what all streams of one chain have in common.
type shared struct {
	*Config
	*counters
	slot  filter.Slot
	limit int
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := &shared{Config: c, slot: env.Slot, limit: env.BufferLimit}
	var release func()
	sh.counters, release = stats.SharedUnder[counters](env.Parent)
	env.OnRetire(release)
	if sh.limit <= 0 {
		sh.limit = defaultLimit
	}
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	config *Config  // of the route
	parts  []string // segments of the path
	method *method  // nil: the request is not transcoded
	request
	response
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.RequestData      = (*Filter)(nil)
	_ filter.RequestTrailers  = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseData     = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
	_ filter.Choosy           = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {
	clear(f.parts)
	f.parts = f.parts[:0]
	f.config = nil
	f.method = nil
	f.requestGauge.set(&f.counters.Request, 0)
	f.request.kept.Release()
	f.request = request{}
	f.responseGauge.set(&f.counters.Response, 0)
	f.response.in.Release()
	f.response.out.Release()
	f.response = response{}
}

// share is what of a gauge is a stream's.
type share int64

func (s *share) set(g *stats.Gauge, n int) {
	if by := int64(n) - int64(*s); by != 0 {
		g.Add(by)
		*s = share(n)
	}
}

// whole returns the bytes of b in one piece. They are lent as b is.
func whole(b *buffer.Buf) []byte {
	p, _ := b.Peek(b.Len())
	return p
}
