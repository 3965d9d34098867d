// Package compressor is the HTTP filter compressor: it compresses the bodies of responses,
// and of requests where that is wanted, in a coding that the other side accepts. What has
// come of a body goes on at once, so that a stream of events is one still.
package compressor

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.compressor",
	Type:       "envoy.extensions.filters.http.compressor.v3.Compressor",
	RouteType:  "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config is the parsed configuration of the filter, or of a route, which has the last
// three fields and Library alone.
type Config struct {
	LibraryName string // for statistics
	Library     *Library
	Request     *Direction // nil: requests are not compressed
	Response    ResponseDirection
	First       bool // choose_first
	Legacy      bool // there is no response_direction_config: statistics have no "response."

	On           *bool // responses are compressed, or not
	RemoveAccept *bool // remove_accept_encoding_header
}

// Direction is CommonDirectionConfig.
type Direction struct {
	Enabled   runtime.FlagSetting
	MinLength uint64 // bytes, of a body whose length is known
	Types     map[string]struct{}
	Matchers  match.Strings // in place of Types, if there are any
}

// ResponseDirection is ResponseDirectionConfig.
type ResponseDirection struct {
	Direction
	DisableOnEtag bool
	WeakenEtag    bool
	RemoveAccept  bool
	Codes         map[int]struct{} // uncompressible_response_codes
	StatusHeader  bool
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := newShared(c, env)
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	own offer // in the list of the stream's compressors
	all offers

	accept  string // accept-encoding of the request
	accepts bool   // it has one
	library *Library
	request *encoder // nil: the request is not compressed
	reply   *encoder // nil: the response is not
	out     buffer.Buf
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
	f.giveBack(f.request)
	f.giveBack(f.reply)
	f.out.Release()
	f.all.reset()
	f.own = offer{}
	f.accept, f.accepts, f.library, f.request, f.reply = "", false, nil, nil, nil
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	m := &s.Request
	f.accepts = m.Has(header.AcceptEncoding)
	f.accept = m.Value(header.AcceptEncoding)
	on, remove := f.enabled.Get(), f.config.Response.RemoveAccept
	f.library = f.config.Library
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		if own.On != nil {
			on = *own.On
		}
		if own.RemoveAccept != nil {
			remove = *own.RemoveAccept
		}
		if own.Library != nil {
			f.library = own.Library
		}
	}
	f.join(s)
	if on && remove {
		m.DelID(header.AcceptEncoding)
	}
	d, n := f.config.Request, f.requests
	if end || d == nil || !f.requestEnabled.Get() || codec.IsUpgrade(m) || !d.longEnough(m, n) || !d.typeAllowed(m) ||
		has(m, contentEncoding) || f.coded(m) {
		n.NotCompressed.Inc()
		return nil
	}
	if f.request = f.take(f.library); f.request == nil {
		n.NotCompressed.Inc()
		return nil
	}
	m.DelID(header.ContentLength)
	m.Set(contentEncoding, f.library.Coding)
	n.Compressed.Inc()
	return nil
}

// OnRequestData implements filter.RequestData.
func (f *Filter) OnRequestData(_ *filter.Stream, b *buffer.Buf, end bool) error {
	return f.compress(f.request, f.requests, b, end)
}

// OnRequestTrailers implements filter.RequestTrailers.
func (f *Filter) OnRequestTrailers(s *filter.Stream) error {
	return f.complete(s, f.request, f.requests)
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.reply != nil }

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(_ *filter.Stream, b *buffer.Buf, end bool) error {
	return f.compress(f.reply, f.responses, b, end)
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	return f.complete(s, f.reply, f.responses)
}

// compress replaces a piece of a body by what becomes of it.
func (f *Filter) compress(e *encoder, n *counters, b *buffer.Buf, end bool) error {
	if e == nil || b.Len() == 0 && !end {
		return nil
	}
	n.UncompressedBytes.Add(uint64(b.Len()))
	if err := e.encode(&f.out, b, end); err != nil {
		return &filter.Error{Source: filter.Internal, Text: "compression_failed", Err: err}
	}
	b.Release()
	b.MoveAll(&f.out)
	n.CompressedBytes.Add(uint64(b.Len()))
	return nil
}

// complete ends a body that trailers follow.
func (f *Filter) complete(s *filter.Stream, e *encoder, n *counters) error {
	if e == nil {
		return nil
	}
	return f.compress(e, n, s.Engine.BeforeTrailers(), true)
}
