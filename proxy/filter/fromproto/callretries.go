package fromproto

import (
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
)

// maxCallRetries is how often a call may be made again.
const maxCallRetries = 100

// Retries converts the policy for calls that fail; nil stays nil. Without retry_on, none
// is made again.
func Retries(pb *corev3.RetryPolicy, p *filter.Parser) (*call.Retries, error) {
	if pb == nil {
		return nil, nil
	}
	if err := Check(pb, p, Fields{Used: []string{"retry_back_off", "num_retries", "retry_on"}}); err != nil {
		return nil, err
	}
	return RetriesOn(pb, pb.RetryOn)
}

// RetriesOn is Retries for calls that are made again on what the caller says, in place of
// retry_on, whose form it has.
func RetriesOn(pb *corev3.RetryPolicy, on string) (*call.Retries, error) {
	r := &call.Retries{Times: 1}
	if pb.NumRetries != nil {
		r.Times = int(min(pb.NumRetries.Value, maxCallRetries))
	}
	var err error
	if r.Base, err = PositiveDuration(pb.RetryBackOff.GetBaseInterval(), time.Second); err != nil {
		return nil, filter.At("retry_back_off.base_interval", err)
	}
	r.Base = max(r.Base, time.Millisecond)
	if r.Max, err = PositiveDuration(pb.RetryBackOff.GetMaxInterval(), 10*r.Base); err != nil {
		return nil, filter.At("retry_back_off.max_interval", err)
	}
	if r.Max < r.Base {
		return nil, filter.At("retry_back_off.max_interval", fmt.Errorf("%v is less than base_interval", r.Max))
	}
	r.PerTry = r.Max // as Envoy, which has no field for it here
	return r, filter.At("retry_on", retryCallsOn(r, on))
}

// retryCallsOn converts the conditions of retry_on.
func retryCallsOn(r *call.Retries, list string) error {
	if list == "" {
		r.Times = 0
		return nil
	}
	var lowest, alone int // codes from the lowest on are failures, and the one alone
	for on := range strings.SplitSeq(list, ",") {
		switch strings.TrimSpace(on) {
		case "5xx":
			r.Failed, lowest = true, 500
		case "gateway-error":
			if r.Failed = true; lowest == 0 {
				lowest = 502
			}
		case "connect-failure", "reset", "refused-stream":
			r.Failed = true
		case "retriable-4xx":
			alone = 409
		default:
			return fmt.Errorf("this build does not support the condition %q for calls", on)
		}
	}
	r.Codes = func(code int) bool {
		return code == alone && alone > 0 || lowest == 500 && code >= 500 || lowest == 502 && code >= 502 && code <= 504
	}
	return nil
}
