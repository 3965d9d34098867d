package fromproto

import (
	"errors"
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
)

func matchFields() Fields {
	return Fields{Used: []string{
		"prefix", "path", "safe_regex", "connect_matcher", "path_separated_prefix", "case_sensitive", "runtime_fraction",
		"headers", "query_parameters", "cookies", "grpc", "path_match_policy", "tls_context", "dynamic_metadata", "filter_state",
	}}
}

// RequestMatch converts a RouteMatch into a test of streams.
func RequestMatch(pb *routev3.RouteMatch, p *filter.Parser) (func(*filter.Stream) bool, error) {
	m, err := routeMatch(pb, p)
	return m.Holds, err
}

// routeMatch converts a RouteMatch.
func routeMatch(pb *routev3.RouteMatch, p *filter.Parser) (m route.Match, err error) {
	if pb == nil {
		return m, errors.New("is required")
	}
	if err := Check(pb, p, matchFields()); err != nil {
		return m, err
	}
	if err := pathMatch(pb, &m); err != nil {
		return m, err
	}
	m.More, err = conditions(pb, p)
	return m, err
}

// conditions converts what is not about the path; nil if there is nothing of that kind.
func conditions(pb *routev3.RouteMatch, p *filter.Parser) (*route.Conditions, error) {
	if pb.RuntimeFraction == nil && pb.Grpc == nil && pb.TlsContext == nil &&
		len(pb.Headers)+len(pb.QueryParameters)+len(pb.Cookies)+len(pb.DynamicMetadata)+len(pb.FilterState) == 0 {
		return nil, nil
	}
	m := &route.Conditions{GRPC: pb.Grpc != nil}
	if f := pb.RuntimeFraction; f != nil {
		fraction := RuntimeFractional(f, match.Fraction{}).On(p.Runtime)
		m.Fraction = &fraction
	}
	if t := pb.TlsContext; t != nil {
		m.TLS = &route.TLS{Presented: optional(t.Presented), Validated: optional(t.Validated)}
	}
	var err error
	if m.Headers, err = Headers("headers", pb.Headers); err != nil {
		return nil, err
	}
	if m.Query, err = queries("query_parameters", pb.QueryParameters); err != nil {
		return nil, err
	}
	for i, c := range pb.Cookies {
		s, err := String(c.GetStringMatch())
		if err != nil {
			return nil, filter.AtIndex("cookies", i, filter.At("string_match", err))
		}
		m.Cookies = append(m.Cookies, match.Cookie{Name: c.Name, Text: s, Invert: c.InvertMatch})
	}
	for i, c := range pb.DynamicMetadata {
		md, err := Metadata(c)
		if err != nil {
			return nil, filter.AtIndex("dynamic_metadata", i, err)
		}
		m.Metadata = append(m.Metadata, md)
	}
	for i, c := range pb.FilterState {
		fs, err := filterState(c)
		if err != nil {
			return nil, filter.AtIndex("filter_state", i, err)
		}
		m.State = append(m.State, fs)
	}
	return m, nil
}

func optional(pb *wrapperspb.BoolValue) *bool {
	if pb == nil {
		return nil
	}
	return &pb.Value
}

func queries(field string, list []*routev3.QueryParameterMatcher) (out []match.Query, err error) {
	for i, pb := range list {
		q, err := queryMatch(pb)
		if err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
		out = append(out, q)
	}
	return out, nil
}

func filterState(pb *matcherv3.FilterStateMatcher) (f route.FilterState, err error) {
	f.Key = pb.GetKey()
	switch m := pb.GetMatcher().(type) {
	case *matcherv3.FilterStateMatcher_StringMatch:
		f.Text, err = String(m.StringMatch)
		return f, filter.At("string_match", err)
	case *matcherv3.FilterStateMatcher_AddressMatch:
		if f.Ranges, err = CIDRs("ranges", m.AddressMatch.GetRanges()); err != nil {
			return f, filter.At("address_match", err)
		}
		f.Invert = m.AddressMatch.GetInvertMatch()
		return f, nil
	case nil:
		return f, errors.New("one of string_match, address_match must be set")
	default:
		return f, fmt.Errorf("this build does not support the filter state matcher %T", m)
	}
}

func pathMatch(pb *routev3.RouteMatch, m *route.Match) error {
	ignoreCase := pb.CaseSensitive != nil && !pb.CaseSensitive.Value
	switch s := pb.PathSpecifier.(type) {
	case *routev3.RouteMatch_Prefix:
		m.Path = match.PathPrefix(s.Prefix, ignoreCase)
	case *routev3.RouteMatch_Path:
		m.Path = match.PathExact(s.Path, ignoreCase)
	case *routev3.RouteMatch_PathSeparatedPrefix:
		if strings.HasSuffix(s.PathSeparatedPrefix, "/") {
			return filter.At("path_separated_prefix", errors.New("must not end in a slash"))
		}
		m.Path = match.PathSeparated(s.PathSeparatedPrefix, ignoreCase)
	case *routev3.RouteMatch_SafeRegex:
		re, err := Regex(s.SafeRegex)
		if err != nil {
			return filter.At("safe_regex", err)
		}
		m.Path = match.PathRegexp(re)
	case *routev3.RouteMatch_ConnectMatcher_:
		m.Connect = true
	case *routev3.RouteMatch_PathMatchPolicy:
		t, err := PathTemplate(s.PathMatchPolicy)
		if err != nil {
			return filter.At("path_match_policy", err)
		}
		m.Path = match.PathTemplate(t)
	case nil:
		return errors.New("one of prefix, path, safe_regex, connect_matcher, path_separated_prefix, path_match_policy must be set")
	default:
		return fmt.Errorf("this build does not support the path matcher %T", s)
	}
	return nil
}

func queryMatch(pb *routev3.QueryParameterMatcher) (match.Query, error) {
	q := match.Query{Name: pb.GetName()}
	switch m := pb.GetQueryParameterMatchSpecifier().(type) {
	case *routev3.QueryParameterMatcher_StringMatch:
		s, err := String(m.StringMatch)
		q.Text = s
		return q, filter.At("string_match", err)
	case *routev3.QueryParameterMatcher_PresentMatch:
		q.Kind = match.QueryPresent
		if !m.PresentMatch {
			q.Kind = match.QueryAbsent
		}
		return q, nil
	case nil:
		q.Kind = match.QueryPresent
		return q, nil
	default:
		return q, fmt.Errorf("this build does not support the query parameter matcher %T", m)
	}
}
