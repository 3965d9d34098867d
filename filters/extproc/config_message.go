package extproc

import (
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// encode makes envoy.service.ext_proc.v3.ProcessingRequest.
func (m *message) encode() ([]byte, error) {
	pb := &procv3.ProcessingRequest{ObservabilityMode: m.observe}
	switch m.part {
	case requestHead:
		pb.Request = &procv3.ProcessingRequest_RequestHeaders{RequestHeaders: &procv3.HttpHeaders{Headers: fieldsOf(m.fields), EndOfStream: m.end}}
	case responseHead:
		pb.Request = &procv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &procv3.HttpHeaders{Headers: fieldsOf(m.fields), EndOfStream: m.end}}
	case requestBody:
		pb.Request = &procv3.ProcessingRequest_RequestBody{RequestBody: &procv3.HttpBody{Body: m.body, EndOfStream: m.end}}
	case responseBody:
		pb.Request = &procv3.ProcessingRequest_ResponseBody{ResponseBody: &procv3.HttpBody{Body: m.body, EndOfStream: m.end}}
	case requestTrailers:
		pb.Request = &procv3.ProcessingRequest_RequestTrailers{RequestTrailers: &procv3.HttpTrailers{Trailers: fieldsOf(m.fields)}}
	case responseTrailers:
		pb.Request = &procv3.ProcessingRequest_ResponseTrailers{ResponseTrailers: &procv3.HttpTrailers{Trailers: fieldsOf(m.fields)}}
	}
	if m.mode != nil {
		pb.ProtocolConfig = &procv3.ProtocolConfiguration{
			RequestBodyMode: modev3.ProcessingMode_BodySendMode(m.mode.Request.Body), ResponseBodyMode: modev3.ProcessingMode_BodySendMode(m.mode.Response.Body),
		}
	}
	for name, fields := range m.metadata {
		if st, err := structpb.NewStruct(fields); err == nil {
			if pb.MetadataContext == nil {
				pb.MetadataContext = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{}}
			}
			pb.MetadataContext.FilterMetadata[name] = st
		}
	}
	if m.attributes != nil {
		st := &structpb.Struct{Fields: map[string]*structpb.Value{}}
		for name, v := range m.attributes {
			st.Fields[name] = attribute(v)
		}
		pb.Attributes = map[string]*structpb.Struct{"envoy.filters.http.ext_proc": st}
	}
	return proto.Marshal(pb)
}

// attribute is a value as the service sees it: what is neither a bool nor a number is a text.
func attribute(v any) *structpb.Value {
	switch v := v.(type) {
	case bool:
		return structpb.NewBoolValue(v)
	case float64:
		return structpb.NewNumberValue(v)
	case int64:
		return structpb.NewNumberValue(float64(v))
	case uint64:
		return structpb.NewNumberValue(float64(v))
	case string:
		return structpb.NewStringValue(fromproto.Text(v))
	case time.Time:
		return structpb.NewStringValue(v.UTC().Format("2006-01-02T15:04:05.999999999-07:00"))
	}
	return structpb.NewStringValue(fromproto.Text(fmt.Sprint(v)))
}

func fieldsOf(m *header.Map) *corev3.HeaderMap {
	out := &corev3.HeaderMap{}
	for fd := range m.Fields() {
		out.Headers = append(out.Headers, &corev3.HeaderValue{Key: fromproto.Text(fd.Name), RawValue: []byte(fd.Value)})
	}
	return out
}

// decode reads envoy.service.ext_proc.v3.ProcessingResponse.
func (a *answer) decode(raw []byte) error {
	var pb procv3.ProcessingResponse
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	a.part = nothing
	switch r := pb.Response.(type) {
	case *procv3.ProcessingResponse_RequestHeaders:
		a.part = requestHead
		a.common(r.RequestHeaders.GetResponse())
	case *procv3.ProcessingResponse_ResponseHeaders:
		a.part = responseHead
		a.common(r.ResponseHeaders.GetResponse())
	case *procv3.ProcessingResponse_RequestBody:
		a.part = requestBody
		a.common(r.RequestBody.GetResponse())
	case *procv3.ProcessingResponse_ResponseBody:
		a.part = responseBody
		a.common(r.ResponseBody.GetResponse())
	case *procv3.ProcessingResponse_RequestTrailers:
		a.part = requestTrailers
		a.mutations(r.RequestTrailers.GetHeaderMutation())
	case *procv3.ProcessingResponse_ResponseTrailers:
		a.part = responseTrailers
		a.mutations(r.ResponseTrailers.GetHeaderMutation())
	case *procv3.ProcessingResponse_ImmediateResponse:
		a.immediately(r.ImmediateResponse)
	}
	if pb.ModeOverride != nil {
		m := modeOf(pb.ModeOverride)
		a.mode = &m
	}
	if d := pb.OverrideMessageTimeout; d != nil {
		a.more = max(d.AsDuration(), 1)
	}
	for namespace, v := range pb.GetDynamicMetadata().GetFields() {
		if st := v.GetStructValue(); st != nil {
			if a.metadata == nil {
				a.metadata = map[string]map[string]any{}
			}
			a.metadata[namespace] = st.AsMap()
		}
	}
	return nil
}

func (a *answer) common(pb *procv3.CommonResponse) {
	a.mutations(pb.GetHeaderMutation())
	a.replace = pb.GetStatus() == procv3.CommonResponse_CONTINUE_AND_REPLACE
	a.clearRoute = pb.GetClearRouteCache()
	switch m := pb.GetBodyMutation().GetMutation().(type) {
	case *procv3.BodyMutation_Body:
		a.hasBody, a.body = true, m.Body
	case *procv3.BodyMutation_ClearBody:
		a.hasBody = m.ClearBody
	case *procv3.BodyMutation_StreamedResponse:
		a.hasBody, a.body, a.end = true, m.StreamedResponse.GetBody(), m.StreamedResponse.GetEndOfStream()
	}
}

func (a *answer) mutations(pb *procv3.HeaderMutation) {
	a.changes = pb != nil
	for _, name := range pb.GetRemoveHeaders() {
		a.remove = append(a.remove, match.HeaderName(name))
	}
	for _, o := range pb.GetSetHeaders() {
		m := mutation{name: match.HeaderName(o.GetHeader().GetKey()), value: o.GetHeader().GetValue()}
		if raw := o.GetHeader().GetRawValue(); len(raw) > 0 {
			m.value = string(raw)
		}
		m.append = o.GetAppend().GetValue() //nolint:staticcheck // deprecated; append_action does not count, as in Envoy
		a.set = append(a.set, m)
	}
}

func (a *answer) immediately(pb *procv3.ImmediateResponse) {
	a.part = immediate
	a.mutations(pb.GetHeaders())
	a.body, a.hasBody = pb.GetBody(), true
	a.details = pb.GetDetails()
	a.grpc = int(pb.GetGrpcStatus().GetStatus())
	a.code = int(pb.GetStatus().GetCode())
	if a.code < 200 || a.code > 599 {
		a.code = 200
	}
}
