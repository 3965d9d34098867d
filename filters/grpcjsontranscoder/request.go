package grpcjsontranscoder

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/mecha-mesh/mecha/filters/grpcjsontranscoder/jsonpb"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// request is the request of a stream that is transcoded.
type request struct {
	bindings     []jsonpb.Binding // of its path and query, for the first message
	unknown      []jsonpb.Unknown // query parameters that are no fields
	contentType  string           // of a body that is passed on as it is
	bound        []byte           // the message that bindings make, for such a body
	kept         buffer.Buf       // the body, as far as it is kept
	array        jsonpb.Splitter  // of a stream of messages
	begun        bool             // a message has been sent
	requestGauge share
}

// Details of replies, with the status in braces.
const (
	early = "early_grpc_json_transcode_failure"
	late  = "grpc_json_transcode_failure"
)

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, end bool) error {
	f.config = f.Config
	if own, ok := filter.Override[*Config](s, f.slot); ok {
		f.config = own
	}
	m := &s.Request
	if f.config.Disabled || filter.IsGRPC(m) || codec.IsUpgrade(m) {
		return nil
	}
	path, query, _ := strings.Cut(m.Value(header.Path), "?")
	var verb string
	f.parts, verb = f.config.methods.split(f.parts[:0], path)
	t, _ := f.config.methods.root.find(f.parts, httpMethod{m.Value(header.Method), verb})
	if t == nil {
		if f.config.RejectMethod {
			return &filter.Reply{Code: 404, Body: "Could not resolve " + path + " to a method.", Details: early + "{NOT_FOUND}"}
		}
		return nil
	}
	if err := f.bind(t, query); err != nil {
		f.request = request{}
		if f.config.RejectQuery {
			return &filter.Reply{Code: 400, Body: err.Error(), Details: early + "{INVALID_ARGUMENT}"}
		}
		s.Decide("does not transcode: a parameter is no field of", t.path)
		return nil
	}
	s.Decide("transcodes to", t.path)
	f.method = t.method
	return f.begin(s, end)
}

// bind collects what path and query say.
func (f *Filter) bind(t *target, query string) error {
	c := f.config
	add := func(path []string, value string) error {
		p, err := t.input.Type.Resolve(path)
		switch {
		case err == nil:
			if !t.httpBodyIn || !t.input.Body.Begins(p) { // a body that is passed on has no fields
				f.bindings = append(f.bindings, jsonpb.Binding{Path: p, Value: value})
			}
		case c.Capture:
			f.capture(strings.Join(path, "."), value)
		case !c.IgnoreUnknown:
			return err
		}
		return nil
	}
	if err := t.template.values(f.parts, c.Unescape, add); err != nil {
		return err
	}
	for param := range strings.SplitSeq(query, "&") {
		name, value, ok := strings.Cut(param, "=")
		if !ok || name == "" {
			continue
		}
		if _, ignored := c.Ignored[name]; ignored {
			continue
		}
		if err := add(strings.Split(name, "."), unescape(value, everything, c.PlusIsSpace)); err != nil {
			return err
		}
	}
	slices.SortStableFunc(f.unknown, func(a, b jsonpb.Unknown) int { return strings.Compare(a.Key, b.Key) })
	f.unknown = joined(f.unknown)
	return nil
}

func (f *Filter) capture(key, value string) {
	f.unknown = append(f.unknown, jsonpb.Unknown{Key: key, Values: []string{value}})
}

// joined makes those with the same key, which follow each other, one.
func joined(list []jsonpb.Unknown) []jsonpb.Unknown {
	out := list[:0]
	for _, u := range list {
		if n := len(out); n > 0 && out[n-1].Key == u.Key {
			out[n-1].Values = append(out[n-1].Values, u.Values...)
		} else {
			out = append(out, u)
		}
	}
	return out
}

// begin makes the request gRPC. One with one message goes on when that is complete.
func (f *Filter) begin(s *filter.Stream, end bool) error {
	m := &s.Request
	if f.method.httpBodyIn {
		f.contentType = m.Value(header.ContentType)
		var err error
		if f.bound, err = f.method.input.Append(nil, []byte("{}"), f.bindings); err != nil {
			return f.refuse(err, late)
		}
	}
	m.DelID(header.ContentLength)
	m.SetID(header.ContentType, "application/grpc")
	m.SetID(header.XEnvoyOriginalPath, m.Value(header.Path))
	m.Add("x-envoy-original-method", m.Value(header.Method))
	m.SetID(header.Path, f.method.path)
	m.SetID(header.Method, "POST")
	m.SetID(header.Te, "trailers")
	if !f.config.KeepRoute {
		s.Engine.RefreshRoute()
	}
	if !end && f.method.clientStreams {
		return nil
	}
	b, err := s.Engine.BufferRequest(math.MaxInt) // this filter counts what comes
	if err == nil && end {
		err = f.last(b, early)
	}
	return err
}

// refuse is the answer to a request that is no message.
func (f *Filter) refuse(err error, details string) error {
	f.method = nil
	var bad *jsonpb.Error
	if !errors.As(err, &bad) {
		return err
	}
	return &filter.Reply{Code: 400, Body: bad.Text, Details: details + "{INVALID_ARGUMENT}"}
}

// requestLimit is how many bytes of a request may be kept.
func (f *Filter) requestLimit() int {
	if f.config.MaxRequest > 0 {
		return f.config.MaxRequest
	}
	return f.limit
}

var replyTooLarge = filter.Reply{
	Code: 413, Body: "Request rejected because the transcoder's internal buffer size exceeds the configured limit.",
	Details: late + "{request_buffer_size_limit_reached}",
}

// OnRequestData implements filter.RequestData.
func (f *Filter) OnRequestData(_ *filter.Stream, b *buffer.Buf, end bool) error {
	if f.method == nil {
		return nil
	}
	var err error
	switch {
	case f.method.clientStreams && f.method.httpBodyIn:
		f.kept.MoveAll(b)
		f.pieces(b)
	case f.method.clientStreams:
		err = f.elements(b)
	default:
		f.kept.MoveAll(b)
	}
	n := f.kept.Len() + f.array.Held()
	if n > f.requestLimit() {
		f.method = nil
		return &replyTooLarge
	}
	f.requestGauge.set(&f.counters.Request, n)
	if err != nil {
		return f.refuse(err, late)
	}
	if end {
		return f.last(b, late)
	}
	return nil
}

// OnRequestTrailers implements filter.RequestTrailers.
func (f *Filter) OnRequestTrailers(s *filter.Stream) error {
	if f.method == nil {
		return nil
	}
	return f.last(s.Engine.BeforeTrailers(), late)
}

// last appends what is to be said when the body is complete.
func (f *Filter) last(b *buffer.Buf, details string) error {
	m := f.method
	f.requestGauge.set(&f.counters.Request, 0)
	switch {
	case m.httpBodyIn && m.clientStreams:
		f.pieces(b)
	case m.httpBodyIn:
		f.piece(b, f.kept.Len())
	case m.clientStreams:
		if err := f.array.End(); err != nil {
			return f.refuse(err, details)
		}
	default:
		text := whole(&f.kept)
		if len(text) == 0 {
			text = []byte("{}")
		}
		err := f.message(b, text)
		f.kept.Release()
		if err != nil {
			return f.refuse(err, details)
		}
	}
	return nil
}

// elements replaces a piece of an array by the messages that it completes.
func (f *Filter) elements(b *buffer.Buf) error {
	var out buffer.Buf
	for v := range b.Views() {
		if err := f.array.Feed(v, func(text []byte) error { return f.message(&out, text) }); err != nil {
			out.Release()
			return err
		}
	}
	b.Release()
	b.MoveAll(&out)
	return nil
}

// message appends the message that JSON makes.
func (f *Filter) message(b *buffer.Buf, text []byte) error {
	wire := make([]byte, filter.GRPCPrefix, filter.GRPCPrefix+len(text))
	wire, err := f.method.input.Append(wire, text, f.bindings)
	if err != nil {
		return err
	}
	f.bindings = nil
	binary.BigEndian.PutUint32(wire[1:], uint32(len(wire)-filter.GRPCPrefix))
	b.Append(wire)
	return nil
}

// maxPiece is how much of a stream of bytes goes into one message: gRPC servers refuse those
// of more than 4 MB.
const maxPiece = 1 << 20

// pieces appends what has come of a stream of bytes, as messages. There is at least one.
func (f *Filter) pieces(b *buffer.Buf) {
	for !f.begun || f.kept.Len() > 0 {
		f.piece(b, min(f.kept.Len(), maxPiece))
	}
}

// piece appends a message with n bytes of the body as they are.
func (f *Filter) piece(b *buffer.Buf, n int) {
	wire := append(make([]byte, filter.GRPCPrefix), f.bound...)
	wire = jsonpb.AppendHTTPBody(wire, f.method.input.Body, f.contentType, f.unknown, n)
	binary.BigEndian.PutUint32(wire[1:], uint32(len(wire)-filter.GRPCPrefix+n))
	b.Append(wire)
	b.Move(&f.kept, n)
	f.bound, f.contentType, f.begun = nil, "", true
}
