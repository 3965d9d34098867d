package fromproto

import (
	"errors"
	"fmt"
	"net/netip"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
)

// String converts a StringMatcher.
func String(pb *matcherv3.StringMatcher) (match.String, error) {
	switch m := pb.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return match.Exact(m.Exact, pb.IgnoreCase), nil
	case *matcherv3.StringMatcher_Prefix:
		return match.Prefix(m.Prefix, pb.IgnoreCase), nil
	case *matcherv3.StringMatcher_Suffix:
		return match.Suffix(m.Suffix, pb.IgnoreCase), nil
	case *matcherv3.StringMatcher_Contains:
		return match.Contains(m.Contains, pb.IgnoreCase), nil
	case *matcherv3.StringMatcher_SafeRegex:
		if pb.IgnoreCase {
			return match.String{}, filter.At("ignore_case", errors.New("has no effect on safe_regex: begin the expression with (?i)"))
		}
		re, err := Regex(m.SafeRegex)
		if err != nil {
			return match.String{}, filter.At("safe_regex", err)
		}
		return match.Matching(re), nil
	case nil:
		return match.String{}, errors.New("one of exact, prefix, suffix, contains, safe_regex must be set")
	default:
		return match.String{}, fmt.Errorf("this build does not support the string matcher %T", m)
	}
}

// Regex converts a RegexMatcher.
func Regex(pb *matcherv3.RegexMatcher) (*match.Regexp, error) {
	re, err := match.CompileRegexp(pb.GetRegex())
	return re, filter.At("regex", err)
}

// Substitution converts a RegexMatchAndSubstitute.
func Substitution(pb *matcherv3.RegexMatchAndSubstitute) (*match.Substitution, error) {
	re, err := Regex(pb.GetPattern())
	if err != nil {
		return nil, filter.At("pattern", err)
	}
	s, err := match.NewSubstitution(re, pb.GetSubstitution())
	return s, filter.At("substitution", err)
}

// Header converts a HeaderMatcher.
func Header(pb *routev3.HeaderMatcher) (match.Header, error) {
	o := match.HeaderOptions{Name: pb.GetName(), Invert: pb.GetInvertMatch(), MissingIsEmpty: pb.GetTreatMissingHeaderAsEmpty()}
	if o.Name == "" {
		return match.Header{}, filter.At("name", errors.New("must not be empty"))
	}
	text := func(s match.String) (match.Header, error) { return match.HeaderText(o, s), nil }
	switch m := pb.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_ExactMatch:
		return text(match.Exact(m.ExactMatch, false))
	case *routev3.HeaderMatcher_PrefixMatch:
		return text(match.Prefix(m.PrefixMatch, false))
	case *routev3.HeaderMatcher_SuffixMatch:
		return text(match.Suffix(m.SuffixMatch, false))
	case *routev3.HeaderMatcher_ContainsMatch:
		return text(match.Contains(m.ContainsMatch, false))
	case *routev3.HeaderMatcher_SafeRegexMatch:
		re, err := Regex(m.SafeRegexMatch)
		if err != nil {
			return match.Header{}, filter.At("safe_regex_match", err)
		}
		return text(match.Matching(re))
	case *routev3.HeaderMatcher_StringMatch:
		s, err := String(m.StringMatch)
		if err != nil {
			return match.Header{}, filter.At("string_match", err)
		}
		return text(s)
	case *routev3.HeaderMatcher_RangeMatch:
		return match.HeaderRange(o, m.RangeMatch.GetStart(), m.RangeMatch.GetEnd()), nil
	case *routev3.HeaderMatcher_PresentMatch:
		return match.HeaderPresent(o, m.PresentMatch), nil
	case nil:
		return match.HeaderPresent(o, true), nil
	default:
		return match.Header{}, fmt.Errorf("this build does not support the header matcher %T", m)
	}
}

// Headers converts a list of HeaderMatchers; field is its name, for errors.
func Headers(field string, list []*routev3.HeaderMatcher) (match.Headers, error) {
	var out match.Headers
	for i, pb := range list {
		h, err := Header(pb)
		if err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
		out = append(out, h)
	}
	return out, nil
}

// Fraction converts a FractionalPercent; nil is nothing of everything.
func Fraction(pb *typev3.FractionalPercent) match.Fraction {
	f := match.Fraction{Numerator: pb.GetNumerator(), Denominator: 100}
	switch pb.GetDenominator() {
	case typev3.FractionalPercent_TEN_THOUSAND:
		f.Denominator = 10_000
	case typev3.FractionalPercent_MILLION:
		f.Denominator = 1_000_000
	}
	return f
}

// cidrRange is a CidrRange of Envoy's API or of xDS's.
type cidrRange interface {
	GetAddressPrefix() string
	GetPrefixLen() *wrapperspb.UInt32Value
}

// CIDRs converts a list of CidrRanges; field is its name, for errors. No prefix_len is
// none at all: everything.
func CIDRs[R cidrRange](field string, list []R) (match.CIDRs, error) {
	var out match.CIDRs
	for i, c := range list {
		prefix, err := CIDR(c)
		if err != nil {
			return nil, filter.AtIndex(field, i, err)
		}
		out = append(out, prefix)
	}
	return out, nil
}

// CIDR converts a CidrRange, see CIDRs.
func CIDR[R cidrRange](c R) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(c.GetAddressPrefix())
	if err != nil {
		return netip.Prefix{}, filter.At("address_prefix", fmt.Errorf("%q is not an IP address", c.GetAddressPrefix()))
	}
	bits := min(c.GetPrefixLen().GetValue(), uint32(addr.BitLen())) // as lenient as Envoy
	return addr.WithZone("").Prefix(int(bits))
}
