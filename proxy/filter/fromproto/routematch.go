package fromproto

import (
	"errors"
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
)

func matchFields() Fields {
	return Fields{Used: []string{
		"prefix", "path", "safe_regex", "connect_matcher", "path_separated_prefix", "case_sensitive", "runtime_fraction",
		"headers", "query_parameters", "cookies", "grpc",
	}}
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
	if m.Headers, err = Headers("headers", pb.Headers); err != nil {
		return m, err
	}
	for i, q := range pb.QueryParameters {
		qm, err := queryMatch(q)
		if err != nil {
			return m, filter.AtIndex("query_parameters", i, err)
		}
		m.Query = append(m.Query, qm)
	}
	for i, c := range pb.Cookies {
		s, err := String(c.GetStringMatch())
		if err != nil {
			return m, filter.AtIndex("cookies", i, filter.At("string_match", err))
		}
		m.Cookies = append(m.Cookies, match.Cookie{Name: c.Name, Text: s, Invert: c.InvertMatch})
	}
	if f := pb.RuntimeFraction; f != nil {
		fraction := RuntimeFraction(f)
		m.Fraction = &fraction
	}
	m.GRPC = pb.Grpc != nil
	return m, nil
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
	case nil:
		return errors.New("one of prefix, path, safe_regex, connect_matcher, path_separated_prefix must be set")
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
