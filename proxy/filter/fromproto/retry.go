package fromproto

import (
	"fmt"
	"math"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

const (
	previousHosts = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
	defaultBase   = 25 * time.Millisecond
)

// retryPolicy converts a RetryPolicy; nil stays nil.
func retryPolicy(pb *routev3.RetryPolicy, p *filter.Parser) (*route.RetryPolicy, error) {
	if pb == nil {
		return nil, nil
	}
	err := Check(pb, p, Fields{
		Used: []string{
			"retry_on", "num_retries", "per_try_timeout", "per_try_idle_timeout", "retry_host_predicate",
			"host_selection_retry_max_attempts", "retriable_status_codes", "retry_back_off", "retriable_headers",
			"retriable_request_headers",
		},
		Ignored: []string{"retry_priority", "rate_limited_retry_back_off", "refresh_cluster_on_retry"},
	})
	if err != nil {
		return nil, err
	}
	if u := route.UnknownRetryOn(pb.RetryOn); len(u) > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("RetryPolicy.retry_on: no such conditions: %q", u))
	}
	r := &route.RetryPolicy{On: route.ParseRetryOn(pb.RetryOn), Retries: 1, HostAttempts: 1}
	if n := pb.NumRetries; n != nil {
		r.Retries = n.Value
	}
	if n := pb.HostSelectionRetryMaxAttempts; n > 0 {
		r.HostAttempts = int(min(n, math.MaxInt32))
	}
	for _, c := range pb.RetriableStatusCodes {
		r.Codes = append(r.Codes, int(c))
	}
	if r.PreviousHosts, err = hostPredicates(pb.RetryHostPredicate); err != nil {
		return nil, err
	}
	if r.PerTry, err = Duration(pb.PerTryTimeout, 0); err != nil {
		return nil, filter.At("per_try_timeout", err)
	}
	if r.PerTryIdle, err = Duration(pb.PerTryIdleTimeout, 0); err != nil {
		return nil, filter.At("per_try_idle_timeout", err)
	}
	if err := backOff(pb.RetryBackOff, r); err != nil {
		return nil, filter.At("retry_back_off", err)
	}
	if r.RetriableHeaders, err = Headers("retriable_headers", pb.RetriableHeaders); err != nil {
		return nil, err
	}
	r.RequestHeaders, err = Headers("retriable_request_headers", pb.RetriableRequestHeaders)
	return r, err
}

func hostPredicates(list []*routev3.RetryPolicy_RetryHostPredicate) (previous bool, err error) {
	for i, h := range list {
		c, err := Any(h.GetTypedConfig())
		if err != nil {
			return false, filter.AtIndex("retry_host_predicate", i, filter.At("typed_config", err))
		}
		if c.Type != previousHosts {
			return false, filter.AtIndex("retry_host_predicate", i, filter.At("typed_config", fmt.Errorf("this build does not support the host predicate %q", c.Type)))
		}
		previous = true
	}
	return previous, nil
}

// backOff converts the back-off; the default maximum is ten times the base.
func backOff(pb *routev3.RetryPolicy_RetryBackOff, r *route.RetryPolicy) (err error) {
	if r.Base, err = PositiveDuration(pb.GetBaseInterval(), defaultBase); err != nil {
		return filter.At("base_interval", err)
	}
	r.Base = max(r.Base, time.Millisecond)
	if r.Max, err = PositiveDuration(pb.GetMaxInterval(), 10*r.Base); err != nil {
		return filter.At("max_interval", err)
	}
	r.Max = max(r.Max, time.Millisecond)
	if r.Max < r.Base {
		return filter.At("max_interval", fmt.Errorf("%v is less than base_interval", r.Max))
	}
	return nil
}
