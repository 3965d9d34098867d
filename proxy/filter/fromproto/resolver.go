package fromproto

import (
	"fmt"
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	aresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	getaddrinfov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/getaddrinfo/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// The resolvers of this build.
const (
	caresResolver  = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
	systemResolver = "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"
)

// Resolver reads a typed_dns_resolver_config.
func Resolver(t *corev3.TypedExtensionConfig, p *filter.Parser) (*dns.Options, error) {
	c, err := Any(t.GetTypedConfig())
	if err != nil {
		return nil, filter.At("typed_config", err)
	}
	o := &dns.Options{}
	switch c.Type {
	case caresResolver:
		err = cares(c.Value, o, p)
	case systemResolver:
		err = getAddrInfo(c.Value, o, p)
	default:
		err = fmt.Errorf("this build does not support the resolver %q", c.Type)
	}
	return o, filter.At("typed_config", err)
}

func cares(raw []byte, o *dns.Options, p *filter.Parser) error {
	var pb aresv3.CaresDnsResolverConfig
	if err := Unmarshal(raw, &pb); err != nil {
		return err
	}
	err := Check(&pb, p, Fields{
		Used: []string{
			"resolvers", "use_resolvers_as_fallback", "filter_unroutable_families", "dns_resolver_options",
			"query_timeout_seconds", "query_tries", "rotate_nameservers", "edns0_max_payload_size",
			// Each query has a socket of its own, and nothing is cached: what these bound stays
			// within every bound.
			"udp_max_queries", "max_udp_channel_duration", "reinit_channel_on_timeout", "qcache_max_ttl",
		},
	})
	if err != nil {
		return err
	}
	o.Fallback, o.Routable, o.Rotate = pb.UseResolversAsFallback, pb.FilterUnroutableFamilies, pb.RotateNameservers
	o.Timeout = time.Duration(min(pb.QueryTimeoutSeconds.GetValue(), 3600)) * time.Second
	o.Tries = int(min(pb.QueryTries.GetValue(), 100))
	if v := pb.Edns0MaxPayloadSize; v != nil {
		if v.Value < 512 || v.Value > 4096 {
			return filter.At("edns0_max_payload_size", fmt.Errorf("%d is outside 512 to 4096", v.Value))
		}
		o.UDPSize = int(v.Value)
	}
	ResolverOptions(o, pb.DnsResolverOptions)
	if len(pb.Resolvers) == 0 {
		return nil
	}
	return ResolverServers(o, pb.Resolvers)
}

func getAddrInfo(raw []byte, o *dns.Options, p *filter.Parser) error {
	var pb getaddrinfov3.GetAddrInfoDnsResolverConfig
	if err := Unmarshal(raw, &pb); err != nil {
		return err
	}
	err := Check(&pb, p, Fields{Used: []string{"num_retries"}, Ignored: []string{"num_resolver_threads"}})
	if v := pb.NumRetries; v != nil {
		o.Tries = int(min(v.Value, 99)) + 1
	}
	return err
}

// ResolverOptions reads a DnsResolverOptions, which may be nil.
func ResolverOptions(o *dns.Options, pb *corev3.DnsResolverOptions) {
	o.TCP, o.NoSearch = pb.GetUseTcpForDnsLookups(), pb.GetNoDefaultSearchDomain()
}

// ResolverServers is ResolverAddresses of the field resolvers.
func ResolverServers(o *dns.Options, all []*corev3.Address) error {
	return filter.At("resolvers", ResolverAddresses(o, all))
}

// ResolverAddresses takes over where servers are.
func ResolverAddresses(o *dns.Options, all []*corev3.Address) error {
	for i, a := range all {
		s := a.GetSocketAddress()
		ip, err := netip.ParseAddr(s.GetAddress())
		if s == nil || err != nil {
			return filter.At(fmt.Sprintf("[%d]", i), fmt.Errorf("socket_address must be an IP address, not %q", s.GetAddress()))
		}
		port := uint16(s.GetPortValue())
		if port == 0 {
			port = 53
		}
		o.Servers = append(o.Servers, netip.AddrPortFrom(ip, port))
	}
	return nil
}
