package localratelimit

import (
	"errors"
	"fmt"
	"math"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/local_ratelimit/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// parse decodes envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.
func parse(raw []byte, p *filter.Parser) (*Config, error) { return httpConfig(raw, p, false) }

// parseRoute is parse for a route, which needs a bucket.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) { return httpConfig(raw, p, true) }

func httpConfig(raw []byte, p *filter.Parser, route bool) (*Config, error) {
	var pb httpv3.LocalRateLimit
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"stat_prefix", "status", "token_bucket", "filter_enabled", "filter_enforced", "request_headers_to_add_when_not_enforced",
		"response_headers_to_add", "descriptors", "stage", "local_rate_limit_per_downstream_connection", "enable_x_ratelimit_headers",
		"vh_rate_limits", "always_consume_default_token_bucket", "rate_limited_as_resource_exhausted", "rate_limits",
		"max_dynamic_descriptors", "enable_retry_after_header",
	}})
	if err != nil {
		return nil, err
	}
	if route && pb.TokenBucket == nil {
		return nil, filter.At("token_bucket", errors.New("is required for a route"))
	}
	c := &Config{
		StatPrefix: pb.StatPrefix, Status: 429, Stage: pb.Stage,
		Enabled:       fromproto.RuntimeFractional(pb.FilterEnabled, runtime.Fraction{Denominator: 100}).On(p.Runtime),
		Enforced:      fromproto.RuntimeFractional(pb.FilterEnforced, runtime.Fraction{Denominator: 100}).On(p.Runtime),
		PerConnection: pb.LocalRateLimitPerDownstreamConnection, RetryAfter: pb.EnableRetryAfterHeader,
		Headers:     pb.EnableXRatelimitHeaders == commonv3.XRateLimitHeadersRFCVersion_DRAFT_VERSION_03,
		VirtualHost: vhLimits(pb.VhRateLimits),
	}
	if code := int(pb.Status.GetCode()); code >= 400 {
		c.Status = code
	}
	if c.Limits, err = limits(&pb, p); err != nil {
		return nil, err
	}
	if c.NotEnforced, err = fromproto.Mutations(mutate.Request, pb.RequestHeadersToAddWhenNotEnforced, nil); err != nil {
		return nil, filter.At("request_headers_to_add_when_not_enforced", err)
	}
	if c.Response, err = fromproto.Mutations(mutate.Response, pb.ResponseHeadersToAdd, nil); err != nil {
		return nil, err
	}
	if c.Own, err = fromproto.RateLimits(pb.RateLimits, p); err != nil {
		return nil, err
	}
	c.limiter = newLimiter(c.Limits, time.Now())
	grpc := 0
	if pb.RateLimitedAsResourceExhausted {
		grpc = 8
	}
	c.denied = c.denial(grpc)
	return c, nil
}

func limits(pb *httpv3.LocalRateLimit, p *filter.Parser) (l *Limits, err error) {
	l = &Limits{Always: pb.AlwaysConsumeDefaultTokenBucket == nil || pb.AlwaysConsumeDefaultTokenBucket.Value, MaxDynamic: 20}
	if pb.MaxDynamicDescriptors != nil {
		l.MaxDynamic = int(pb.MaxDynamicDescriptors.Value)
	}
	if pb.TokenBucket != nil {
		if l.Default, err = rate(pb.TokenBucket); err != nil {
			return nil, filter.At("token_bucket", err)
		}
	}
	seen := map[string]bool{}
	for i, d := range pb.Descriptors {
		one, err := descriptor(d, p)
		if err == nil && seen[string(appendKey(nil, one.Entries))] {
			err = errors.New("is there twice")
		}
		if err == nil && one.wild() && pb.LocalRateLimitPerDownstreamConnection {
			err = errors.New("an entry without a value is not supported with local_rate_limit_per_downstream_connection")
		}
		if err != nil {
			return nil, filter.AtIndex("descriptors", i, err)
		}
		seen[string(appendKey(nil, one.Entries))] = true
		l.Descriptors = append(l.Descriptors, one)
	}
	return l, nil
}

func descriptor(pb *commonv3.LocalRateLimitDescriptor, p *filter.Parser) (d Descriptor, err error) {
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"entries", "token_bucket", "shadow_mode"}}); err != nil {
		return d, err
	}
	d.Shadow = pb.ShadowMode
	for _, e := range pb.Entries {
		d.Entries = append(d.Entries, ratelimit.Entry{Key: e.Key, Value: e.Value})
	}
	d.Rate, err = rate(pb.TokenBucket)
	return d, filter.At("token_bucket", err)
}

const leastInterval = 50 * time.Millisecond // as in Envoy

func rate(pb *typev3.TokenBucket) (Rate, error) {
	every, err := fromproto.PositiveDuration(pb.GetFillInterval(), 0)
	if err == nil && every < leastInterval {
		err = fmt.Errorf("%v is less than %v", every, leastInterval)
	}
	if err != nil {
		return Rate{}, filter.At("fill_interval", err)
	}
	tokens := uint32(1)
	if pb.TokensPerFill != nil {
		tokens = pb.TokensPerFill.Value
	}
	r := Rate{Max: float64(pb.MaxTokens), PerSecond: float64(tokens) / every.Seconds()}
	if math.IsInf(r.PerSecond, 0) || r.PerSecond <= 0 {
		return Rate{}, filter.At("tokens_per_fill", errors.New("must be more than zero"))
	}
	return r, nil
}

// parseNetwork decodes envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit.
func parseNetwork(raw []byte, p *filter.Parser) (*ConnConfig, error) {
	var pb networkv3.LocalRateLimit
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"stat_prefix", "token_bucket", "runtime_enabled", "share_key"}})
	if err != nil {
		return nil, err
	}
	r, err := rate(pb.TokenBucket)
	c := &ConnConfig{StatPrefix: pb.StatPrefix, Rate: r, Enabled: fromproto.RuntimeFlag(pb.RuntimeEnabled, true)}
	if pb.ShareKey != "" {
		c.Share = fmt.Sprintf("%q %d %d %v", pb.ShareKey, pb.TokenBucket.GetMaxTokens(), pb.TokenBucket.GetTokensPerFill().GetValue(), pb.TokenBucket.GetFillInterval().AsDuration())
	}
	return c, filter.At("token_bucket", err)
}

// parseListener decodes envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit.
func parseListener(raw []byte, p *filter.Parser) (*ConnConfig, error) {
	var pb listenerv3.LocalRateLimit
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"stat_prefix", "token_bucket", "runtime_enabled"}}); err != nil {
		return nil, err
	}
	r, err := rate(pb.TokenBucket)
	return &ConnConfig{StatPrefix: pb.StatPrefix, Rate: r, Enabled: fromproto.RuntimeFlag(pb.RuntimeEnabled, true)}, filter.At("token_bucket", err)
}
