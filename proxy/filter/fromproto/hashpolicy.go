package fromproto

import (
	"errors"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// lbLabels are the labels that a metadata_match asks of hosts.
func lbLabels(pb *corev3.Metadata) cluster.Labels {
	return cluster.NewLabels(pb.GetFilterMetadata()["envoy.lb"].AsMap())
}

func hashPolicies(a *routev3.RouteAction, f *route.ForwardAction) error {
	for i, pb := range a.HashPolicy {
		p, err := hashPolicy(pb)
		if err != nil {
			return filter.AtIndex("hash_policy", i, err)
		}
		if p.Kind == route.HashSourceIP && !pb.GetConnectionProperties().SourceIp {
			continue // nothing of the connection counts
		}
		f.HashPolicies = append(f.HashPolicies, p)
	}
	return nil
}

func hashPolicy(pb *routev3.RouteAction_HashPolicy) (p route.HashPolicy, err error) {
	p.Terminal = pb.Terminal
	required := func(field, name string) error {
		if name == "" {
			return filter.At(field, errors.New("is required"))
		}
		return nil
	}
	switch s := pb.PolicySpecifier.(type) {
	case *routev3.RouteAction_HashPolicy_Header_:
		p.Kind, p.Name = route.HashHeader, match.HeaderName(s.Header.HeaderName)
		if s.Header.RegexRewrite != nil {
			if p.Rewrite, err = Substitution(s.Header.RegexRewrite); err != nil {
				return p, filter.At("header.regex_rewrite", err)
			}
		}
		return p, required("header.header_name", p.Name)
	case *routev3.RouteAction_HashPolicy_Cookie_:
		p.Kind, p.Name = route.HashCookie, s.Cookie.Name
		if err := required("cookie.name", p.Name); err != nil {
			return p, err
		}
		p.Cookie, err = newCookie(s.Cookie)
		return p, filter.At("cookie", err)
	case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
		p.Kind = route.HashSourceIP
	case *routev3.RouteAction_HashPolicy_QueryParameter_:
		p.Kind, p.Name = route.HashQuery, s.QueryParameter.Name
		return p, required("query_parameter.name", p.Name)
	case *routev3.RouteAction_HashPolicy_FilterState_:
		p.Kind, p.Name = route.HashState, s.FilterState.Key
		return p, required("filter_state.key", p.Name)
	case nil:
		return p, errors.New("one of header, cookie, connection_properties, query_parameter, filter_state must be set")
	default:
		return p, fmt.Errorf("this build does not support the hash policy %T", s)
	}
	return p, nil
}

// newCookie is nil for a cookie without ttl, which is not made.
func newCookie(pb *routev3.RouteAction_HashPolicy_Cookie) (*route.NewCookie, error) {
	if pb.Ttl == nil {
		return nil, nil
	}
	ttl, err := Duration(pb.Ttl, 0)
	if err != nil {
		return nil, filter.At("ttl", err)
	}
	c := &route.NewCookie{TTL: ttl.Truncate(time.Second), Path: pb.Path}
	for i, a := range pb.Attributes {
		if a.Name == "" {
			return nil, filter.AtIndex("attributes", i, filter.At("name", errors.New("is required")))
		}
		c.Attributes = append(c.Attributes, route.CookieAttribute{Name: a.Name, Value: a.Value})
	}
	return c, nil
}
