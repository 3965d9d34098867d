package ratelimit

import (
	"errors"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// defaultTimeout is how long a service has where nobody says.
const defaultTimeout = 20 * time.Millisecond

// parse decodes envoy.extensions.filters.http.ratelimit.v3.RateLimit.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb httpv3.RateLimit
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"domain", "stage", "request_type", "timeout", "failure_mode_deny", "rate_limited_as_resource_exhausted",
		"rate_limit_service", "enable_x_ratelimit_headers", "disable_x_envoy_ratelimited_header", "rate_limited_status",
		"response_headers_to_add", "status_on_error", "stat_prefix", "filter_enabled", "filter_enforced",
		"failure_mode_deny_percent", "rate_limits", "metadata_namespace", "enable_retry_after_header",
	}})
	if err != nil {
		return nil, err
	}
	c := &Config{
		Domain: pb.Domain, Stage: pb.Stage, Namespace: pb.MetadataNamespace, StatPrefix: pb.StatPrefix,
		Enabled:  percent(pb.FilterEnabled, "ratelimit.http_filter_enabled", 100),
		Enforced: percent(pb.FilterEnforced, "ratelimit.http_filter_enforcing", 100),
		Deny:     percent(pb.FailureModeDenyPercent, "", 0),
		Status:   429, StatusOnError: 500, Exhausted: pb.RateLimitedAsResourceExhausted,
		Headers:          pb.EnableXRatelimitHeaders == httpv3.RateLimit_DRAFT_VERSION_03,
		NotLimitedHeader: pb.DisableXEnvoyRatelimitedHeader, RetryAfter: pb.EnableRetryAfterHeader,
	}
	if c.Namespace == "" {
		c.Namespace = "envoy.filters.http.ratelimit"
	}
	if pb.FailureModeDenyPercent == nil && pb.FailureModeDeny {
		c.Deny.Default.Numerator = 100
	}
	switch pb.RequestType {
	case "internal":
		c.Requests = internal
	case "external":
		c.Requests = external
	}
	if code := int(pb.RateLimitedStatus.GetCode()); code >= 400 {
		c.Status = code
	}
	if pb.StatusOnError != nil {
		c.StatusOnError = int(pb.StatusOnError.Code)
	}
	if c.Response, err = fromproto.Mutations(mutate.Response, pb.ResponseHeadersToAdd, nil); err != nil {
		return nil, err
	}
	if c.Own, err = fromproto.RateLimits(pb.RateLimits, p); err != nil {
		return nil, err
	}
	c.Service, err = service(pb.RateLimitService, pb.Timeout, p)
	return c, err
}

// percent converts a fraction whose key has a name even where nobody gives one.
func percent(pb *corev3.RuntimeFractionalPercent, key string, numerator uint32) runtime.FractionSetting {
	f := fromproto.RuntimeFractional(pb, runtime.Fraction{Numerator: numerator, Denominator: 100})
	if pb == nil {
		f.Key = key
	}
	return f
}

// service converts whom to ask, and for how long to wait.
func service(pb *rlsv3.RateLimitServiceConfig, timeout *durationpb.Duration, p *filter.Parser) (s Service, err error) {
	if pb == nil {
		return s, filter.At("rate_limit_service", errors.New("is required"))
	}
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"grpc_service", "transport_api_version"}}); err != nil {
		return s, filter.At("rate_limit_service", err)
	}
	if v := pb.TransportApiVersion; v != corev3.ApiVersion_V3 {
		return s, filter.At("rate_limit_service.transport_api_version", fmt.Errorf("%v is not supported, V3 is", v))
	}
	if s.GRPC, err = fromproto.GRPCService(pb.GrpcService, p); err != nil {
		return s, filter.At("rate_limit_service.grpc_service", err)
	}
	s.Timeout, err = fromproto.Duration(timeout, defaultTimeout)
	return s, filter.At("timeout", err)
}

// parseRoute decodes envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb httpv3.RateLimitPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used:    []string{"vh_rate_limits", "rate_limits", "domain"},
		Ignored: []string{"override_option"}, // as in Envoy, which hides it as not implemented
	})
	if err != nil {
		return nil, err
	}
	r := &Route{VirtualHost: vhLimits(pb.VhRateLimits), Domain: pb.Domain}
	r.Own, err = fromproto.RateLimits(pb.RateLimits, p)
	return &Config{Route: r}, err
}

// parseNetwork decodes envoy.extensions.filters.network.ratelimit.v3.RateLimit.
func parseNetwork(raw []byte, p *filter.Parser) (*ConnConfig, error) {
	var pb networkv3.RateLimit
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"stat_prefix", "domain", "descriptors", "timeout", "failure_mode_deny", "rate_limit_service",
	}})
	if err != nil {
		return nil, err
	}
	c := &ConnConfig{
		StatPrefix: pb.StatPrefix, Domain: pb.Domain, Deny: pb.FailureModeDeny,
		Enabled:  percent(nil, "ratelimit.tcp_filter_enabled", 100),
		Enforced: percent(nil, "ratelimit.tcp_filter_enforcing", 100),
	}
	for i, d := range pb.Descriptors {
		one, err := connDescriptor(d, p)
		if err != nil {
			return nil, filter.AtIndex("descriptors", i, err)
		}
		c.Descriptors = append(c.Descriptors, one)
	}
	c.Service, err = service(pb.RateLimitService, pb.Timeout, p)
	return c, err
}

func connDescriptor(pb *commonv3.RateLimitDescriptor, p *filter.Parser) (d ConnDescriptor, err error) {
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"entries"}}); err != nil {
		return d, err
	}
	for i, e := range pb.Entries {
		f, err := accesslog.CompileText(e.Value, accesslog.Options{})
		if err != nil {
			return d, filter.AtIndex("entries", i, filter.At("value", err))
		}
		d.Keys, d.Values = append(d.Keys, e.Key), append(d.Values, f)
	}
	return d, nil
}
