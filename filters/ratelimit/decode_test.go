package ratelimit

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// FuzzDecode: no answer of a service makes the filter panic, or puts a line end into a
// message.
func FuzzDecode(f *testing.F) {
	h := []*corev3.HeaderValue{{Key: "x-a", Value: "b\r\nc"}, {Key: "a b", Value: "c"}, {Key: "content-type", RawValue: []byte("x")}, nil}
	raw, err := proto.Marshal(&rlsv3.RateLimitResponse{
		OverallCode: rlsv3.RateLimitResponse_OVER_LIMIT, ResponseHeadersToAdd: h, RequestHeadersToAdd: h, RawBody: []byte("no"),
		Statuses: []*rlsv3.RateLimitResponse_DescriptorStatus{{
			Code: rlsv3.RateLimitResponse_OVER_LIMIT, LimitRemaining: 1, DurationUntilReset: &durationpb.Duration{Seconds: -5},
			CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{RequestsPerUnit: 1, Unit: 99, Name: "a\r\nb: c"},
		}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		a := &answer{}
		a.decode(raw)
		s := &filter.Stream{}
		fl := &Filter{chain: &chain{Config: &Config{Status: 429, RetryAfter: true}}}
		fl.response = append(a.response, quota(a.statuses)...)
		addAll(&s.Request, a.request)
		fl.refuse(a).Modify(s)
		for k, v := range s.Response.All() {
			if strings.ContainsAny(k+v, "\r\n\x00") {
				t.Errorf("%q: %q", k, v)
			}
		}
	})
}

// TestNoMessage: what is no message is no verdict.
func TestNoMessage(t *testing.T) {
	a := &answer{}
	if a.decode([]byte("nonsense")); a.verdict != failed {
		t.Errorf("verdict %d", a.verdict)
	}
}
