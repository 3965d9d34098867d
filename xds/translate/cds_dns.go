package translate

import (
	"errors"
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dnsclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

const (
	dnsCluster = "envoy.extensions.clusters.dns.v3.DnsCluster"
)

// refreshRate is either of the messages that say how often a failed lookup is repeated.
type refreshRate interface {
	GetBaseInterval() *durationpb.Duration
	GetMaxInterval() *durationpb.Duration
}

// clusterDNS reads the fields of Cluster that say how names are looked up.
func clusterDNS(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) (err error) {
	d := &spec.DNS
	*d = cluster.DNS{RespectTTL: pb.RespectDnsTtl, Family: cluster.Family(pb.DnsLookupFamily), NoWait: pb.WaitForWarmOnInit != nil && !pb.WaitForWarmOnInit.Value}
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
		o, err := fromproto.Resolver(t, p)
		return o, filter.At("typed_dns_resolver_config", err)
	}
	if c := pb.GetDnsResolutionConfig(); c != nil {
		o := &dns.Options{}
		fromproto.ResolverOptions(o, c.DnsResolverOptions)
		err := fromproto.ResolverServers(o, c.Resolvers)
		return o, filter.At("dns_resolution_config", err)
	}
	o := &dns.Options{TCP: pb.GetUseTcpForDnsLookups()}
	if c, ok := pb.(interface{ GetDnsResolvers() []*corev3.Address }); ok && len(c.GetDnsResolvers()) > 0 {
		return o, filter.At("dns_resolvers", fromproto.ResolverAddresses(o, c.GetDnsResolvers()))
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
func dnsClusterType(raw []byte, spec *cluster.Spec, p *filter.Parser) error {
	var pb dnsclusterv3.DnsCluster
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return err
	}
	return dnsClusterMessage(&pb, spec, p)
}

func dnsClusterMessage(pb *dnsclusterv3.DnsCluster, spec *cluster.Spec, p *filter.Parser) (err error) {
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{
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
	*d = cluster.DNS{RespectTTL: pb.RespectDnsTtl, NoWait: d.NoWait}
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
		d.Resolver, err = fromproto.Resolver(pb.TypedDnsResolverConfig, p)
	}
	return filter.At("typed_dns_resolver_config", err)
}
