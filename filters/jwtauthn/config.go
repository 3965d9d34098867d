package jwtauthn

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	jwtauthnv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
)

const (
	defaultSkew      = 60 * time.Second
	defaultKeep      = 10 * time.Minute
	defaultCacheSize = 100
	defaultMaxCached = 4096
	maxCacheSize     = 100_000
)

// parse decodes envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb jwtauthnv3.JwtAuthentication
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"providers", "rules", "filter_state_rules", "bypass_cors_preflight", "requirement_map", "strip_failure_response", "stat_prefix",
	}})
	if err != nil {
		return nil, err
	}
	c := &Config{bypassPreflight: pb.BypassCorsPreflight, strip: pb.StripFailureResponse, statPrefix: pb.StatPrefix}
	for _, name := range slices.Sorted(maps.Keys(pb.Providers)) {
		one, err := newProvider(name, pb.Providers[name], p)
		if err != nil {
			return nil, filter.At(fmt.Sprintf("providers[%q]", name), err)
		}
		c.providers = append(c.providers, one)
	}
	b := builder{c: c, p: p, all: placesOf(c.providers...)}
	if c.byName, err = b.named("requirement_map", pb.RequirementMap); err != nil {
		return nil, err
	}
	c.names = strings.Join(slices.Sorted(maps.Keys(c.byName)), ", ")
	for i, r := range pb.Rules {
		one, err := b.rule(r)
		if err != nil {
			return nil, filter.AtIndex("rules", i, err)
		}
		c.rules = append(c.rules, one)
	}
	if s := pb.FilterStateRules; s != nil {
		c.stateKey = s.Name
		if c.byState, err = b.named("requires", s.Requires); err != nil {
			return nil, filter.At("filter_state_rules", err)
		}
	}
	return c, nil
}

// builder converts requirements.
type builder struct {
	c   *Config
	p   *filter.Parser
	all *places // of all providers
}

func (b *builder) named(field string, list map[string]*jwtauthnv3.JwtRequirement) (map[string]*requirement, error) {
	out := map[string]*requirement{}
	for name, pb := range list {
		r, err := b.requirement(pb)
		if err != nil {
			return nil, filter.At(fmt.Sprintf("%s[%q]", field, name), err)
		}
		out[name] = r
	}
	return out, nil
}

func (b *builder) rule(pb *jwtauthnv3.RequirementRule) (r rule, err error) {
	if r.match, err = fromproto.RequestMatch(pb.Match, b.p); err != nil {
		return r, filter.At("match", err)
	}
	switch t := pb.RequirementType.(type) {
	case *jwtauthnv3.RequirementRule_Requires:
		r.needs, err = b.requirement(t.Requires)
		return r, filter.At("requires", err)
	case *jwtauthnv3.RequirementRule_RequirementName:
		var ok bool
		if r.needs, ok = b.c.byName[t.RequirementName]; !ok {
			return r, filter.At("requirement_name", fmt.Errorf("%q is not in requirement_map", t.RequirementName))
		}
	}
	return r, nil
}

func (b *builder) provider(name string) (*provider, error) {
	for _, p := range b.c.providers {
		if p.name == name {
			return p, nil
		}
	}
	return nil, filter.At("provider_name", fmt.Errorf("there is no provider %q", name))
}

// requirement converts a JwtRequirement; one that says nothing needs nothing, nil.
func (b *builder) requirement(pb *jwtauthnv3.JwtRequirement) (*requirement, error) {
	switch t := pb.GetRequiresType().(type) {
	case nil:
		return nil, nil
	case *jwtauthnv3.JwtRequirement_ProviderName:
		return b.one(t.ProviderName, nil)
	case *jwtauthnv3.JwtRequirement_ProviderAndAudiences:
		r, err := b.one(t.ProviderAndAudiences.ProviderName, t.ProviderAndAudiences.Audiences)
		return r, filter.At("provider_and_audiences", err)
	case *jwtauthnv3.JwtRequirement_RequiresAny:
		r, err := b.anyOf(t.RequiresAny.GetRequirements())
		return r, filter.At("requires_any", err)
	case *jwtauthnv3.JwtRequirement_RequiresAll:
		r := &requirement{kind: allOf}
		var err error
		r.list, err = b.list(t.RequiresAll.GetRequirements())
		return r, filter.At("requires_all", err)
	case *jwtauthnv3.JwtRequirement_AllowMissing:
		return &requirement{kind: allowMissing, places: b.all}, nil
	case *jwtauthnv3.JwtRequirement_AllowMissingOrFailed:
		return &requirement{kind: allowFailed, places: b.all}, nil
	default:
		return nil, fmt.Errorf("this build does not support the requirement %T", t)
	}
}

func (b *builder) one(name string, own []string) (*requirement, error) {
	p, err := b.provider(name)
	if err != nil {
		return nil, err
	}
	return &requirement{provider: p, places: placesOf(p), audiences: newAudiences(own)}, nil
}

func (b *builder) list(list []*jwtauthnv3.JwtRequirement) (out []*requirement, err error) {
	for i, pb := range list {
		r, err := b.requirement(pb)
		if err != nil {
			return nil, filter.AtIndex("requirements", i, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// anyOf converts alternatives. That a token may be missing or bad is no alternative of its
// own: the others are tried first.
func (b *builder) anyOf(list []*jwtauthnv3.JwtRequirement) (*requirement, error) {
	all, err := b.list(list)
	if err != nil {
		return nil, err
	}
	r := &requirement{kind: anyOf}
	for _, each := range all {
		switch {
		case each != nil && each.kind == allowMissing:
			r.missingOK = true
		case each != nil && each.kind == allowFailed:
			r.failedOK = true
		default:
			r.list = append(r.list, each)
		}
	}
	if len(r.list) == 0 {
		r.list = []*requirement{{kind: allowMissing, places: b.all}}
		if r.failedOK {
			r.list[0].kind = allowFailed
		}
	}
	return r, nil
}

func newProvider(name string, pb *jwtauthnv3.JwtProvider, p *filter.Parser) (*provider, error) {
	err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"issuer", "audiences", "subjects", "require_expiration", "max_lifetime", "remote_jwks", "local_jwks", "forward",
		"from_headers", "from_params", "from_cookies", "forward_payload_header", "pad_forward_payload_header",
		"payload_in_metadata", "normalize_payload_in_metadata", "header_in_metadata", "failed_status_in_metadata",
		"clock_skew_seconds", "jwt_cache_config", "claim_to_headers", "clear_route_cache",
	}})
	if err != nil {
		return nil, err
	}
	out := &provider{
		name: name, issuer: pb.Issuer, audiences: newAudiences(pb.Audiences), requireExpiration: pb.RequireExpiration, skew: defaultSkew,
		forward: pb.Forward, forwardPayload: match.HeaderName(pb.ForwardPayloadHeader), padPayload: pb.PadForwardPayloadHeader,
		payloadIn: pb.PayloadInMetadata, headerIn: pb.HeaderInMetadata, failureIn: pb.FailedStatusInMetadata,
		splitClaims: pb.NormalizePayloadInMetadata.GetSpaceDelimitedClaims(), clearRoute: pb.ClearRouteCache,
	}
	if pb.ClockSkewSeconds > 0 {
		out.skew = time.Duration(pb.ClockSkewSeconds) * time.Second
	}
	if out.maxLifetime, err = fromproto.Duration(pb.MaxLifetime, 0); err != nil {
		return nil, filter.At("max_lifetime", err)
	}
	if pb.MaxLifetime != nil && out.maxLifetime == 0 {
		return nil, filter.At("max_lifetime", errors.New("must be more than zero"))
	}
	if pb.Subjects != nil {
		m, err := fromproto.String(pb.Subjects)
		if err != nil {
			return nil, filter.At("subjects", err)
		}
		out.subjects = &m
	}
	if c := pb.JwtCacheConfig; c != nil {
		out.cacheSize, out.maxCached = orElse(c.JwtCacheSize, defaultCacheSize), orElse(c.JwtMaxTokenSize, defaultMaxCached)
		if out.cacheSize > maxCacheSize {
			return nil, filter.At("jwt_cache_config.jwt_cache_size", fmt.Errorf("at most %d are possible", maxCacheSize))
		}
	}
	out.findPlaces(pb)
	if err := out.findClaims(pb); err != nil {
		return nil, err
	}
	return out, out.findKeys(pb, p)
}

func orElse(n uint32, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return int(n)
}

func (p *provider) findPlaces(pb *jwtauthnv3.JwtProvider) {
	for _, h := range pb.FromHeaders {
		p.places = append(p.places, place{kind: inHeader, name: match.HeaderName(h.Name), prefix: h.ValuePrefix})
	}
	for _, name := range pb.FromParams {
		p.places = append(p.places, place{kind: inQuery, name: name})
	}
	for _, name := range pb.FromCookies {
		p.places = append(p.places, place{kind: inCookie, name: name})
	}
	if len(p.places) == 0 {
		p.places = []place{{kind: inHeader, name: "authorization", prefix: "Bearer "}, {kind: inQuery, name: "access_token"}}
	}
}

func (p *provider) findClaims(pb *jwtauthnv3.JwtProvider) error {
	for i, c := range pb.ClaimToHeaders {
		h := claimHeader{header: match.HeaderName(c.HeaderName)}
		for _, s := range c.ClaimPath {
			h.path = append(h.path, s.GetKey())
		}
		switch {
		case len(h.path) > 0 && c.ClaimName != "":
			return filter.AtIndex("claim_to_headers", i, errors.New("only one of claim_name and claim_path may be set"))
		case len(h.path) == 0 && c.ClaimName == "":
			return filter.AtIndex("claim_to_headers", i, errors.New("one of claim_name and claim_path must be set"))
		case len(h.path) == 0:
			h.path = strings.Split(c.ClaimName, ".")
		}
		p.claims = append(p.claims, h)
	}
	return nil
}

func (p *provider) findKeys(pb *jwtauthnv3.JwtProvider, parser *filter.Parser) error {
	if r := pb.GetRemoteJwks(); r != nil {
		var err error
		p.remote, err = remote(r, parser)
		return filter.At("remote_jwks", err)
	}
	if pb.GetLocalJwks() == nil {
		return errors.New("one of remote_jwks, local_jwks must be set")
	}
	text, err := fromproto.Bytes(pb.GetLocalJwks(), maxKeySet)
	if err != nil {
		return filter.At("local_jwks", err)
	}
	var st status
	if p.local, st = parseKeys([]byte(text)); st != statusOK {
		return filter.At("local_jwks", errors.New(st.String()))
	}
	return nil
}

func remote(pb *jwtauthnv3.RemoteJwks, p *filter.Parser) (*Remote, error) {
	if pb.HttpUri == nil {
		return nil, filter.At("http_uri", errors.New("is required"))
	}
	r := &Remote{Async: pb.AsyncFetch != nil, Refetch: time.Second}
	var err error
	if r.HTTP, err = fromproto.HTTPURI(pb.HttpUri); err != nil {
		return nil, filter.At("http_uri", err)
	}
	if r.Keep, err = fromproto.PositiveDuration(pb.CacheDuration, defaultKeep); err != nil {
		return nil, filter.At("cache_duration", err)
	}
	if r.Refetch, err = fromproto.PositiveDuration(pb.AsyncFetch.GetFailedRefetchDuration(), time.Second); err != nil {
		return nil, filter.At("async_fetch.failed_refetch_duration", err)
	}
	if pb.RetryPolicy != nil {
		err = fromproto.Check(pb.RetryPolicy, p, fromproto.Fields{Used: []string{"retry_back_off", "num_retries"}})
		if err == nil {
			r.Retries, err = fromproto.RetriesOn(pb.RetryPolicy, refetched)
		}
	}
	return r, filter.At("retry_policy", err)
}

// refetched is on what keys are fetched again at once: nothing else is configured, in Envoy either.
const refetched = "5xx,gateway-error,connect-failure,reset"

// parseRoute decodes envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb jwtauthnv3.PerRouteConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	return &Config{route: &routeConfig{disabled: pb.GetDisabled(), name: pb.GetRequirementName()}}, nil
}
