package ratelimit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
)

// service is a rate limit service: what it says depends on the domain, which in dialogues is
// the name of the case. What it was asked it says in a field x-asked.
type service struct {
	rlsv3.UnimplementedRateLimitServiceServer
	done chan struct{}
}

// startService runs a service until the test ends, and returns its address.
func startService(t testing.TB) string {
	t.Helper()
	s := &service{done: make(chan struct{})}
	at := dialogue.ServeGRPC(t, func(to *grpc.Server) { rlsv3.RegisterRateLimitServiceServer(to, s) })
	t.Cleanup(func() { close(s.done) })
	return at.String()
}

// ShouldRateLimit implements the service.
func (s *service) ShouldRateLimit(_ context.Context, q *rlsv3.RateLimitRequest) (*rlsv3.RateLimitResponse, error) {
	asked := &corev3.HeaderValue{Key: "x-asked", Value: describe(q)}
	a := &rlsv3.RateLimitResponse{OverallCode: rlsv3.RateLimitResponse_OK, RequestHeadersToAdd: []*corev3.HeaderValue{asked}}
	domain, _, _ := strings.Cut(q.Domain, "/")
	switch domain {
	case "late":
		<-s.done // grpc-timeout tells the server, too, when it is late: it must not answer just then
	case "broken", "broken-allowed", "broken-percent":
		return nil, status.Error(codes.Internal, "broken")
	case "unknown":
		a.OverallCode = rlsv3.RateLimitResponse_UNKNOWN
	case "within":
		a.ResponseHeadersToAdd = []*corev3.HeaderValue{{Key: "X-Service", Value: "1"}, {Key: "x-service", Value: "2"}, {Key: "x-quota", Value: "service"}}
		a.RequestHeadersToAdd = append(a.RequestHeadersToAdd, &corev3.HeaderValue{Key: "x-client", Value: "service"})
		a.DynamicMetadata = &structpb.Struct{Fields: map[string]*structpb.Value{"user": structpb.NewStringValue("me")}}
	case "over", "over-dressed", "over-shadow", "over-route", "over-grpc", "over-exhausted", "over-silent", "retry-after", "network-over", "network-shadow":
		a.OverallCode = rlsv3.RateLimitResponse_OVER_LIMIT
		a.ResponseHeadersToAdd = []*corev3.HeaderValue{asked}
		if domain == "over-dressed" {
			a.RawBody = []byte(`{"too": "many"}`)
			a.ResponseHeadersToAdd = []*corev3.HeaderValue{{Key: "content-type", Value: "application/json"}}
		}
		a.Statuses = statuses
	case "quota":
		a.Statuses = statuses
	case "quota-none":
		a.Statuses = []*rlsv3.RateLimitResponse_DescriptorStatus{{Code: rlsv3.RateLimitResponse_OK}}
	}
	return a, nil
}

var statuses = []*rlsv3.RateLimitResponse_DescriptorStatus{
	{Code: rlsv3.RateLimitResponse_OK, LimitRemaining: 3},
	{
		Code: rlsv3.RateLimitResponse_OVER_LIMIT, LimitRemaining: 7, DurationUntilReset: &durationpb.Duration{Seconds: 40},
		CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{Name: "hour", RequestsPerUnit: 10, Unit: rlsv3.RateLimitResponse_RateLimit_HOUR},
	},
	{
		Code: rlsv3.RateLimitResponse_OVER_LIMIT, LimitRemaining: 5, DurationUntilReset: &durationpb.Duration{Seconds: 20, Nanos: 5},
		CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{RequestsPerUnit: 30, Unit: rlsv3.RateLimitResponse_RateLimit_MINUTE, UnitMultiplier: wrapperspb.UInt32(5)},
	},
	{
		Code: rlsv3.RateLimitResponse_OK, LimitRemaining: 5, DurationUntilReset: &durationpb.Duration{Seconds: 90},
		CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{RequestsPerUnit: 7},
	},
	{
		Code: rlsv3.RateLimitResponse_OK, LimitRemaining: 99, DurationUntilReset: &durationpb.Duration{Seconds: 90},
		CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{RequestsPerUnit: 100, Unit: rlsv3.RateLimitResponse_RateLimit_YEAR},
	},
}

// describe is a question as text: DOMAIN HITS [KEY=VALUE ... limit=N/UNIT hits=N].
func describe(q *rlsv3.RateLimitRequest) string {
	var sb strings.Builder
	sb.WriteString(q.Domain)
	if q.HitsAddend != 0 {
		fmt.Fprintf(&sb, " %d", q.HitsAddend)
	}
	for _, d := range q.Descriptors {
		sb.WriteString(" [")
		for i, e := range d.Entries {
			if i > 0 {
				sb.WriteByte(' ')
			}
			fmt.Fprintf(&sb, "%s=%s", e.Key, e.Value)
		}
		if d.Limit != nil {
			fmt.Fprintf(&sb, " limit=%d/%v", d.Limit.RequestsPerUnit, d.Limit.Unit)
		}
		if d.HitsAddend != nil {
			fmt.Fprintf(&sb, " hits=%d", d.HitsAddend.Value)
		}
		if d.IsNegativeHits {
			sb.WriteString(" negative")
		}
		sb.WriteByte(']')
	}
	return sb.String()
}
