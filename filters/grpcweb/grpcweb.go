// Package grpcweb is the HTTP filter grpc_web: it lets programs in browsers, which see no
// trailers and may have to speak text, call gRPC servers. Trailers become the last frame
// of the body, and both directions may be base64
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md).
package grpcweb

import (
	"strings"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[struct{}]{
	Name:  "envoy.filters.http.grpc_web",
	Type:  "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
	Parse: parse,
	New: func(_ struct{}, env filter.Env) (func() filter.HTTP, error) {
		return func() filter.HTTP { return &Filter{clusters: env.Clusters} }, nil
	},
}

const (
	binary      = "application/grpc-web"
	binaryProto = "application/grpc-web+proto"
	text        = "application/grpc-web-text"
	textProto   = "application/grpc-web-text+proto"
)

// Filter serves one stream at a time.
type Filter struct {
	clusters cluster.Source

	on       bool
	requests decoder // of a text request
	textIn   bool
	textOut  bool
	frames   encoder // of a text response
	foreign  bool    // the response is not gRPC: its body becomes the message of the status
	message  buffer.Buf
	calls    *calls // nil: nothing is counted
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
func (f *Filter) Reset() {
	f.message.Release()
	f.on, f.textIn, f.textOut, f.foreign, f.calls = false, false, false, false, nil
	f.requests, f.frames = decoder{}, encoder{}
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	m := &s.Request
	switch m.Value(header.ContentType) {
	case binary, binaryProto:
	case text, textProto:
		f.textIn = true
	default:
		return nil
	}
	f.on = true
	m.DelID(header.ContentLength)
	m.SetID(header.ContentType, "application/grpc")
	accept := m.Value(header.Accept)
	f.textOut = accept == text || accept == textProto
	m.SetID(header.Te, "trailers")
	if !has(m, "grpc-accept-encoding") {
		m.Add("grpc-accept-encoding", "identity")
	}
	f.calls = f.callsOf(s)
	return nil
}

func has(m *header.Map, name string) bool {
	_, ok := m.Find(name)
	return ok
}

const invalid = "Bad gRPC-web request, invalid base64 data."

var (
	replySize = filter.Reply{Code: 400, Body: invalid, Details: "grpc_base_64_decode_failed_bad_size"}
	replyData = filter.Reply{Code: 400, Body: invalid, Details: "grpc_base_64_decode_failed"}
)

// OnRequestData implements filter.RequestData.
func (f *Filter) OnRequestData(_ *filter.Stream, b *buffer.Buf, end bool) error {
	if !f.on || !f.textIn {
		return nil
	}
	if !f.requests.decode(b) {
		return &replyData
	}
	if end && f.requests.n > 0 {
		return &replySize
	}
	return nil
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	if !f.on {
		return nil
	}
	m := &s.Response
	f.calls.count(m)
	f.foreign = !filter.IsGRPCResponse(m, end) && !isWeb(m)
	m.DelID(header.ContentLength)
	if f.textOut {
		m.SetID(header.ContentType, textProto)
	} else {
		m.SetID(header.ContentType, binaryProto)
	}
	if f.foreign && !end {
		s.Engine.HoldResponse()
	}
	return nil
}

// isWeb reports whether upstream speaks gRPC-Web itself.
func isWeb(m *header.Map) bool {
	t, _, _ := strings.Cut(m.Value(header.ContentType), ";")
	t = strings.TrimRight(t, " \t")
	return m.StatusCode() == 200 && (strings.EqualFold(t, binary) || strings.EqualFold(t, binaryProto))
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.on && (f.textOut || f.foreign) }

// maxMessage is how many bytes of a body that is not gRPC become grpc-message.
const maxMessage = 16384

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(s *filter.Stream, b *buffer.Buf, end bool) error {
	switch {
	case !f.on:
	case f.foreign:
		f.message.Move(b, min(b.Len(), maxMessage-f.message.Len()))
		b.Release()
		if end {
			f.explain(s)
		}
	case f.textOut:
		f.frames.encode(b)
		if end {
			f.frames.finish(b)
		}
	}
	return nil
}

// explain makes a response that is not gRPC one that is.
func (f *Filter) explain(s *filter.Stream) {
	m := &s.Response
	m.SetID(header.GrpcMessage, m.Format(func(dst []byte) []byte {
		for v := range f.message.Views() {
			dst = filter.AppendGRPCMessage(dst, v)
		}
		return dst
	}))
	m.SetInt(header.GrpcStatus, int64(filter.GRPCStatus(m.StatusCode())))
	m.SetInt(header.ContentLength, 0)
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if !f.on {
		return nil
	}
	t := &s.ResponseTrailers
	f.calls.count(t)
	if f.foreign {
		f.explain(s)
		return nil
	}
	out := s.Engine.BeforeTrailers()
	if !f.textOut {
		appendTrailers(out, t)
	} else {
		f.frames.finish(out)
		var frame buffer.Buf
		appendTrailers(&frame, t)
		f.frames.encode(&frame)
		f.frames.finish(&frame)
		out.MoveAll(&frame)
	}
	t.Reset()
	return nil
}
