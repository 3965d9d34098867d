// Package grpchttp1bridge is the HTTP filter grpc_http1_bridge: it lets HTTP/1.1 clients,
// which see no trailers, make unary gRPC calls. The response is kept back until its
// trailers have come, whose status and message go into its head; a call that failed is a
// 503.
package grpchttp1bridge

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:  "envoy.filters.http.grpc_http1_bridge",
	Type:  "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config",
	Parse: parse,
	New:   newFactory,
}

// Config says what becomes gRPC that is not.
type Config struct {
	Upgrade     bool // upgrade_protobuf_to_grpc: bodies get a prefix, and those of responses lose it
	IgnoreQuery bool // ignore_query_parameters
}

// bodyLimit is per_connection_buffer_limit_bytes of a listener that does not say.
const bodyLimit = 1 << 20

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	limit := env.BufferLimit
	if limit <= 0 {
		limit = bodyLimit
	}
	return func() filter.HTTP { return &Filter{config: c, limit: limit} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	config *Config
	limit  int // of a request that gets a prefix, in bytes

	bridging bool        // the call is one of an HTTP/1 client
	body     *buffer.Buf // of the response, kept back by the engine; nil: it is not
	strip    int         // bytes of the prefix that are still to be taken off
}

var (
	_ filter.RequestHeaders   = (*Filter)(nil)
	_ filter.ResponseHeaders  = (*Filter)(nil)
	_ filter.ResponseData     = (*Filter)(nil)
	_ filter.ResponseTrailers = (*Filter)(nil)
	_ filter.Choosy           = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { *f = Filter{config: f.config, limit: f.limit} }

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	m := &s.Request
	upgrade := f.config.Upgrade && m.Value(header.ContentType) == "application/x-protobuf"
	if upgrade {
		m.SetID(header.ContentType, "application/grpc")
		m.DelID(header.ContentLength)
		s.Engine.RefreshRoute()
	}
	f.bridging = filter.IsGRPC(m) && s.Meta.Protocol <= meta.HTTP11
	if !f.bridging {
		return nil
	}
	if f.config.IgnoreQuery {
		if path, _, ok := strings.Cut(m.Value(header.Path), "?"); ok {
			m.SetID(header.Path, path)
		}
	}
	if !upgrade {
		return nil
	}
	f.strip = filter.GRPCPrefix
	if end {
		return nil
	}
	body, err := s.Engine.BufferRequest(f.limit)
	if err == nil {
		filter.PrependGRPC(body, 0)
	}
	return err
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	if f.bridging && !end {
		f.body = s.Engine.HoldResponse()
	}
	return nil
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.bridging }

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(s *filter.Stream, b *buffer.Buf, end bool) error {
	if f.body == nil {
		return nil
	}
	if n := min(f.strip, b.Len()); n > 0 {
		b.Discard(n)
		f.strip -= n
		s.Response.DelID(header.ContentLength)
	}
	return nil
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if f.body == nil {
		return nil
	}
	m, t := &s.Response, &s.ResponseTrailers
	if t.Has(header.GrpcStatus) {
		status := t.Value(header.GrpcStatus)
		if strings.Trim(status, "0") != "" || status == "" {
			m.SetInt(header.Status, 503)
		}
		m.SetID(header.GrpcStatus, status)
	}
	if t.Has(header.GrpcMessage) {
		m.SetID(header.GrpcMessage, t.Value(header.GrpcMessage))
	}
	m.SetInt(header.ContentLength, int64(f.body.Len())) // an HTTP/1 client can see that it has all
	return nil
}
