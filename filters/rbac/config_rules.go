package rbac

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	mtlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/rbac/principals/mtls_authenticated/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/match"
)

func quoted(s string) string { return strconv.Quote(s) }

func (b *builder) permission(pb *rbacv3.Permission) (m matcher, err error) {
	switch r := pb.GetRule().(type) {
	case *rbacv3.Permission_AndRules:
		all, err := b.permissions(r.AndRules)
		return allOf(all), filter.At("and_rules", err)
	case *rbacv3.Permission_OrRules:
		any, err := b.permissions(r.OrRules)
		return simplest(any), filter.At("or_rules", err)
	case *rbacv3.Permission_NotRule:
		of, err := b.permission(r.NotRule)
		return not{of}, filter.At("not_rule", err)
	case *rbacv3.Permission_Any:
		return always{}, nil
	case *rbacv3.Permission_Header:
		m, err = b.header(r.Header)
		return m, filter.At("header", err)
	case *rbacv3.Permission_UrlPath:
		m, err = b.path(r.UrlPath)
		return m, filter.At("url_path", err)
	case *rbacv3.Permission_UriTemplate:
		b.httpOnly("uri_template")
		t, err := fromproto.PathTemplate(r.UriTemplate)
		return template{t}, filter.At("uri_template", err)
	case *rbacv3.Permission_DestinationIp:
		m, err = ranges(destination, r.DestinationIp)
		return m, filter.At("destination_ip", err)
	case *rbacv3.Permission_DestinationPort:
		return port{r.DestinationPort, r.DestinationPort + 1}, nil
	case *rbacv3.Permission_DestinationPortRange:
		low, high := r.DestinationPortRange.GetStart(), r.DestinationPortRange.GetEnd()
		if low < 0 || high > 65536 || low >= high {
			return nil, filter.At("destination_port_range", fmt.Errorf("%d to %d is not a range of ports; its end is not part of it", low, high))
		}
		return port{uint32(low), uint32(high)}, nil
	case *rbacv3.Permission_RequestedServerName:
		s, err := fromproto.String(r.RequestedServerName)
		return &serverName{s}, filter.At("requested_server_name", err)
	case *rbacv3.Permission_Metadata:
		m, err = b.metadata(r.Metadata, rbacv3.MetadataSource_DYNAMIC)
		return m, filter.At("metadata", err)
	case *rbacv3.Permission_SourcedMetadata:
		m, err = b.metadata(r.SourcedMetadata.GetMetadataMatcher(), r.SourcedMetadata.GetMetadataSource())
		return m, filter.At("sourced_metadata", err)
	case *rbacv3.Permission_Matcher:
		c, err := fromproto.Any(r.Matcher.GetTypedConfig())
		if err == nil {
			err = fmt.Errorf("this build does not support the matcher %q", c.Type)
		}
		return nil, filter.At("matcher", filter.At("typed_config", err))
	case nil:
		return nil, errors.New("a rule must be set")
	}
	return nil, fmt.Errorf("this build does not support the permission %T", pb.GetRule())
}

func (b *builder) permissions(pb *rbacv3.Permission_Set) (out anyOf, err error) {
	for i, one := range pb.GetRules() {
		m, err := b.permission(one)
		if err != nil {
			return nil, filter.AtIndex("rules", i, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func (b *builder) principal(pb *rbacv3.Principal) (m matcher, err error) {
	switch r := pb.GetIdentifier().(type) {
	case *rbacv3.Principal_AndIds:
		all, err := b.principals(r.AndIds)
		return allOf(all), filter.At("and_ids", err)
	case *rbacv3.Principal_OrIds:
		any, err := b.principals(r.OrIds)
		return simplest(any), filter.At("or_ids", err)
	case *rbacv3.Principal_NotId:
		of, err := b.principal(r.NotId)
		return not{of}, filter.At("not_id", err)
	case *rbacv3.Principal_Any:
		return always{}, nil
	case *rbacv3.Principal_Authenticated_:
		m, err = b.authenticated(r.Authenticated)
		return m, filter.At("authenticated", err)
	case *rbacv3.Principal_SourceIp:
		m, err = ranges(accepted, r.SourceIp) //nolint:staticcheck // deprecated, and still sent
		return m, filter.At("source_ip", err)
	case *rbacv3.Principal_DirectRemoteIp:
		m, err = ranges(directRemote, r.DirectRemoteIp)
		return m, filter.At("direct_remote_ip", err)
	case *rbacv3.Principal_RemoteIp:
		m, err = ranges(remote, r.RemoteIp)
		return m, filter.At("remote_ip", err)
	case *rbacv3.Principal_Header:
		m, err = b.header(r.Header)
		return m, filter.At("header", err)
	case *rbacv3.Principal_UrlPath:
		m, err = b.path(r.UrlPath)
		return m, filter.At("url_path", err)
	case *rbacv3.Principal_Metadata:
		m, err = b.metadata(r.Metadata, rbacv3.MetadataSource_DYNAMIC) //nolint:staticcheck // as above
		return m, filter.At("metadata", err)
	case *rbacv3.Principal_SourcedMetadata:
		m, err = b.metadata(r.SourcedMetadata.GetMetadataMatcher(), r.SourcedMetadata.GetMetadataSource())
		return m, filter.At("sourced_metadata", err)
	case *rbacv3.Principal_FilterState:
		m, err = b.filterState(r.FilterState)
		return m, filter.At("filter_state", err)
	case *rbacv3.Principal_Custom:
		m, err = b.custom(r.Custom)
		return m, filter.At("custom", filter.At("typed_config", err))
	case nil:
		return nil, errors.New("an identifier must be set")
	}
	return nil, fmt.Errorf("this build does not support the principal %T", pb.GetIdentifier())
}

func (b *builder) principals(pb *rbacv3.Principal_Set) (out anyOf, err error) {
	for i, one := range pb.GetIds() {
		m, err := b.principal(one)
		if err != nil {
			return nil, filter.AtIndex("ids", i, err)
		}
		out = append(out, m)
	}
	return out, nil
}

func (b *builder) header(pb *routev3.HeaderMatcher) (matcher, error) {
	if !b.http {
		return nil, errors.New("a connection has no headers")
	}
	h, err := fromproto.Header(pb)
	return &field{h}, err
}

// httpOnly warns of what never matches a connection.
func (b *builder) httpOnly(what string) {
	if !b.http {
		b.p.Warnings = append(b.p.Warnings, "RBAC: "+what+" never matches a connection")
	}
}

func (b *builder) path(pb *matcherv3.PathMatcher) (matcher, error) {
	b.httpOnly("url_path")
	s, err := fromproto.String(pb.GetPath())
	return &path{s}, filter.At("path", err)
}

func ranges(of whose, pb *corev3.CidrRange) (matcher, error) {
	in, err := fromproto.CIDR(pb)
	return &address{of, match.CIDRs([]netip.Prefix{in})}, err
}

func (b *builder) metadata(pb *matcherv3.MetadataMatcher, source rbacv3.MetadataSource) (matcher, error) {
	m, err := fromproto.Metadata(pb)
	switch source {
	case rbacv3.MetadataSource_DYNAMIC:
		b.late = true
		return &dynamicMetadata{m}, err
	case rbacv3.MetadataSource_ROUTE:
		return &routeMetadata{m}, err
	}
	return nil, filter.At("metadata_source", errors.New("is none of DYNAMIC, ROUTE"))
}

func (b *builder) authenticated(pb *rbacv3.Principal_Authenticated) (matcher, error) {
	if pb.GetPrincipalName() == nil {
		return &authenticated{}, nil
	}
	s, err := fromproto.String(pb.PrincipalName)
	return &authenticated{&s}, filter.At("principal_name", err)
}

func (b *builder) filterState(pb *matcherv3.FilterStateMatcher) (matcher, error) {
	b.late = true
	out := &state{key: pb.GetKey()}
	switch m := pb.GetMatcher().(type) {
	case *matcherv3.FilterStateMatcher_StringMatch:
		s, err := fromproto.String(m.StringMatch)
		out.text = &s
		return out, filter.At("string_match", err)
	case *matcherv3.FilterStateMatcher_AddressMatch:
		in, err := fromproto.CIDRs("ranges", m.AddressMatch.GetRanges())
		out.in, out.invert = in, m.AddressMatch.GetInvertMatch()
		return out, filter.At("address_match", err)
	}
	return nil, errors.New("one of string_match, address_match must be set")
}

const mutualTLS = "envoy.extensions.rbac.principals.mtls_authenticated.v3.Config"

// custom converts an extension of the category envoy.rbac.principals.
func (b *builder) custom(pb *corev3.TypedExtensionConfig) (matcher, error) {
	c, err := fromproto.Any(pb.GetTypedConfig())
	if err != nil {
		return nil, err
	}
	if c.Type != mutualTLS {
		return nil, fmt.Errorf("this build does not support the principal %q", c.Type)
	}
	var m mtlsv3.Config
	if err := fromproto.Unmarshal(c.Value, &m); err != nil {
		return nil, err
	}
	if m.SanMatcher == nil {
		if !m.AnyValidatedClientCertificate {
			return nil, errors.New("one of san_matcher, any_validated_client_certificate must be set")
		}
		return &mutual{}, nil
	}
	names, err := fromproto.NameOfCertificate(m.SanMatcher)
	return &mutual{names}, filter.At("san_matcher", err)
}
