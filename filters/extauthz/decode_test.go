package extauthz

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// FuzzDecode: no answer of a service makes the filter panic, or puts a line end into a
// message.
func FuzzDecode(f *testing.F) {
	h := []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-a", Value: "b\r\nc"}}, {Header: &corev3.HeaderValue{Key: ":path", Value: "/x"}}}
	raw, err := proto.Marshal(&authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
		Headers: h, ResponseHeadersToAdd: h, HeadersToRemove: []string{"x"},
		QueryParametersToSet: []*corev3.QueryParameter{{Key: "a", Value: "b"}}, QueryParametersToRemove: []string{"c"},
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := &decision{}
		d.decode(raw)
		if d.invalid || d.verdict == failed && d.reply == nil {
			return
		}
		s := &filter.Stream{}
		s.Request.AddID(header.Path, "/p?a=1&c=2")
		s.Request.Add("x-a", "1")
		fl := &Filter{shared: &shared{Config: &Config{}, counters: &counters{}}}
		fl.note(s, d)
		if d.verdict == allowed {
			fl.change(s, d)
			if err := fl.OnResponseHeaders(s, true); err != nil {
				t.Fatal(err)
			}
		} else if r := fl.deny(d); r.Code < 200 || r.Code > 599 {
			t.Errorf("code %d", r.Code)
		} else {
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
