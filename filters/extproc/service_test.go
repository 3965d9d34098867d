package extproc_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// service is an external processor. What it does depends on x-case in initial_metadata: the
// name of the case. What it was told it says in fields x-told.
type service struct {
	procv3.UnimplementedExternalProcessorServer
	done chan struct{}
}

// startService runs a service until the test ends, and returns its address.
func startService(t testing.TB) string {
	t.Helper()
	s := &service{done: make(chan struct{})}
	at := dialogue.ServeGRPC(t, func(to *grpc.Server) { procv3.RegisterExternalProcessorServer(to, s) })
	t.Cleanup(func() { close(s.done) })
	return at.String()
}

// Process implements the service.
func (s *service) Process(st procv3.ExternalProcessor_ProcessServer) error {
	md, _ := metadata.FromIncomingContext(st.Context())
	name := strings.Join(md.Get("x-case"), "")
	told := ""
	for {
		q, err := st.Recv()
		if err != nil {
			return nil //nolint:nilerr // the proxy has had enough
		}
		if q.GetRequestBody() == nil && q.GetResponseBody() == nil || !strings.HasPrefix(name, "duplex") { // how it is cut is by chance
			told += " " + describe(q)
		}
		switch a, err := s.answer(name, told, q); {
		case err != nil:
			return err
		case name == "late" && q.GetRequestHeaders() != nil:
			<-s.done
		case name == "ends" && q.GetRequestHeaders() != nil:
			if err := st.Send(a); err != nil {
				return err
			}
			return nil
		case name == "observe":
		default:
			if name == "more-time" && q.GetRequestHeaders() != nil {
				if err := st.Send(&procv3.ProcessingResponse{OverrideMessageTimeout: durationpb.New(20 * time.Second)}); err != nil {
					return err
				}
			}
			if a == nil {
				continue
			}
			if err := st.Send(a); err != nil {
				return err
			}
		}
	}
}

func set(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, RawValue: []byte(value)}}
}

func with(action corev3.HeaderValueOption_HeaderAppendAction, name, value string) *corev3.HeaderValueOption {
	o := set(name, value)
	o.AppendAction = action
	return o
}

func body(b string) *procv3.BodyMutation {
	return &procv3.BodyMutation{Mutation: &procv3.BodyMutation_Body{Body: []byte(b)}}
}

func (s *service) answer(name, told string, q *procv3.ProcessingRequest) (*procv3.ProcessingResponse, error) {
	c := &procv3.CommonResponse{HeaderMutation: &procv3.HeaderMutation{}}
	a := &procv3.ProcessingResponse{}
	m := c.HeaderMutation
	switch r := q.Request.(type) {
	case *procv3.ProcessingRequest_RequestHeaders:
		a.Response = &procv3.ProcessingResponse_RequestHeaders{RequestHeaders: &procv3.HeadersResponse{Response: c}}
		m.SetHeaders = append(m.SetHeaders, set("x-told", told))
		return s.requestHead(name, a, c)
	case *procv3.ProcessingRequest_ResponseHeaders:
		a.Response = &procv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &procv3.HeadersResponse{Response: c}}
		m.SetHeaders = append(m.SetHeaders, set("x-told", told))
		if name == "replace" {
			c.Status, c.BodyMutation = procv3.CommonResponse_CONTINUE_AND_REPLACE, body("replaced response")
		}
		if name == "immediate-late" {
			return immediate(&procv3.ImmediateResponse{Status: &typev3.HttpStatus{Code: 418}, Body: []byte("late")}), nil
		}
	case *procv3.ProcessingRequest_RequestBody:
		if !strings.Contains(name, "streamed") { // a head may have gone on, or not
			m.SetHeaders = append(m.SetHeaders, set("x-told-body", told))
		}
		a.Response = &procv3.ProcessingResponse_RequestBody{RequestBody: &procv3.BodyResponse{Response: c}}
		c.BodyMutation = changed(name, r.RequestBody)
	case *procv3.ProcessingRequest_ResponseBody:
		if !strings.Contains(name, "streamed") { // a head may have gone on, or not
			m.SetHeaders = append(m.SetHeaders, set("x-told-body", told))
		}
		a.Response = &procv3.ProcessingResponse_ResponseBody{ResponseBody: &procv3.BodyResponse{Response: c}}
		c.BodyMutation = changed(name, r.ResponseBody)
	case *procv3.ProcessingRequest_RequestTrailers:
		a.Response = &procv3.ProcessingResponse_RequestTrailers{RequestTrailers: &procv3.TrailersResponse{HeaderMutation: m}}
		m.SetHeaders = append(m.SetHeaders, set("x-told", told))
	case *procv3.ProcessingRequest_ResponseTrailers:
		a.Response = &procv3.ProcessingResponse_ResponseTrailers{ResponseTrailers: &procv3.TrailersResponse{HeaderMutation: m}}
		m.SetHeaders = append(m.SetHeaders, set("x-told", told))
	}
	return a, nil
}

// changed is what becomes of a piece of a body.
func changed(name string, b *procv3.HttpBody) *procv3.BodyMutation {
	switch {
	case strings.HasPrefix(name, "duplex"):
		return &procv3.BodyMutation{Mutation: &procv3.BodyMutation_StreamedResponse{StreamedResponse: &procv3.StreamedBodyResponse{
			Body: []byte(strings.ToUpper(string(b.Body))), EndOfStream: b.EndOfStream,
		}}}
	case strings.HasSuffix(name, "-clear"):
		return &procv3.BodyMutation{Mutation: &procv3.BodyMutation_ClearBody{ClearBody: true}}
	case strings.HasSuffix(name, "-changed"):
		return body("<" + string(b.Body) + ">")
	}
	return nil
}

func immediate(r *procv3.ImmediateResponse) *procv3.ProcessingResponse {
	return &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: r}}
}

// requestHead is the answer to the head of a request.
func (s *service) requestHead(name string, a *procv3.ProcessingResponse, c *procv3.CommonResponse) (*procv3.ProcessingResponse, error) {
	m := c.HeaderMutation
	switch name {
	case "fields":
		m.SetHeaders = append(m.SetHeaders, set("X-One", "set"), with(corev3.HeaderValueOption_ADD_IF_ABSENT, "x-two", "absent"),
			with(corev3.HeaderValueOption_ADD_IF_ABSENT, "x-new", "absent"), with(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS, "x-none", "overwrite"),
			with(corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, "x-three", "overwrite"), set("x-same", "1"), set("x-same", "2"), set(":path", "/changed"))
		m.RemoveHeaders = []string{"X-Gone"}
	case "rules", "rules-error", "rules-allowed":
		m.SetHeaders = append(m.SetHeaders, set(":method", "PUT"), set(":authority", "b"), set("x-envoy-max-retries", "1"), set("x-fine", "1"), set("x-secret", "1"))
		m.RemoveHeaders = []string{":path", "host", "x-gone"}
	case "invalid":
		m.SetHeaders = append(m.SetHeaders, set("x-a", "b\r\nc: d"))
	case "broken", "broken-allowed":
		return nil, status.Error(codes.Internal, "broken")
	case "spurious", "spurious-allowed":
		return &procv3.ProcessingResponse{Response: &procv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &procv3.HeadersResponse{}}}, nil
	case "replace":
		c.Status, c.BodyMutation = procv3.CommonResponse_CONTINUE_AND_REPLACE, body("replaced request")
	case "immediate", "immediate-disabled":
		return immediate(&procv3.ImmediateResponse{
			Status: &typev3.HttpStatus{Code: 403}, Body: []byte("no"), Details: "because of me",
			Headers: &procv3.HeaderMutation{SetHeaders: []*corev3.HeaderValueOption{set("x-why", "1"), set("content-type", "text/html")}},
		}), nil
	case "immediate-bare":
		return immediate(&procv3.ImmediateResponse{}), nil
	case "immediate-grpc":
		return immediate(&procv3.ImmediateResponse{Status: &typev3.HttpStatus{Code: 200}, GrpcStatus: &procv3.GrpcStatus{Status: 7}, Body: []byte("no")}), nil
	case "metadata":
		a.DynamicMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{
			"ns":    structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"user": structpb.NewStringValue("me")}}),
			"other": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"user": structpb.NewStringValue("you")}}),
		}}
	case "override", "override-not-listed", "override-forbidden":
		a.ModeOverride = &modev3.ProcessingMode{ResponseHeaderMode: modev3.ProcessingMode_SKIP, RequestBodyMode: modev3.ProcessingMode_BUFFERED}
	case "route", "route-forbidden", "route-unchanged":
		c.ClearRouteCache = true
		m.SetHeaders = append(m.SetHeaders, set("x-route", "other"))
		if name == "route-unchanged" {
			m.SetHeaders = nil
		}
	}
	return a, nil
}

// describe is a message as text.
func describe(q *procv3.ProcessingRequest) string {
	var sb strings.Builder
	heads := func(name string, h *corev3.HeaderMap, end bool) {
		var all []string
		for _, f := range h.GetHeaders() {
			switch f.Key {
			case "x-request-id", "x-told", "x-envoy-upstream-service-time", "date", "transfer-encoding":
				continue
			}
			all = append(all, f.Key+"="+f.Value+string(f.RawValue))
		}
		slices.Sort(all)
		fmt.Fprintf(&sb, "%s(%s)", name, strings.Join(all, ","))
		if end {
			sb.WriteString("end")
		}
	}
	switch r := q.Request.(type) {
	case *procv3.ProcessingRequest_RequestHeaders:
		heads("head", r.RequestHeaders.Headers, r.RequestHeaders.EndOfStream)
	case *procv3.ProcessingRequest_ResponseHeaders:
		heads("answer", r.ResponseHeaders.Headers, r.ResponseHeaders.EndOfStream)
	case *procv3.ProcessingRequest_RequestBody:
		fmt.Fprintf(&sb, "body(%s)%v", r.RequestBody.Body, r.RequestBody.EndOfStream)
	case *procv3.ProcessingRequest_ResponseBody:
		fmt.Fprintf(&sb, "body(%s)%v", r.ResponseBody.Body, r.ResponseBody.EndOfStream)
	case *procv3.ProcessingRequest_RequestTrailers:
		heads("trailers", r.RequestTrailers.Trailers, false)
	case *procv3.ProcessingRequest_ResponseTrailers:
		heads("trailers", r.ResponseTrailers.Trailers, false)
	}
	for namespace, st := range q.Attributes {
		fmt.Fprintf(&sb, "@%s%s", namespace, text(st))
	}
	for namespace, st := range q.MetadataContext.GetFilterMetadata() {
		fmt.Fprintf(&sb, "#%s%s", namespace, text(st))
	}
	if c := q.ProtocolConfig; c != nil && (c.RequestBodyMode != 0 || c.ResponseBodyMode != 0) {
		fmt.Fprintf(&sb, "!%v/%v", c.RequestBodyMode, c.ResponseBodyMode)
	}
	if q.ObservabilityMode {
		sb.WriteString("~")
	}
	return sb.String()
}

func text(st *structpb.Struct) string {
	var all []string
	for k, v := range st.AsMap() {
		all = append(all, fmt.Sprintf("%s=%v(%T)", k, v, v))
	}
	slices.Sort(all)
	return "{" + strings.Join(all, ",") + "}"
}
