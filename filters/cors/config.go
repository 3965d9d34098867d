package cors

import (
	"errors"
	"strings"
	"unicode"

	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// parse decodes envoy.extensions.filters.http.cors.v3.Cors, which says nothing.
func parse(raw []byte, _ *filter.Parser) (*Policy, error) {
	var pb corsv3.Cors
	return nil, fromproto.Unmarshal(raw, &pb)
}

// parsePolicy decodes envoy.extensions.filters.http.cors.v3.CorsPolicy.
func parsePolicy(raw []byte, p *filter.Parser) (*Policy, error) {
	var pb corsv3.CorsPolicy
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"allow_origin_string_match", "allow_methods", "allow_headers", "expose_headers", "max_age", "allow_credentials",
		"filter_enabled", "shadow_enabled", "allow_private_network_access", "forward_not_matching_preflights",
	}})
	if err != nil {
		return nil, err
	}
	c := &Policy{
		Methods: pb.AllowMethods, Headers: pb.AllowHeaders, Expose: pb.ExposeHeaders, MaxAge: pb.MaxAge,
		Credentials: flag(pb.AllowCredentials), PrivateNetwork: flag(pb.AllowPrivateNetworkAccess), ForwardPreflights: flag(pb.ForwardNotMatchingPreflights),
		Enabled: fromproto.RuntimeFractional(pb.FilterEnabled, runtime.Fraction{Numerator: 100, Denominator: 100}).On(p.Runtime),
		Shadow:  fromproto.RuntimeFractional(pb.ShadowEnabled, runtime.Fraction{Denominator: 100}).On(p.Runtime),
	}
	for _, f := range []struct{ name, value string }{
		{"allow_methods", c.Methods}, {"allow_headers", c.Headers}, {"expose_headers", c.Expose}, {"max_age", c.MaxAge},
	} {
		if strings.ContainsFunc(f.value, unicode.IsControl) {
			return nil, filter.At(f.name, errors.New("is no value of a header field"))
		}
	}
	c.Origins, err = fromproto.StringList("allow_origin_string_match", pb.AllowOriginStringMatch)
	return c, err
}

func flag(pb *wrapperspb.BoolValue) *bool {
	if pb == nil {
		return nil
	}
	return &pb.Value
}
