package fromproto

import (
	"errors"
	"fmt"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	metadatav3 "github.com/envoyproxy/go-control-plane/envoy/type/metadata/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/ratelimit"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/runtime"
)

// RateLimits converts a list named rate_limits.
func RateLimits(list []*routev3.RateLimit, p *filter.Parser) (out ratelimit.Limits, err error) {
	for i, pb := range list {
		l, err := rateLimit(pb, p)
		if err != nil {
			return nil, filter.AtIndex("rate_limits", i, err)
		}
		out = append(out, l)
	}
	return out, nil
}

func rateLimit(pb *routev3.RateLimit, p *filter.Parser) (l ratelimit.Limit, err error) {
	err = Check(pb, p, Fields{Used: []string{
		"stage", "disable_key", "actions", "limit", "hits_addend", "apply_on_stream_done", "x_ratelimit_option",
	}})
	if err != nil {
		return l, err
	}
	l.Stage, l.OnDone, l.Headers = pb.GetStage().GetValue(), pb.ApplyOnStreamDone, ratelimit.Option(pb.XRatelimitOption)
	if pb.DisableKey != "" {
		key := runtime.UintSetting{Key: "ratelimit." + pb.DisableKey + ".http_filter_enabled", Default: 100}
		l.Keyed, l.Enabled = true, key.On(p.Runtime)
	}
	for i, a := range pb.Actions {
		action, err := rateLimitAction(a)
		if err != nil {
			return l, filter.AtIndex("actions", i, err)
		}
		l.Actions = append(l.Actions, action)
	}
	if pb.Limit != nil {
		md := pb.Limit.GetDynamicMetadata()
		if md == nil {
			return l, filter.At("limit", errors.New("dynamic_metadata must be set"))
		}
		key := metadataKey(md.MetadataKey)
		l.Override = &key
	}
	l.Hits, err = hits(pb.HitsAddend)
	return l, filter.At("hits_addend", err)
}

func hits(pb *routev3.RateLimit_HitsAddend) (*ratelimit.Hits, error) {
	if pb == nil {
		return nil, nil
	}
	h := &ratelimit.Hits{Number: pb.Number.GetValue(), Negative: pb.IsNegativeHits}
	if pb.Number != nil && pb.Format != "" {
		return nil, errors.New("only one of number and format may be set")
	}
	if pb.Number == nil && pb.Format == "" {
		h.Number = 1
	}
	var err error
	h.Format, err = valueFormat(pb.Format)
	return h, filter.At("format", err)
}

func metadataKey(pb *metadatav3.MetadataKey) ratelimit.MetadataKey {
	k := ratelimit.MetadataKey{Namespace: pb.GetKey()}
	for _, p := range pb.GetPath() {
		k.Path = append(k.Path, p.GetKey())
	}
	return k
}

func rateLimitAction(pb *routev3.RateLimit_Action) (a ratelimit.Action, err error) {
	switch m := pb.GetActionSpecifier().(type) {
	case *routev3.RateLimit_Action_SourceCluster_:
		a.Kind = ratelimit.SourceCluster
	case *routev3.RateLimit_Action_DestinationCluster_:
		a.Kind = ratelimit.DestinationCluster
	case *routev3.RateLimit_Action_RemoteAddress_:
		a.Kind = ratelimit.RemoteAddress
	case *routev3.RateLimit_Action_RequestHeaders_:
		h := m.RequestHeaders
		a = ratelimit.Action{Kind: ratelimit.RequestHeader, Key: h.DescriptorKey, Name: match.HeaderName(h.HeaderName), Skip: h.SkipIfAbsent}
	case *routev3.RateLimit_Action_QueryParameters_:
		q := m.QueryParameters
		a = ratelimit.Action{Kind: ratelimit.QueryParameter, Key: q.DescriptorKey, Name: q.QueryParameterName, Skip: q.SkipIfAbsent}
	case *routev3.RateLimit_Action_MaskedRemoteAddress_:
		a = ratelimit.Action{Kind: ratelimit.MaskedRemoteAddress, V4: prefixLength(m.MaskedRemoteAddress.V4PrefixMaskLen, 32), V6: prefixLength(m.MaskedRemoteAddress.V6PrefixMaskLen, 128)}
	case *routev3.RateLimit_Action_DynamicMetadata:
		d := m.DynamicMetadata //nolint:staticcheck // deprecated, still sent
		a = ratelimit.Action{Kind: ratelimit.DynamicMetadata, Key: d.DescriptorKey, Default: d.DefaultValue, Meta: metadataKey(d.MetadataKey)}
	case *routev3.RateLimit_Action_Metadata:
		d := m.Metadata
		a = ratelimit.Action{Kind: ratelimit.DynamicMetadata, Key: d.DescriptorKey, Default: d.DefaultValue, Skip: d.SkipIfAbsent, Meta: metadataKey(d.MetadataKey)}
		if d.Source == routev3.RateLimit_Action_MetaData_ROUTE_ENTRY {
			a.Kind = ratelimit.RouteMetadata
		}
	case *routev3.RateLimit_Action_Extension:
		c, err := Any(m.Extension.GetTypedConfig())
		if err == nil {
			err = fmt.Errorf("this build does not support the rate limit descriptor %q", c.Type)
		}
		return a, filter.At("extension.typed_config", err)
	default:
		return matchAction(pb)
	}
	return a, nil
}

// matchAction converts the actions with a value of their own.
func matchAction(pb *routev3.RateLimit_Action) (a ratelimit.Action, err error) {
	field, value := "", ""
	switch m := pb.GetActionSpecifier().(type) {
	case *routev3.RateLimit_Action_GenericKey_:
		g := m.GenericKey
		field, value = "generic_key", g.DescriptorValue
		a = ratelimit.Action{Kind: ratelimit.GenericKey, Key: orElse(g.DescriptorKey, "generic_key"), Default: g.DefaultValue}
	case *routev3.RateLimit_Action_HeaderValueMatch_:
		h := m.HeaderValueMatch
		field, value = "header_value_match", h.DescriptorValue
		a = ratelimit.Action{Kind: ratelimit.HeaderMatch, Key: orElse(h.DescriptorKey, "header_match"), Default: h.DefaultValue, Expect: expected(h.ExpectMatch)}
		a.Headers, err = Headers("headers", h.Headers)
	case *routev3.RateLimit_Action_QueryParameterValueMatch_:
		q := m.QueryParameterValueMatch
		field, value = "query_parameter_value_match", q.DescriptorValue
		a = ratelimit.Action{Kind: ratelimit.QueryMatch, Key: orElse(q.DescriptorKey, "query_match"), Default: q.DefaultValue, Expect: expected(q.ExpectMatch)}
		a.Query, err = queries("query_parameters", q.QueryParameters)
	case *routev3.RateLimit_Action_RemoteAddressMatch_:
		r := m.RemoteAddressMatch
		field, value = "remote_address_match", r.DescriptorValue
		a = ratelimit.Action{Kind: ratelimit.AddressMatch, Key: orElse(r.DescriptorKey, "remote_address_match"), Default: r.DefaultValue, Invert: r.AddressMatcher.GetInvertMatch()}
		a.Ranges, err = CIDRs("ranges", r.AddressMatcher.GetRanges())
		err = filter.At("address_matcher", err)
	case nil:
		return a, errors.New("an action must be set")
	default:
		return a, fmt.Errorf("this build does not support the rate limit action %T", m)
	}
	if err != nil {
		return a, filter.At(field, err)
	}
	f, err := valueFormat(value)
	if err != nil {
		return a, filter.At(field, filter.At("descriptor_value", err))
	}
	a.Value, a.Format = plainOr(f)
	a.Query = slices.Clip(a.Query)
	return a, nil
}

// plainOr returns the text of a format without operators, or the format.
func plainOr(f *accesslog.Format) (string, *accesslog.Format) {
	if f == nil {
		return "", nil
	}
	if text, ok := f.Literal(); ok {
		return text, nil
	}
	return "", f
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func expected(pb *wrapperspb.BoolValue) bool { return pb == nil || pb.Value }

func prefixLength(pb *wrapperspb.UInt32Value, otherwise int) int {
	if pb == nil {
		return otherwise
	}
	return int(pb.Value)
}
