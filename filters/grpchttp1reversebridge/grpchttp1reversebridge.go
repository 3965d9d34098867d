// Package grpchttp1reversebridge is the HTTP filter grpc_http1_reverse_bridge: it lets
// gRPC clients make unary calls of servers that speak plain HTTP. The server gets the
// message with a content type of its own, with or without gRPC's prefix, and the code of
// its response becomes the status of the call, in a trailer.
package grpchttp1reversebridge

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.grpc_http1_reverse_bridge",
	Type:       "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
	RouteType:  "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfigPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config says what the server is to see.
type Config struct {
	ContentType string
	Withhold    bool   // withhold_grpc_frames: messages without prefix
	SizeHeader  string // response_size_header, lower case; "": the response is kept back to learn its size
	Disabled    bool   // for a route
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	return func() filter.HTTP { return &Filter{config: c, slot: env.Slot} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	config *Config
	slot   filter.Slot

	on       bool
	original string      // content type of the client
	strip    int         // bytes of the request's prefix that are still to be taken off
	body     *buffer.Buf // of the response, kept back by the engine; nil: it is not
	status   int         // of the call
	size     uint64      // of the response, as its header says
	seen     uint64      // bytes of it that have come
	prefixed bool        // its prefix was sent
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
func (f *Filter) Reset() { *f = Filter{config: f.config, slot: f.slot} }

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	m := &s.Request
	if end || !filter.IsGRPC(m) {
		return nil
	}
	if own, ok := filter.Override[*Config](s, f.slot); ok && own.Disabled {
		return nil
	}
	f.on = true
	f.original = m.Value(header.ContentType)
	m.SetID(header.ContentType, f.config.ContentType)
	m.Set("accept", f.config.ContentType)
	if f.config.Withhold {
		f.strip = filter.GRPCPrefix
		adjustLength(m, -filter.GRPCPrefix)
	}
	s.Engine.RefreshRoute()
	return nil
}

// adjustLength adds to content-length, where there is one that is not 0.
func adjustLength(m *header.Map, by int64) {
	if n, err := strconv.ParseInt(m.Value(header.ContentLength), 10, 64); err == nil && n != 0 {
		m.SetInt(header.ContentLength, max(n+by, 0))
	}
}

var replyTooSmall = filter.Reply{Code: 200, GRPC: unknown, Body: "invalid request body", Details: "grpc_bridge_data_too_small"}

const (
	unknown  = 2
	internal = 13
)

// OnRequestData implements filter.RequestData.
func (f *Filter) OnRequestData(_ *filter.Stream, b *buffer.Buf, end bool) error {
	if n := min(f.strip, b.Len()); n > 0 {
		b.Discard(n)
		f.strip -= n
	}
	if end && f.strip > 0 {
		return &replyTooSmall
	}
	return nil
}

var (
	replyNoLength    = filter.Reply{Code: 200, GRPC: internal, Body: "envoy reverse bridge: upstream did not set content length", Details: "grpc_bridge_content_length_missing"}
	replyWrongLength = filter.Reply{Code: 200, GRPC: internal, Body: "envoy reverse bridge: upstream set incorrect content length", Details: "grpc_bridge_content_length_wrong"}
)

// wrongType is the answer to a response with a content type that was not asked for.
func wrongType(m *header.Map) error {
	text := fmt.Sprintf("with unsupported content-type %s, status code %s", m.Value(header.ContentType), m.Value(header.Status))
	if !m.Has(header.ContentType) {
		text = "with no content-type header, status code " + m.Value(header.Status)
	}
	return &filter.Reply{Code: 200, GRPC: unknown, Body: "envoy reverse bridge: upstream responded " + text, Details: "grpc_bridge_content_type_wrong"}
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	m := &s.Response
	if end && m.Has(header.GrpcStatus) && filter.IsGRPC(m) {
		f.on = false // the proxy's own answer
	}
	if !f.on {
		return nil
	}
	if m.Value(header.ContentType) != f.config.ContentType {
		return wrongType(m)
	}
	m.SetID(header.ContentType, f.original)
	if f.config.Withhold {
		if err := f.measure(s); err != nil {
			return err
		}
	}
	if code := m.StatusCode(); code != 200 {
		f.status = filter.GRPCStatus(code)
	}
	m.SetID(header.Status, "200")
	if end && f.config.Withhold {
		filter.PrependGRPC(s.Engine.HoldResponse(), 0)
		m.SetInt(header.ContentLength, filter.GRPCPrefix)
		s.ResponseTrailers.SetInt(header.GrpcStatus, int64(f.status))
	}
	return nil
}

// measure learns the size of the response, or has it kept back.
func (f *Filter) measure(s *filter.Stream) error {
	m := &s.Response
	if f.config.SizeHeader == "" {
		adjustLength(m, filter.GRPCPrefix)
		f.body = s.Engine.HoldResponse()
		return nil
	}
	text, _, _ := strings.Cut(m.Get(f.config.SizeHeader), ",")
	var err error
	if f.size, err = strconv.ParseUint(strings.TrimSpace(text), 10, 32); err != nil {
		return &replyNoLength
	}
	m.SetInt(header.ContentLength, int64(f.size)+filter.GRPCPrefix)
	return nil
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.on }

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(s *filter.Stream, b *buffer.Buf, end bool) error {
	if !f.on {
		return nil
	}
	f.seen += uint64(b.Len())
	streams := f.config.Withhold && f.body == nil
	if streams && !f.prefixed {
		f.prefixed = true
		filter.PrependGRPC(b, int(f.size)-b.Len())
	}
	if !end {
		return nil
	}
	if streams && f.seen != f.size {
		return &replyWrongLength
	}
	if f.body != nil {
		filter.PrependGRPC(f.body, b.Len())
	}
	s.ResponseTrailers.SetInt(header.GrpcStatus, int64(f.status))
	return nil
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if !f.on {
		return nil
	}
	if f.body != nil {
		filter.PrependGRPC(f.body, 0)
	}
	s.ResponseTrailers.SetInt(header.GrpcStatus, int64(f.status))
	return nil
}
