package extproc

import (
	"errors"
	"io"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/mutate"
)

// FuzzDecode: no answer of a service makes the filter panic, or puts a line end into a
// message.
func FuzzDecode(f *testing.F) {
	m := &procv3.HeaderMutation{
		SetHeaders:    []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-a", Value: "b\r\nc"}}, {Header: &corev3.HeaderValue{Key: ":path", Value: "/x"}}, {}},
		RemoveHeaders: []string{"x-b", ":path", ""},
	}
	for _, r := range []*procv3.ProcessingResponse{
		{},
		{Response: &procv3.ProcessingResponse_RequestHeaders{RequestHeaders: &procv3.HeadersResponse{Response: &procv3.CommonResponse{HeaderMutation: m}}}},
		{Response: &procv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &procv3.ImmediateResponse{Headers: m, Details: "a\nb"}}},
	} {
		raw, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a := &answer{}
		if a.decode(raw) != nil {
			return
		}
		s := &filter.Stream{}
		s.Request.AddID(header.Path, "/")
		s.Request.Add("x-b", "1")
		fl := &Filter{chain: &chain{Config: &Config{Rules: &mutate.Rules{AllowEnvoy: true, AllowRouting: true}}, counters: &counters{}}}
		_ = fl.change(&s.Request, a) // obeyed or not
		if a.part == immediate {
			var r *filter.Reply
			if !errors.As(fl.immediately(s, a), &r) || r.Code < 200 || r.Code > 599 || strings.ContainsAny(r.Details, " \r\n") {
				t.Fatalf("%+v", r)
			}
			r.Modify(s)
		}
		for _, m := range []*header.Map{&s.Request, &s.Response} {
			for k, v := range m.All() {
				if strings.ContainsAny(k+v, "\r\n\x00") {
					t.Errorf("%q: %q", k, v)
				}
			}
		}
	})
}

// TestFailures: what becomes of a stream when the service fails.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name            string
		err             error
		allow, consumed bool
		code            int // 0: it goes on
	}{
		{"late", call.ErrTimeout, false, false, 504},
		{"late, allowed", call.ErrTimeout, true, false, 0},
		{"late, and it has the body", call.ErrTimeout, true, true, 504},
		{"broken", &call.Status{Code: 14, Message: "no"}, false, false, 500},
		{"it has seen enough", io.EOF, false, false, 0},
		{"it has gone with the body", io.EOF, true, true, 500},
		{"spurious", errSpurious, false, false, 500},
	} {
		f := &Filter{chain: &chain{Config: &Config{StatusOnError: 500}, counters: &counters{}}, failureAllow: c.allow, consumed: c.consumed, deciding: true, service: &call.GRPC{Cluster: "processor"}}
		s := &filter.Stream{}
		err := f.failed(s, c.err)
		code := 0
		var r *filter.Reply
		if errors.As(err, &r) {
			code = r.Code
		}
		if code != c.code || !f.off {
			t.Errorf("%s: %v", c.name, err)
		}
		if said := s.Why.Decisions(); (c.code == 0) != (len(said) == 1 && strings.HasPrefix(said[0].What, "goes on without the service")) {
			t.Errorf("%s: %+v", c.name, said)
		}
	}
}
