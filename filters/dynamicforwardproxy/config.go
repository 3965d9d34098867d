package dynamicforwardproxy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	sniv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb httpv3.FilterConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used:    []string{"dns_cache_config", "sub_cluster_config", "allow_dynamic_host_from_filter_state"},
		Ignored: []string{"save_upstream_address"}, // nobody here asks for it
	})
	if err != nil {
		return nil, err
	}
	c := &Config{AllowState: pb.AllowDynamicHostFromFilterState, InitTimeout: 5 * time.Second}
	if sub := pb.GetSubClusterConfig(); sub != nil {
		c.InitTimeout, err = fromproto.PositiveDuration(sub.ClusterInitTimeout, 5*time.Second)
		return c, filter.At("sub_cluster_config.cluster_init_timeout", err)
	}
	c.Forward, err = fromproto.DNSCache(pb.GetDnsCacheConfig(), p)
	return c, filter.At("dns_cache_config", err)
}

// parseRoute decodes envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig.
func parseRoute(raw []byte, _ *filter.Parser) (*Config, error) {
	var pb httpv3.PerRouteConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	return &Config{RewriteLiteral: pb.GetHostRewriteLiteral(), RewriteHeader: strings.ToLower(pb.GetHostRewriteHeader())}, nil
}

// parseSNI decodes envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig.
func parseSNI(raw []byte, p *filter.Parser) (*SNIConfig, error) {
	var pb sniv3.FilterConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
		Used:    []string{"dns_cache_config", "port_value"},
		Ignored: []string{"save_upstream_address"},
	})
	if err != nil {
		return nil, err
	}
	c := &SNIConfig{Port: 443}
	if s, ok := pb.PortSpecifier.(*sniv3.FilterConfig_PortValue); ok {
		switch {
		case s.PortValue == 0:
			return nil, filter.At("port_value", errors.New("must be at least 1"))
		case s.PortValue > 65535:
			return nil, filter.At("port_value", fmt.Errorf("%d is more than 65535", s.PortValue))
		}
		c.Port = uint16(s.PortValue)
	}
	c.Forward, err = fromproto.DNSCache(pb.DnsCacheConfig, p)
	return c, filter.At("dns_cache_config", err)
}
