package grpcjsontranscoder

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/filters/grpcjsontranscoder/jsonpb"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// response is the response of a stream that is transcoded.
type response struct {
	in            buffer.Buf // bytes of messages that are not complete
	out           buffer.Buf // what goes to the client when the response is complete
	transcoding   bool       // it is gRPC
	held          bool       // its head was not sent
	hasBody       bool       // something has come after the head
	messages      int        // that were read
	typed         bool       // the content type is that of the first message
	responseGauge share
}

const (
	typeJSON = "application/json"
	typeSSE  = "text/event-stream"
)

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, end bool) error {
	if f.method == nil {
		return nil
	}
	m := &s.Response
	if !filter.IsGRPCResponse(m, end) {
		return nil // the server's or the proxy's own words
	}
	f.transcoding = true
	streams := f.method.serverStreams
	switch {
	case end && !streams: // keeps its type unless it gets a body
	case streams && f.config.SSE:
		m.SetID(header.ContentType, typeSSE)
	default:
		m.SetID(header.ContentType, typeJSON)
	}
	m.DelID(header.ContentLength)
	if end {
		out := s.Engine.HoldResponse()
		err := f.finish(s, m, out)
		f.transcoding = false
		return err
	}
	if !streams || f.method.httpBodyOut {
		f.held = true
		s.Engine.HoldResponse()
		if f.config.MaxResponse > 0 {
			s.Engine.HoldUpTo(f.config.MaxResponse)
		}
	}
	return nil
}

// WantsResponseData implements filter.Choosy.
func (f *Filter) WantsResponseData() bool { return f.transcoding }

// OnResponseData implements filter.ResponseData.
func (f *Filter) OnResponseData(s *filter.Stream, b *buffer.Buf, end bool) error {
	if !f.transcoding {
		return nil
	}
	f.hasBody = f.hasBody || b.Len() > 0
	f.response.in.MoveAll(b)
	if f.response.in.Len()+f.out.Len() > f.responseLimit() {
		f.transcoding = false
		return &replyResponseTooLarge
	}
	if err := f.read(s, end); err != nil {
		return f.bad(err)
	}
	f.responseGauge.set(&f.counters.Response, f.response.in.Len()+f.out.Len())
	if !f.method.serverStreams && !end {
		return nil
	}
	b.MoveAll(&f.out)
	return nil
}

// responseLimit is how many bytes of a response may be kept.
func (f *Filter) responseLimit() int {
	if f.config.MaxResponse > 0 {
		return f.config.MaxResponse
	}
	return f.limit
}

var replyResponseTooLarge = filter.Reply{
	Code: 500, Body: "Response not transcoded because the transcoder's internal buffer size exceeds the configured limit.",
	Details: late + "{response_buffer_size_limit_reached}",
}

// frameError is what is wrong with how messages are framed.
type frameError string

func (e frameError) Error() string { return string(e) }

// bad is the answer in place of a response that cannot be read.
func (f *Filter) bad(err error) error {
	f.transcoding = false
	status := "INTERNAL"
	var content *jsonpb.Error
	if errors.As(err, &content) {
		status = "INVALID_ARGUMENT"
	}
	return &filter.Reply{Code: 502, Body: err.Error(), Details: late + "{" + status + "}"}
}

// read turns the messages that are complete into what the client gets.
func (f *Filter) read(s *filter.Stream, end bool) error {
	in := &f.response.in
	for f.method.serverStreams || f.messages == 0 {
		head, ok := in.Peek(filter.GRPCPrefix)
		if !ok {
			if end && in.Len() > 0 {
				return frameError("Incomplete gRPC frame header received")
			}
			break
		}
		if head[0] != 0 {
			return frameError("Unsupported gRPC frame flag: " + strconv.Itoa(int(head[0])))
		}
		size := int(binary.BigEndian.Uint32(head[1:]))
		all, ok := in.Peek(filter.GRPCPrefix + size)
		if !ok {
			if end {
				return frameError("Incomplete gRPC frame expected size: " + strconv.Itoa(size) + " actual size: " + strconv.Itoa(in.Len()-filter.GRPCPrefix))
			}
			break
		}
		if err := f.write(s, all[filter.GRPCPrefix:]); err != nil {
			return err
		}
		in.Discard(filter.GRPCPrefix + size)
	}
	if f.messages > 0 && !f.method.serverStreams {
		in.Release() // nothing of what follows is for the client
	}
	if end && f.method.serverStreams && !f.method.httpBodyOut && !f.config.SSE && !f.config.NewlineDelimited {
		if f.messages == 0 {
			f.out.AppendString("[")
		}
		f.out.AppendString("]")
	}
	return nil
}

// write appends what a message, which is lent, says to the client.
func (f *Filter) write(s *filter.Stream, wire []byte) error {
	m := f.method
	if m.httpBodyOut {
		return f.writeBody(s, wire)
	}
	var text []byte
	var err error
	switch array := !f.config.SSE && !f.config.NewlineDelimited; {
	case !m.serverStreams:
	case f.config.SSE:
		text = append(text, "data: "...)
	case array && f.messages == 0:
		text = append(text, '[')
	case array:
		text = append(text, ',')
	}
	if text, err = f.config.printer.Append(text, m.output, m.outputPath, wire); err != nil {
		return err
	}
	switch {
	case !m.serverStreams:
	case f.config.SSE:
		text = append(text, "\n\n"...)
	case f.config.NewlineDelimited:
		text = append(text, '\n')
	}
	f.messages++
	f.out.Append(text)
	return nil
}

// writeBody appends the data of a google.api.HttpBody. The first one says what it is.
func (f *Filter) writeBody(s *filter.Stream, wire []byte) error {
	if len(wire) == 0 {
		return nil
	}
	contentType, data, err := jsonpb.ParseHTTPBody(wire, f.method.outputPath)
	if err != nil {
		return err
	}
	f.messages++
	f.out.Append(data)
	if f.typed {
		return nil
	}
	f.typed = true
	s.Response.SetID(header.ContentType, contentType)
	if f.method.serverStreams {
		f.held = false
		s.Engine.ReleaseResponse()
	}
	return nil
}

// OnResponseTrailers implements filter.ResponseTrailers.
func (f *Filter) OnResponseTrailers(s *filter.Stream) error {
	if !f.transcoding {
		return nil
	}
	return f.finish(s, &s.ResponseTrailers, s.Engine.BeforeTrailers())
}

// finish ends a response whose status is in t, its trailers or its head. What the client still
// has to be told goes to out.
func (f *Filter) finish(s *filter.Stream, t *header.Map, out *buffer.Buf) error {
	m := &s.Response
	status, known := statusOf(t)
	converted := false
	if known && status != 0 && f.config.ConvertStatus && !f.hasBody {
		converted = f.convert(s, t, status)
	}
	if !converted && t != m {
		if err := f.read(s, true); err != nil {
			return f.bad(err)
		}
	}
	size := f.out.Len()
	out.MoveAll(&f.out)
	f.responseGauge.set(&f.counters.Response, 0)
	if t != m && (!f.held || f.method.serverStreams && !converted) {
		return nil // the head was sent, or says nothing of the status
	}
	m.SetInt(header.Status, 503)
	if known {
		m.SetInt(header.Status, int64(filter.GRPCCode(status)))
	}
	if t != m && !converted {
		if known {
			m.SetID(header.GrpcStatus, strconv.FormatUint(status, 10))
		}
		if t.Has(header.GrpcMessage) {
			m.SetID(header.GrpcMessage, t.Value(header.GrpcMessage))
		}
	}
	if s.Meta.Protocol <= meta.HTTP11 {
		m.DelID(header.Trailer)
	}
	if !f.method.serverStreams || converted {
		m.SetInt(header.ContentLength, int64(size))
	}
	return nil
}

// statusOf reads grpc-status; known is false if there is none that can be read.
func statusOf(t *header.Map) (status uint64, known bool) {
	status, err := strconv.ParseUint(t.Value(header.GrpcStatus), 10, 32)
	return status, err == nil
}

const detailsHeader = "grpc-status-details-bin"

// convert makes the status of a call that has failed the body of the response
// (convert_grpc_status), and reports whether it could.
func (f *Filter) convert(s *filter.Stream, t *header.Map, status uint64) bool {
	message := unescape(t.Value(header.GrpcMessage), everything, false)
	var details []byte
	if text, ok := t.Find(detailsHeader); ok {
		if b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "=")); err == nil {
			details = b
		}
	}
	text, err := f.config.printer.Status(nil, int(status), message, details)
	if err != nil {
		return false
	}
	f.out.Append(text)
	m := &s.Response
	if t == m {
		m.DelID(header.GrpcStatus)
		m.DelID(header.GrpcMessage)
		m.Del(detailsHeader)
	}
	if t == m || f.held {
		m.SetID(header.ContentType, typeJSON)
	}
	s.Decide("makes the status of the call the response", t.Value(header.GrpcMessage))
	return true
}
