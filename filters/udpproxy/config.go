package udpproxy

import (
	"errors"
	"fmt"
	"time"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	udpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/udp_proxy/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// configFields is what of UdpProxyConfig this build obeys.
var configFields = fromproto.Fields{Used: []string{
	"stat_prefix", "cluster", "matcher", "idle_timeout", "use_original_src_ip", "hash_policies", "upstream_socket_config",
	"use_per_packet_load_balancing", "access_log", "proxy_access_log", "access_log_options",
	"session_filters", "tunneling_config",
}}

// parse decodes envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb udpproxyv3.UdpProxyConfig
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, fmt.Errorf("udp_proxy: %w", err)
	}
	if err := fromproto.Check(&pb, p, configFields); err != nil {
		return nil, err
	}
	if pb.StatPrefix == "" {
		return nil, filter.At("stat_prefix", errors.New("must not be empty"))
	}
	c := &Config{StatPrefix: pb.StatPrefix, OriginalSource: pb.UseOriginalSrcIp, PerPacket: pb.UsePerPacketLoadBalancing}
	var err error
	if c.IdleTimeout, err = fromproto.Duration(pb.IdleTimeout, time.Minute); err != nil {
		return nil, filter.At("idle_timeout", err)
	}
	if c.MaxDatagram, err = fromproto.UDPSocket(pb.UpstreamSocketConfig, p, true); err != nil {
		return nil, filter.At("upstream_socket_config", err)
	}
	for _, f := range []func(*udpproxyv3.UdpProxyConfig, *filter.Parser) error{c.parseRoute, c.parseHash, c.parseLogs, c.parseTunnel} {
		if err := f(&pb, p); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Config) parseRoute(pb *udpproxyv3.UdpProxyConfig, p *filter.Parser) error {
	switch s := pb.RouteSpecifier.(type) {
	case *udpproxyv3.UdpProxyConfig_Cluster:
		if s.Cluster == "" {
			return filter.At("cluster", errors.New("must not be empty"))
		}
		c.Route = func(*netio.Datagram) string { return s.Cluster }
		return nil
	case *udpproxyv3.UdpProxyConfig_Matcher:
		return filter.At("matcher", c.parseMatcher(s.Matcher, p))
	}
	return filter.At("route_specifier", errors.New("cluster or matcher must be set"))
}

const routeType = "envoy.extensions.filters.udp.udp_proxy.v3.Route"

// parseMatcher makes a match tree, which sees a datagram as a connection of which only
// the addresses are known.
func (c *Config) parseMatcher(pb *xdsmatcherv3.Matcher, p *filter.Parser) error {
	t, err := fromproto.Tree(pb, p, fromproto.TreeOptions[*filter.Conn, string]{
		Input: fromproto.NetworkInput,
		Action: func(_ string, a filter.Any) (string, error) {
			if a.Type != routeType {
				return "", &filter.ErrUnknownType{Kind: "UDP route", Type: a.Type}
			}
			var r udpproxyv3.Route
			if err := proto.Unmarshal(a.Value, &r); err != nil {
				return "", err
			}
			if r.Cluster == "" {
				return "", filter.At("cluster", errors.New("must not be empty"))
			}
			return r.Cluster, nil
		},
	})
	if err != nil {
		return err
	}
	c.Route = func(d *netio.Datagram) string {
		peer := meta.Addr{AddrPort: d.Peer}
		name, _ := t.Find(&filter.Conn{Meta: &meta.Conn{Local: meta.Addr{AddrPort: d.Local}, Remote: peer, Direct: peer}})
		return name
	}
	return nil
}

func (c *Config) parseHash(pb *udpproxyv3.UdpProxyConfig, _ *filter.Parser) error {
	if len(pb.HashPolicies) > 1 {
		return filter.At("hash_policies", errors.New("takes one policy at most"))
	}
	for _, h := range pb.HashPolicies {
		at := func(err error) error { return filter.AtIndex("hash_policies", 0, err) }
		switch s := h.PolicySpecifier.(type) {
		case *udpproxyv3.UdpProxyConfig_HashPolicy_SourceIp:
			if c.Hash.SourceIP = s.SourceIp; !s.SourceIp {
				return at(filter.At("source_ip", errors.New("must be true")))
			}
		case *udpproxyv3.UdpProxyConfig_HashPolicy_Key:
			if c.Hash.Key = s.Key; s.Key == "" {
				return at(filter.At("key", errors.New("must not be empty")))
			}
		default:
			return at(errors.New("source_ip or key must be set"))
		}
	}
	return nil
}

func (c *Config) parseLogs(pb *udpproxyv3.UdpProxyConfig, p *filter.Parser) (err error) {
	if c.Logs, err = fromproto.AccessLogs(pb.AccessLog); err != nil {
		return err
	}
	if c.ProxyLogs, err = fromproto.AccessLogs(pb.ProxyAccessLog); err != nil {
		return filter.At("proxy_access_log", err)
	}
	o := pb.AccessLogOptions
	if o == nil {
		return nil
	}
	c.LogTunnel = o.FlushAccessLogOnTunnelConnected
	err = fromproto.Check(o, p, fromproto.Fields{Used: []string{"access_log_flush_interval", "flush_access_log_on_tunnel_connected"}})
	if err == nil && o.AccessLogFlushInterval != nil {
		if c.FlushEvery, err = fromproto.Duration(o.AccessLogFlushInterval, 0); err == nil && c.FlushEvery < time.Millisecond {
			err = fmt.Errorf("%v is less than 1ms", c.FlushEvery)
		}
		err = filter.At("access_log_flush_interval", err)
	}
	return filter.At("access_log_options", err)
}
