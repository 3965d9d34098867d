package translate

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dnsclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	aresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	getaddrinfov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/getaddrinfo/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

const (
	dnsCluster     = "envoy.extensions.clusters.dns.v3.DnsCluster"
	caresResolver  = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
	systemResolver = "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"
)

// refreshRate is either of the messages that say how often a failed lookup is repeated.
type refreshRate interface {
	GetBaseInterval() *durationpb.Duration
	GetMaxInterval() *durationpb.Duration
}

// clusterDNS reads the fields of Cluster that say how names are looked up.
func clusterDNS(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) (err error) {
	d := &spec.DNS
	*d = cluster.DNS{RespectTTL: pb.RespectDnsTtl, Family: cluster.Family(pb.DnsLookupFamily)}
	if err := dnsTimes(d, pb.DnsRefreshRate, pb.DnsJitter); err != nil {
		return err
	}
	if pb.DnsFailureRefreshRate != nil {
		if err := dnsFailures(d, pb.DnsFailureRefreshRate); err != nil {
			return err
		}
	}
	d.Resolver, err = resolverOf(pb, p)
	return err
}

// resolverFields are what Cluster and Bootstrap, which have gone through the same
// history, say of resolvers.
type resolverFields interface {
	GetTypedDnsResolverConfig() *corev3.TypedExtensionConfig
	GetDnsResolutionConfig() *corev3.DnsResolutionConfig
	GetUseTcpForDnsLookups() bool
}

// resolverOf returns the resolver of a message, nil if it says nothing. Newer fields
// win over older ones.
func resolverOf(pb resolverFields, p *filter.Parser) (*dns.Options, error) {
	if t := pb.GetTypedDnsResolverConfig(); t != nil {
		o, err := resolver(t, p)
		return o, filter.At("typed_dns_resolver_config", err)
	}
	if c := pb.GetDnsResolutionConfig(); c != nil {
		o := &dns.Options{}
		resolverOptions(o, c.DnsResolverOptions)
		err := resolverServers(o, c.Resolvers)
		return o, filter.At("dns_resolution_config", err)
	}
	o := &dns.Options{TCP: pb.GetUseTcpForDnsLookups()}
	if c, ok := pb.(interface{ GetDnsResolvers() []*corev3.Address }); ok && len(c.GetDnsResolvers()) > 0 {
		return o, filter.At("dns_resolvers", resolverAddresses(o, c.GetDnsResolvers()))
	}
	if !o.TCP {
		return nil, nil
	}
	return o, nil
}

// Resolver returns how the process looks names up, where a cluster says nothing else.
func Resolver(b *bootstrapv3.Bootstrap) (dns.Options, error) {
	o, err := resolverOf(b, nil)
	if o == nil || err != nil {
		return dns.Options{}, err
	}
	return *o, nil
}

// resolver reads a typed_dns_resolver_config.
func resolver(t *corev3.TypedExtensionConfig, p *filter.Parser) (*dns.Options, error) {
	c, err := fromproto.Any(t.GetTypedConfig())
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
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{
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
	resolverOptions(o, pb.DnsResolverOptions)
	if len(pb.Resolvers) == 0 {
		return nil
	}
	return resolverServers(o, pb.Resolvers)
}

func getAddrInfo(raw []byte, o *dns.Options, p *filter.Parser) error {
	var pb getaddrinfov3.GetAddrInfoDnsResolverConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"num_retries"}, Ignored: []string{"num_resolver_threads"}})
	if v := pb.NumRetries; v != nil {
		o.Tries = int(min(v.Value, 99)) + 1
	}
	return err
}

func resolverOptions(o *dns.Options, pb *corev3.DnsResolverOptions) {
	o.TCP, o.NoSearch = pb.GetUseTcpForDnsLookups(), pb.GetNoDefaultSearchDomain()
}

func resolverServers(o *dns.Options, all []*corev3.Address) error {
	return filter.At("resolvers", resolverAddresses(o, all))
}

func resolverAddresses(o *dns.Options, all []*corev3.Address) error {
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

func dnsTimes(d *cluster.DNS, refresh, jitter *durationpb.Duration) (err error) {
	if d.Refresh, err = fromproto.PositiveDuration(refresh, 5*time.Second); err != nil {
		return filter.At("dns_refresh_rate", err)
	}
	if refresh != nil && d.Refresh < time.Millisecond {
		return filter.At("dns_refresh_rate", fmt.Errorf("%v is less than 1ms", d.Refresh))
	}
	d.Jitter, err = fromproto.Duration(jitter, 0)
	return filter.At("dns_jitter", err)
}

func dnsFailures(d *cluster.DNS, r refreshRate) (err error) {
	if d.FailureBase, err = fromproto.PositiveDuration(r.GetBaseInterval(), 0); err == nil && d.FailureBase < time.Millisecond {
		err = errors.New("must be at least 1ms")
	}
	if err != nil {
		return filter.At("dns_failure_refresh_rate.base_interval", err)
	}
	if d.FailureMax, err = fromproto.PositiveDuration(r.GetMaxInterval(), 10*d.FailureBase); err == nil && d.FailureMax < d.FailureBase {
		err = errors.New("must be at least base_interval")
	}
	return filter.At("dns_failure_refresh_rate.max_interval", err)
}

// dnsClusterType reads the DnsCluster extension, which is STRICT_DNS and LOGICAL_DNS in
// one. What Cluster says of names does not count besides it.
func dnsClusterType(raw []byte, spec *cluster.Spec, p *filter.Parser) (err error) {
	var pb dnsclusterv3.DnsCluster
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	err = fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"dns_refresh_rate", "dns_failure_refresh_rate", "respect_dns_ttl", "dns_jitter", "typed_dns_resolver_config",
		"dns_lookup_family", "all_addresses_in_single_endpoint", "dns_min_refresh_rate",
	}})
	if err != nil {
		return err
	}
	spec.Type = cluster.StrictDNS
	if pb.AllAddressesInSingleEndpoint {
		spec.Type = cluster.LogicalDNS
	}
	d := &spec.DNS
	*d = cluster.DNS{RespectTTL: pb.RespectDnsTtl}
	if f := pb.DnsLookupFamily; f > 0 { // AUTO is 1 here, and the default
		d.Family = cluster.Family(f - 1)
	}
	if err := dnsTimes(d, pb.DnsRefreshRate, pb.DnsJitter); err != nil {
		return err
	}
	if pb.DnsFailureRefreshRate != nil {
		if err := dnsFailures(d, pb.DnsFailureRefreshRate); err != nil {
			return err
		}
	}
	if d.Least, err = fromproto.Duration(pb.DnsMinRefreshRate, 0); err == nil && pb.DnsMinRefreshRate != nil && d.Least < time.Second {
		err = errors.New("must be at least 1s")
	}
	if err != nil {
		return filter.At("dns_min_refresh_rate", err)
	}
	if pb.TypedDnsResolverConfig != nil {
		d.Resolver, err = resolver(pb.TypedDnsResolverConfig, p)
	}
	return filter.At("typed_dns_resolver_config", err)
}
