package fromproto

import (
	"errors"
	"fmt"
	"math"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	omitmetadatav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/omit_host_metadata/v3"
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
)

const (
	previousHosts      = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
	omitCanaryHosts    = "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate"
	omitHostMetadata   = "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig"
	previousPriorities = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
	defaultBase        = 25 * time.Millisecond
	defaultResetMax    = 300 * time.Second
)

// retryPolicy converts a RetryPolicy; nil stays nil.
func retryPolicy(pb *routev3.RetryPolicy, p *filter.Parser) (*route.RetryPolicy, error) {
	if pb == nil {
		return nil, nil
	}
	err := Check(pb, p, Fields{Used: []string{
		"retry_on", "num_retries", "per_try_timeout", "per_try_idle_timeout", "retry_host_predicate",
		"host_selection_retry_max_attempts", "retriable_status_codes", "retry_back_off", "retriable_headers",
		"retriable_request_headers", "rate_limited_retry_back_off", "retry_priority",
		"refresh_cluster_on_retry", // a cluster specifier of ours says the same again
	}})
	if err != nil {
		return nil, err
	}
	if u := route.UnknownRetryOn(pb.RetryOn, route.HTTPConditions|route.GRPCConditions); len(u) > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("RetryPolicy.retry_on: no such conditions: %q", u))
	}
	r := &route.RetryPolicy{On: route.ParseRetryOn(pb.RetryOn), Retries: 1}
	if n := pb.NumRetries; n != nil {
		r.Retries = n.Value
	}
	for _, c := range pb.RetriableStatusCodes {
		r.Codes = append(r.Codes, int(c))
	}
	for _, step := range []func(*routev3.RetryPolicy, *route.RetryPolicy) error{
		retryHosts, retryPriority, retryTimeouts, backOff, rateLimitedBackOff,
	} {
		if err := step(pb, r); err != nil {
			return nil, err
		}
	}
	if r.RetriableHeaders, err = Headers("retriable_headers", pb.RetriableHeaders); err != nil {
		return nil, err
	}
	r.RequestHeaders, err = Headers("retriable_request_headers", pb.RetriableRequestHeaders)
	return r, err
}

func retryTimeouts(pb *routev3.RetryPolicy, r *route.RetryPolicy) (err error) {
	if r.PerTry, err = Duration(pb.PerTryTimeout, 0); err != nil {
		return filter.At("per_try_timeout", err)
	}
	r.PerTryIdle, err = Duration(pb.PerTryIdleTimeout, 0)
	return filter.At("per_try_idle_timeout", err)
}

func retryHosts(pb *routev3.RetryPolicy, r *route.RetryPolicy) error {
	r.Hosts.Attempts = 1
	if n := pb.HostSelectionRetryMaxAttempts; n > 0 {
		r.Hosts.Attempts = int(min(n, math.MaxInt32))
	}
	for i, h := range pb.RetryHostPredicate {
		if err := hostPredicate(h.GetTypedConfig(), &r.Hosts); err != nil {
			return filter.AtIndex("retry_host_predicate", i, filter.At("typed_config", err))
		}
	}
	return nil
}

func hostPredicate(pb *anypb.Any, h *route.HostPredicates) error {
	c, err := Any(pb)
	if err != nil {
		return err
	}
	switch c.Type {
	case previousHosts:
		h.Previous = true
	case omitCanaryHosts:
		h.Canary = true
	case omitHostMetadata:
		var m omitmetadatav3.OmitHostMetadataConfig
		if err := proto.Unmarshal(c.Value, &m); err != nil {
			return err
		}
		h.Omit = lbLabels(m.MetadataMatch)
	default:
		return fmt.Errorf("this build does not support the host predicate %q", c.Type)
	}
	return nil
}

func retryPriority(pb *routev3.RetryPolicy, r *route.RetryPolicy) error {
	if pb.RetryPriority == nil {
		return nil
	}
	c, err := Any(pb.RetryPriority.GetTypedConfig())
	if err != nil {
		return filter.At("retry_priority.typed_config", err)
	}
	if c.Type != previousPriorities {
		return filter.At("retry_priority.typed_config", fmt.Errorf("this build does not support the priority %q", c.Type))
	}
	var m prioritiesv3.PreviousPrioritiesConfig
	if err := proto.Unmarshal(c.Value, &m); err != nil {
		return filter.At("retry_priority.typed_config", err)
	}
	if m.UpdateFrequency <= 0 {
		return filter.At("retry_priority.typed_config.update_frequency", fmt.Errorf("%d is not more than zero", m.UpdateFrequency))
	}
	r.PriorityEvery = int(m.UpdateFrequency)
	return nil
}

// backOff converts the back-off; the default maximum is ten times the base.
func backOff(p *routev3.RetryPolicy, r *route.RetryPolicy) (err error) {
	pb := p.RetryBackOff
	if r.Backoff.Base, err = PositiveDuration(pb.GetBaseInterval(), defaultBase); err != nil {
		return filter.At("retry_back_off.base_interval", err)
	}
	r.Backoff.Base = max(r.Backoff.Base, time.Millisecond)
	if r.Backoff.Max, err = PositiveDuration(pb.GetMaxInterval(), 10*r.Backoff.Base); err != nil {
		return filter.At("retry_back_off.max_interval", err)
	}
	r.Backoff.Max = max(r.Backoff.Max, time.Millisecond)
	if r.Backoff.Max < r.Backoff.Base {
		return filter.At("retry_back_off.max_interval", fmt.Errorf("%v is less than base_interval", r.Backoff.Max))
	}
	return nil
}

// rateLimitedBackOff converts what a host may say about when to come back.
func rateLimitedBackOff(p *routev3.RetryPolicy, r *route.RetryPolicy) (err error) {
	pb := p.RateLimitedRetryBackOff
	if pb == nil {
		return nil
	}
	if len(pb.ResetHeaders) == 0 {
		return filter.At("rate_limited_retry_back_off.reset_headers", errors.New("at least one is required"))
	}
	for i, h := range pb.ResetHeaders {
		if h.Name == "" {
			return filter.At("rate_limited_retry_back_off", filter.AtIndex("reset_headers", i, filter.At("name", errors.New("is required"))))
		}
		r.Reset = append(r.Reset, route.ResetHeader{
			Name: match.HeaderName(h.Name), Unix: h.Format == routev3.RetryPolicy_UNIX_TIMESTAMP,
		})
	}
	r.ResetMax, err = PositiveDuration(pb.MaxInterval, defaultResetMax)
	return filter.At("rate_limited_retry_back_off.max_interval", err)
}
