package fromproto

import (
	"fmt"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	allowlistedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/internal_redirect/allow_listed_routes/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
)

const (
	previousRoutes    = "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig"
	allowListedRoutes = "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig"
	safeCrossScheme   = "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig"
)

// internalRedirect converts internal_redirect_policy, or what was there before it.
func internalRedirect(a *routev3.RouteAction, f *route.ForwardAction) error {
	pb := a.InternalRedirectPolicy
	if pb == nil {
		if a.InternalRedirectAction != routev3.RouteAction_HANDLE_INTERNAL_REDIRECT { //nolint:staticcheck // deprecated, still sent
			return nil
		}
		pb = &routev3.InternalRedirectPolicy{MaxInternalRedirects: a.MaxInternalRedirects} //nolint:staticcheck // as above
	}
	p := &route.InternalRedirect{Max: 1, CrossScheme: pb.AllowCrossSchemeRedirect, Codes: []int{302}}
	if n := pb.MaxInternalRedirects; n != nil {
		p.Max = int(n.Value)
	}
	if len(pb.RedirectResponseCodes) > 0 {
		p.Codes = nil
		for _, c := range pb.RedirectResponseCodes {
			if slices.Contains(redirectCodes[:], int(c)) {
				p.Codes = append(p.Codes, int(c))
			}
		}
	}
	for i, x := range pb.Predicates {
		if err := redirectPredicate(x.GetTypedConfig(), p); err != nil {
			return filter.At("internal_redirect_policy", filter.AtIndex("predicates", i, filter.At("typed_config", err)))
		}
	}
	for i, name := range pb.ResponseHeadersToCopy {
		if name == "" || name[0] == ':' {
			return filter.At("internal_redirect_policy", filter.AtIndex("response_headers_to_copy", i, fmt.Errorf("%q cannot be copied", name)))
		}
		p.Copy = append(p.Copy, match.HeaderName(name))
	}
	f.Redirect = p
	return nil
}

func redirectPredicate(pb *anypb.Any, p *route.InternalRedirect) error {
	c, err := Any(pb)
	if err != nil {
		return err
	}
	switch c.Type {
	case previousRoutes:
		p.Previous = true
	case safeCrossScheme:
		p.Safe = true
	case allowListedRoutes:
		var m allowlistedv3.AllowListedRoutesConfig
		if err := proto.Unmarshal(c.Value, &m); err != nil {
			return err
		}
		p.Allowed = append([]string{}, m.AllowedRouteNames...)
	default:
		return fmt.Errorf("this build does not support the predicate %q", c.Type)
	}
	return nil
}
