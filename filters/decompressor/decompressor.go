// Package decompressor is the HTTP filter decompressor: it takes a content coding off the
// bodies of requests and responses, and tells upstream that it would. A body that is not
// in its coding, or becomes too large, ends its stream.
package decompressor

import (
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:  "envoy.filters.http.decompressor",
	Type:  "envoy.extensions.filters.http.decompressor.v3.Decompressor",
	Parse: parse,
	New:   newFactory,
}

// Config is the parsed configuration.
type Config struct {
	LibraryName       string // for statistics
	Library           *Library
	Request, Response Direction
	Advertise         bool // advertise_accept_encoding
}

// Direction is CommonDirectionConfig.
type Direction struct {
	Enabled           runtime.FlagSetting
	IgnoreNoTransform bool
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	sh := newShared(c, env)
	return func() filter.HTTP { return &Filter{shared: sh} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	*shared
	request, response body
}

// body is one that is decompressed.
type body struct {
	d        *decoder // nil: it isn't
	in, out  int64    // bytes so far
	finished bool     // and its trailers have been written
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
	for _, b := range [...]*body{&f.request, &f.response} {
		if b.d != nil {
			b.d.close()
		}
		*b = body{}
	}
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	m := &s.Request
	if f.config.Advertise && f.responseEnabled.Get() {
		f.advertise(m)
	}
	if !end {
		f.request.d = f.begin(&f.config.Request, f.requestEnabled, f.requests, m)
	}
	return nil
}

// advertise adds the coding to accept-encoding, once.
func (f *Filter) advertise(m *header.Map) {
	coding, old := f.config.Library.Coding, m.Value(header.AcceptEncoding)
	m.SetID(header.AcceptEncoding, m.Format(func(dst []byte) []byte {
		for rest := old; rest != ""; {
			var token string
			token, rest = codec.CutToken(rest)
			name, _, _ := strings.Cut(token, ";")
			if token == "" || strings.TrimSpace(name) == coding {
				continue
			}
			dst = append(append(dst, token...), ',')
		}
		return append(dst, coding...)
	}))
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	if !end {
		f.response.d = f.begin(&f.config.Response, f.responseEnabled, f.responses, &s.Response)
	}
	return nil
}

// begin returns the decoder for a message, nil if its body is to stay as it is.
func (f *Filter) begin(c *Direction, enabled runtime.FlagValue, n *counters, m *header.Map) *decoder {
	const name = "content-encoding"
	all := m.Get(name)
	outermost, rest, more := strings.Cut(all, ",")
	if !enabled.Get() || !c.IgnoreNoTransform && noTransform(m) || !strings.EqualFold(strings.TrimSpace(outermost), f.config.Library.Coding) {
		n.NotDecompressed.Inc()
		return nil
	}
	n.Decompressed.Inc()
	m.DelID(header.ContentLength)
	if more {
		m.Set(name, strings.TrimSpace(rest))
	} else {
		m.Del(name)
	}
	return newDecoder(f.config.Library)
}

// noTransform reports whether cache-control forbids it.
func noTransform(m *header.Map) bool {
	for v := m.Value(header.CacheControl); v != ""; {
		var token string
		if token, v = codec.CutToken(v); strings.EqualFold(token, "no-transform") {
			return true
		}
	}
	return false
}

var replyBroken = filter.Reply{Code: 400, Body: "Bad Request", Details: "request_decompression_failed"}

// OnRequestData implements filter.RequestData.
func (f *Filter) OnRequestData(s *filter.Stream, b *buffer.Buf, end bool) error {
	if err := f.decompress(&f.request, f.requests, b, end, &s.RequestTrailers); err != nil {
		return &replyBroken
	}
	return nil
}

// OnRequestTrailers implements filter.RequestTrailers.
func (f *Filter) OnRequestTrailers(s *filter.Stream) error {
	if err := f.complete(s, &f.request, f.requests, &s.RequestTrailers); err != nil {
		return &replyBroken
	}
	return nil
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.response.d != nil }

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(s *filter.Stream, b *buffer.Buf, end bool) error {
	return broken(f.decompress(&f.response, f.responses, b, end, &s.ResponseTrailers))
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	return broken(f.complete(s, &f.response, f.responses, &s.ResponseTrailers))
}

func broken(err error) error {
	if err == nil {
		return nil
	}
	return &filter.Error{Source: filter.Upstream, Flag: meta.UpstreamProtocolError, Code: 502, Text: "response_decompression_failed", Err: err}
}

// decompress replaces a piece of a body by what becomes of it. With the end it tells in
// trailers how much that was.
func (f *Filter) decompress(body *body, n *counters, b *buffer.Buf, end bool, trailers *header.Map) error {
	if body.d == nil || body.finished {
		return nil
	}
	before := b.Len()
	err := body.d.decode(b, end)
	n.CompressedBytes.Add(uint64(before))
	n.UncompressedBytes.Add(uint64(b.Len()))
	body.in += int64(before)
	body.out += int64(b.Len())
	if err != nil {
		f.failures(err)
		return err
	}
	if end {
		body.finished = true
		f.report(body, trailers)
	}
	return nil
}

// complete ends a body that trailers follow.
func (f *Filter) complete(s *filter.Stream, body *body, n *counters, trailers *header.Map) error {
	return f.decompress(body, n, s.Engine.BeforeTrailers(), true, trailers)
}

func (f *Filter) report(body *body, m *header.Map) {
	m.Set(f.compressedTrailer, decimal(m, body.in))
	m.Set(f.uncompressedTrailer, decimal(m, body.out))
}

func decimal(m *header.Map, n int64) string {
	return m.Format(func(dst []byte) []byte { return strconv.AppendInt(dst, n, 10) })
}
