package ratelimit

import (
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// encode makes envoy.service.ratelimit.v3.RateLimitRequest.
func (q *question) encode() ([]byte, error) {
	pb := &ratelimitv3.RateLimitRequest{Domain: q.domain, HitsAddend: q.hits}
	for i := range q.descriptors {
		d := &q.descriptors[i]
		out := &commonv3.RateLimitDescriptor{IsNegativeHits: d.negative}
		for _, e := range d.entries {
			out.Entries = append(out.Entries, &commonv3.RateLimitDescriptor_Entry{Key: fromproto.Text(e.Key), Value: fromproto.Text(e.Value)})
		}
		if d.counted {
			out.HitsAddend = wrapperspb.UInt64(d.hits)
		}
		if d.limit != nil {
			out.Limit = &commonv3.RateLimitDescriptor_RateLimitOverride{
				RequestsPerUnit: d.limit.requests, Unit: typev3.RateLimitUnit(typev3.RateLimitUnit_value[d.limit.unit]),
			}
		}
		pb.Descriptors = append(pb.Descriptors, out)
	}
	return proto.Marshal(pb)
}

// decode reads envoy.service.ratelimit.v3.RateLimitResponse. What is no message is no
// verdict.
func (a *answer) decode(raw []byte) {
	var pb ratelimitv3.RateLimitResponse
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return
	}
	a.verdict = within
	if pb.OverallCode == ratelimitv3.RateLimitResponse_OVER_LIMIT {
		a.verdict = over
	}
	for _, st := range pb.Statuses {
		a.statuses = append(a.statuses, statusOf(st))
	}
	a.response, a.request = fieldsOf(pb.ResponseHeadersToAdd), fieldsOf(pb.RequestHeadersToAdd)
	a.body = string(pb.RawBody)
	if fields := pb.DynamicMetadata.GetFields(); len(fields) > 0 {
		a.metadata = pb.DynamicMetadata.AsMap()
	}
}

func statusOf(pb *ratelimitv3.RateLimitResponse_DescriptorStatus) status {
	st := status{
		over: pb.GetCode() == ratelimitv3.RateLimitResponse_OVER_LIMIT, limited: pb.GetCurrentLimit() != nil,
		name: pb.GetCurrentLimit().GetName(), requests: pb.GetCurrentLimit().GetRequestsPerUnit(),
		remaining: pb.GetLimitRemaining(), reset: pb.GetDurationUntilReset().GetSeconds(),
	}
	st.window = seconds(pb.GetCurrentLimit().GetUnit())
	if m := pb.GetCurrentLimit().GetUnitMultiplier(); m != nil && m.Value > 0 {
		st.window *= uint64(m.Value)
	}
	return st
}

// seconds is how long a unit is.
func seconds(unit ratelimitv3.RateLimitResponse_RateLimit_Unit) uint64 {
	switch unit {
	case ratelimitv3.RateLimitResponse_RateLimit_SECOND:
		return 1
	case ratelimitv3.RateLimitResponse_RateLimit_MINUTE:
		return 60
	case ratelimitv3.RateLimitResponse_RateLimit_HOUR:
		return 60 * 60
	case ratelimitv3.RateLimitResponse_RateLimit_DAY:
		return 24 * 60 * 60
	case ratelimitv3.RateLimitResponse_RateLimit_WEEK:
		return 7 * 24 * 60 * 60
	case ratelimitv3.RateLimitResponse_RateLimit_MONTH:
		return 30 * 24 * 60 * 60
	case ratelimitv3.RateLimitResponse_RateLimit_YEAR:
		return 365 * 24 * 60 * 60
	}
	return 0
}

func fieldsOf(list []*corev3.HeaderValue) (out []field) {
	for _, h := range list {
		value := h.GetValue()
		if len(h.GetRawValue()) > 0 {
			value = string(h.GetRawValue())
		}
		out = append(out, field{match.HeaderName(h.GetKey()), value})
	}
	return out
}
