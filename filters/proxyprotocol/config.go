package proxyprotocol

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// fields is what of ProxyProtocol this build obeys.
var fields = fromproto.Fields{Used: []string{
	"rules", "allow_requests_without_proxy_protocol", "pass_through_tlvs", "disallowed_versions", "stat_prefix", "tlv_location",
}}

// parseConfig decodes envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.
func parseConfig(raw []byte, p *filter.Parser) (*Config, error) {
	var pb proxyprotocolv3.ProxyProtocol
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fields); err != nil {
		return nil, err
	}
	c := &Config{
		Optional: pb.AllowRequestsWithoutProxyProtocol, StatPrefix: pb.StatPrefix, Rules: map[byte]Rule{},
		InState: pb.TlvLocation == proxyprotocolv3.ProxyProtocol_FILTER_STATE,
	}
	for i, v := range pb.DisallowedVersions {
		if v < 0 || int(v) >= len(c.Disallowed) {
			return nil, filter.AtIndex("disallowed_versions", i, fmt.Errorf("%d is no version", v))
		}
		c.Disallowed[v] = true
	}
	if c.Disallowed == [2]bool{true, true} {
		return nil, filter.At("disallowed_versions", errors.New("a version must remain"))
	}
	for i, r := range pb.Rules {
		rule, err := parseRule(r.GetOnTlvPresent())
		if err != nil {
			return nil, filter.AtIndex("rules", i, err)
		}
		if rule != nil {
			c.Rules[byte(r.TlvType)] = *rule
		}
	}
	if t := pb.PassThroughTlvs; t != nil {
		c.PassAll = t.MatchType == corev3.ProxyProtocolPassThroughTLVs_INCLUDE_ALL
		for _, typ := range t.TlvType {
			c.Pass[byte(typ)] = true
		}
	}
	return c, nil
}

func parseRule(pb *proxyprotocolv3.ProxyProtocol_KeyValuePair) (*Rule, error) {
	if pb == nil {
		return nil, nil
	}
	r := &Rule{
		Namespace: pb.MetadataNamespace, Key: pb.Key,
		Base64: pb.ValueStringEncoding == proxyprotocolv3.ProxyProtocol_KeyValuePair_BASE64,
	}
	if r.Namespace == "" {
		r.Namespace = namespace
	}
	return r, nil
}
