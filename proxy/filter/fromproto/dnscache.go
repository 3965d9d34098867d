package fromproto

import (
	"errors"
	"fmt"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dfpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dns"
	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// DNSCache converts a DnsCacheConfig.
func DNSCache(pb *dfpv3.DnsCacheConfig, p *filter.Parser) (*cluster.Forward, error) {
	if pb == nil {
		return nil, errors.New("is required")
	}
	err := Check(pb, p, Fields{Used: []string{
		"name", "dns_lookup_family", "dns_refresh_rate", "dns_min_refresh_rate", "host_ttl", "max_hosts",
		"disable_dns_refresh_on_failure", "dns_failure_refresh_rate", "dns_cache_circuit_breaker", "use_tcp_for_dns_lookups",
		"dns_resolution_config", "typed_dns_resolver_config", "preresolve_hostnames", "dns_query_timeout", "resolved_address_filter",
	}})
	if err != nil {
		return nil, err
	}
	f := &cluster.Forward{Family: cluster.Family(pb.DnsLookupFamily)}
	c := &f.Cache
	c.Name, c.ForgetFailed = pb.Name, pb.DisableDnsRefreshOnFailure
	if c.Name == "" {
		return nil, filter.At("name", errors.New("must not be empty"))
	}
	if err := cacheTimes(c, pb); err != nil {
		return nil, err
	}
	c.MaxHosts, c.MaxPending = 1024, 1024
	if v := pb.MaxHosts; v != nil {
		if c.MaxHosts = int(v.Value); v.Value == 0 {
			return nil, filter.At("max_hosts", errors.New("must be at least 1"))
		}
	}
	if v := pb.GetDnsCacheCircuitBreaker().GetMaxPendingRequests(); v != nil {
		c.MaxPending = int(v.Value)
	}
	for i, h := range pb.PreresolveHostnames {
		key, ok := dnscache.ParseKey(h.Address, uint16(h.GetPortValue()))
		if !ok || h.GetPortValue() == 0 || h.GetPortValue() > 65535 {
			return nil, filter.AtIndex("preresolve_hostnames", i, fmt.Errorf("%q with port %d is no name and port", h.Address, h.GetPortValue()))
		}
		c.Preresolve = append(c.Preresolve, key)
	}
	if m := pb.ResolvedAddressFilter; m != nil {
		ranges, err := CIDRs("ranges", m.Ranges)
		if err != nil {
			return nil, filter.At("resolved_address_filter", err)
		}
		c.Reject, c.Invert = ranges, m.InvertMatch
	}
	f.Resolver, err = cacheResolver(pb, p)
	return f, err
}

func cacheTimes(c *dnscache.Spec, pb *dfpv3.DnsCacheConfig) (err error) {
	for _, d := range []struct {
		name        string
		pb          *durationpb.Duration
		into        *time.Duration
		unset, from time.Duration
	}{
		{"dns_refresh_rate", pb.DnsRefreshRate, &c.Refresh, time.Minute, time.Millisecond},
		{"dns_min_refresh_rate", pb.DnsMinRefreshRate, &c.MinRefresh, 5 * time.Second, time.Second},
		{"host_ttl", pb.HostTtl, &c.HostTTL, 5 * time.Minute, time.Nanosecond},
		{"dns_query_timeout", pb.DnsQueryTimeout, &c.QueryTimeout, 5 * time.Second, 0},
		{"dns_failure_refresh_rate.base_interval", pb.GetDnsFailureRefreshRate().GetBaseInterval(), &c.FailureBase, 0, time.Millisecond},
		{"dns_failure_refresh_rate.max_interval", pb.GetDnsFailureRefreshRate().GetMaxInterval(), &c.FailureMax, 0, time.Millisecond},
	} {
		if *d.into, err = Duration(d.pb, d.unset); err == nil && d.pb != nil && *d.into < d.from {
			err = fmt.Errorf("%v is less than %v", *d.into, d.from)
		}
		if err != nil {
			return filter.At(d.name, err)
		}
	}
	if r := pb.DnsFailureRefreshRate; r != nil {
		switch {
		case r.BaseInterval == nil:
			return filter.At("dns_failure_refresh_rate.base_interval", errors.New("is required"))
		case r.MaxInterval == nil:
			c.FailureMax = 10 * c.FailureBase
		case c.FailureMax < c.FailureBase:
			return filter.At("dns_failure_refresh_rate.max_interval", errors.New("must be at least base_interval"))
		}
	}
	return nil
}

func cacheResolver(pb *dfpv3.DnsCacheConfig, p *filter.Parser) (*dns.Options, error) {
	var old *corev3.DnsResolutionConfig = pb.DnsResolutionConfig //nolint:staticcheck // deprecated, still sent
	switch {
	case pb.TypedDnsResolverConfig != nil:
		o, err := Resolver(pb.TypedDnsResolverConfig, p)
		return o, filter.At("typed_dns_resolver_config", err)
	case old != nil:
		o := &dns.Options{}
		ResolverOptions(o, old.DnsResolverOptions)
		return o, filter.At("dns_resolution_config", ResolverServers(o, old.Resolvers))
	case pb.UseTcpForDnsLookups: //nolint:staticcheck // deprecated, still sent
		return &dns.Options{TCP: true}, nil
	}
	return nil, nil
}
