package extauthz

import (
	"errors"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/mutate"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// defaultTimeout is how long a service over gRPC has where nobody says.
const defaultTimeout = 200 * time.Millisecond

// used are the fields that the filter obeys.
var used = []string{
	"grpc_service", "http_service", "transport_api_version", "failure_mode_allow", "failure_mode_allow_header_add",
	"with_request_body", "validate_mutations", "clear_route_cache", "clear_route_cache_headers", "status_on_error",
	"metadata_context_namespaces", "route_metadata_context_namespaces", "filter_enabled", "filter_enabled_metadata",
	"deny_at_disable", "include_peer_certificate", "stat_prefix", "allowed_headers", "disallowed_headers",
	"include_tls_session", "charge_cluster_response_stats", "encode_raw_headers", "enable_dynamic_metadata_ingestion",
	"max_denied_response_body_bytes",
}

// parse decodes envoy.extensions.filters.http.ext_authz.v3.ExtAuthz.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb extauthzv3.ExtAuthz
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: used, Ignored: []string{"emit_client_span"}}); err != nil {
		return nil, err
	}
	c := &Config{
		FailureAllow: pb.FailureModeAllow, FailureHeader: pb.FailureModeAllowHeaderAdd,
		ClearRoute: pb.ClearRouteCache, ClearRouteHeaders: names(pb.ClearRouteCacheHeaders), StatusOnError: 403,
		MaxDeniedBody: int(pb.MaxDeniedResponseBodyBytes), StatPrefix: pb.StatPrefix,
		NoClusterCodes:  pb.ChargeClusterResponseStats != nil && !pb.ChargeClusterResponseStats.Value,
		NoMetadata:      pb.EnableDynamicMetadataIngestion != nil && !pb.EnableDynamicMetadataIngestion.Value,
		MetadataContext: pb.MetadataContextNamespaces, RouteContext: pb.RouteMetadataContextNamespaces,
		IncludePeerCert: pb.IncludePeerCertificate, IncludeTLSSession: pb.IncludeTlsSession, RawHeaders: pb.EncodeRawHeaders,
		Enabled:       fromproto.RuntimeFractional(pb.FilterEnabled, runtime.Fraction{Numerator: 100, Denominator: 100}),
		DenyAtDisable: fromproto.RuntimeFlag(pb.DenyAtDisable, false),
	}
	if pb.StatusOnError != nil {
		c.StatusOnError = int(pb.StatusOnError.Code)
	}
	if len(pb.ClearRouteCacheHeaders) > 0 && !pb.ClearRouteCache {
		return nil, filter.At("clear_route_cache_headers", errors.New("has no effect without clear_route_cache"))
	}
	if pb.FilterEnabledMetadata != nil {
		m, err := fromproto.Metadata(pb.FilterEnabledMetadata)
		if err != nil {
			return nil, filter.At("filter_enabled_metadata", err)
		}
		c.EnabledMetadata = &m
	}
	var err error
	if c.Service, err = services(pb.GetHttpService(), pb.GetGrpcService(), p); err != nil {
		return nil, err
	}
	if c.Service == (service{}) {
		return nil, errors.New("one of grpc_service, http_service must be set")
	}
	if c.Body, err = body(pb.WithRequestBody, p); err != nil {
		return nil, err
	}
	return c, c.headers(&pb)
}

func names(list []string) (out []string) {
	for _, n := range list {
		out = append(out, match.HeaderName(n))
	}
	return out
}

// headers converts which fields of a request are told.
func (c *Config) headers(pb *extauthzv3.ExtAuthz) (err error) {
	list, field := pb.AllowedHeaders, "allowed_headers"
	if old := pb.GetHttpService().GetAuthorizationRequest().GetAllowedHeaders(); old != nil { //nolint:staticcheck // deprecated, still sent
		if list != nil {
			return filter.At("allowed_headers", errors.New("cannot be set together with http_service.authorization_request.allowed_headers"))
		}
		list, field = old, "http_service.authorization_request.allowed_headers"
	}
	if c.Allowed, err = fromproto.Strings(list); err != nil {
		return filter.At(field, err)
	}
	if c.Disallowed, err = fromproto.Strings(pb.DisallowedHeaders); err != nil {
		return filter.At("disallowed_headers", err)
	}
	return nil
}

func services(h *extauthzv3.HttpService, g *corev3.GrpcService, p *filter.Parser) (s service, err error) {
	switch {
	case h != nil:
		s.http, err = httpService(h, p)
		return s, filter.At("http_service", err)
	case g != nil:
		t, err := fromproto.GRPCService(g, p)
		if err != nil {
			return s, filter.At("grpc_service", err)
		}
		if g.Timeout == nil {
			t.Timeout = defaultTimeout
		}
		s.grpc = &t
	}
	return s, nil
}

func httpService(pb *extauthzv3.HttpService, p *filter.Parser) (*HTTPService, error) {
	err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"server_uri", "path_prefix", "path_override", "authorization_request", "authorization_response", "retry_policy",
	}})
	if err != nil {
		return nil, err
	}
	if pb.ServerUri == nil {
		return nil, filter.At("server_uri", errors.New("is required"))
	}
	h := &HTTPService{PathPrefix: pb.PathPrefix, PathOverride: pb.PathOverride}
	if h.HTTP, err = fromproto.HTTPURI(pb.ServerUri); err != nil {
		return nil, filter.At("server_uri", err)
	}
	if h.Retries, err = fromproto.Retries(pb.RetryPolicy, p); err != nil {
		return nil, filter.At("retry_policy", err)
	}
	for _, path := range []struct{ field, text string }{{"path_prefix", pb.PathPrefix}, {"path_override", pb.PathOverride}} {
		if path.text != "" && path.text[0] != '/' {
			return nil, filter.At(path.field, fmt.Errorf("%q does not begin with a slash", path.text))
		}
	}
	if pb.PathPrefix != "" && pb.PathOverride != "" {
		return nil, filter.At("path_override", errors.New("cannot be set together with path_prefix"))
	}
	for i, a := range pb.AuthorizationRequest.GetHeadersToAdd() {
		if h.Add == nil {
			h.Add = mutate.NewHeaders(mutate.Request)
		}
		if err := h.Add.Add(a.Key, a.Value, mutate.OverwriteOrAdd, false); err != nil {
			return nil, filter.At("authorization_request", filter.AtIndex("headers_to_add", i, err))
		}
	}
	return h, filter.At("authorization_response", h.answers(pb.AuthorizationResponse))
}

// answers converts what becomes of the fields of an answer.
func (h *HTTPService) answers(pb *extauthzv3.AuthorizationResponse) error {
	for _, l := range []struct {
		field string
		to    *match.Strings
		pb    *matcherv3.ListStringMatcher
	}{
		{"allowed_upstream_headers", &h.Upstream, pb.GetAllowedUpstreamHeaders()},
		{"allowed_upstream_headers_to_append", &h.UpstreamAppend, pb.GetAllowedUpstreamHeadersToAppend()},
		{"allowed_client_headers", &h.Client, pb.GetAllowedClientHeaders()},
		{"allowed_client_headers_on_success", &h.ClientSuccess, pb.GetAllowedClientHeadersOnSuccess()},
		{"dynamic_metadata_from_headers", &h.ToMetadata, pb.GetDynamicMetadataFromHeaders()},
	} {
		var err error
		if *l.to, err = fromproto.Strings(l.pb); err != nil {
			return filter.At(l.field, err)
		}
	}
	return nil
}

func body(pb *extauthzv3.BufferSettings, p *filter.Parser) (*Body, error) {
	if pb == nil {
		return nil, nil
	}
	return &Body{Max: int(pb.MaxRequestBytes), Bytes: pb.PackAsBytes, Partial: pb.AllowPartialMessage}, nil
}

// parseRoute decodes envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb extauthzv3.ExtAuthzPerRoute
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	r := &Route{Disabled: pb.GetDisabled()}
	s := pb.GetCheckSettings()
	if s == nil {
		return &Config{Route: r}, nil
	}
	err := fromproto.Check(s, p, fromproto.Fields{
		Used: []string{
			"context_extensions", "disable_request_body_buffering", "with_request_body", "grpc_service", "http_service",
		},
		Ignored: []string{"emit_client_span"},
	})
	if err == nil && s.DisableRequestBodyBuffering && s.WithRequestBody != nil {
		err = filter.At("with_request_body", errors.New("cannot be set together with disable_request_body_buffering"))
	}
	if err == nil {
		r.Service, err = services(s.GetHttpService(), s.GetGrpcService(), p)
	}
	if err == nil {
		r.Body, err = body(s.WithRequestBody, p)
	}
	r.Extensions, r.NoBody = s.ContextExtensions, s.DisableRequestBodyBuffering
	return &Config{Route: r}, filter.At("check_settings", err)
}
