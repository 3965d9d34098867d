package translate

import (
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/apple/v3"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/cluster"
)

// clusterOf translates a Cluster written as JSON.
func clusterOf(t *testing.T, text string) (*cluster.Spec, []string, error) {
	t.Helper()
	var pb clusterv3.Cluster
	if err := protojson.Unmarshal([]byte(text), &pb); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	raw, err := proto.Marshal(&pb)
	if err != nil {
		t.Fatal(err)
	}
	return Cluster(raw, nil, nil)
}

const oneName = `"load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [
	{"endpoint": {"address": {"socket_address": {"address": "web.test", "port_value": 80}}}}]}]}`

func TestDNSCluster(t *testing.T) {
	s, warnings, err := clusterOf(t, `{"name": "c", "dns_refresh_rate": "77s", "cluster_type": {"name": "dns", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
		"dns_refresh_rate": "2s", "dns_failure_refresh_rate": {"base_interval": "0.1s"}, "respect_dns_ttl": true, "dns_jitter": "0.5s",
		"dns_min_refresh_rate": "3s", "dns_lookup_family": "V6_ONLY", "all_addresses_in_single_endpoint": true,
		"typed_dns_resolver_config": {"name": "r", "typed_config": {
			"@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
			"resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": 5353}}, {"socket_address": {"address": "::1", "port_value": 0}}],
			"query_timeout_seconds": "3", "query_tries": 2, "udp_max_queries": 100, "rotate_nameservers": true,
			"dns_resolver_options": {"use_tcp_for_dns_lookups": true, "no_default_search_domain": true}}}}}, `+oneName+`}`)
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	d := &s.DNS
	if s.Type != cluster.LogicalDNS || d.Refresh != 2*time.Second || d.FailureBase != 100*time.Millisecond || d.FailureMax != time.Second ||
		!d.RespectTTL || d.Jitter != 500*time.Millisecond || d.Least != 3*time.Second || d.Family != cluster.V6Only {
		t.Errorf("%v %+v", s.Type, d)
	}
	r := d.Resolver
	if r == nil || len(r.Servers) != 2 || r.Servers[0].String() != "127.0.0.1:5353" || r.Servers[1].String() != "[::1]:53" ||
		r.Timeout != 3*time.Second || r.Tries != 2 || !r.Rotate || !r.TCP || !r.NoSearch {
		t.Errorf("resolver %+v", r)
	}
	s, _, err = clusterOf(t, `{"name": "c", "wait_for_warm_on_init": false, "cluster_type": {"name": "dns", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster"}}, `+oneName+`}`)
	if err != nil || !s.DNS.NoWait || s.Type != cluster.StrictDNS || s.DNS.Family != cluster.Auto || s.DNS.Resolver != nil || s.DNS.Refresh != 5*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestDNSResolverOfOldFields(t *testing.T) {
	s, _, err := clusterOf(t, `{"name": "c", "type": "STRICT_DNS", "use_tcp_for_dns_lookups": true, "dns_lookup_family": "ALL",
		"dns_resolvers": [{"socket_address": {"address": "10.0.0.53", "port_value": 53}}], `+oneName+`}`)
	if err != nil || s.DNS.Resolver == nil || !s.DNS.Resolver.TCP || len(s.DNS.Resolver.Servers) != 1 || s.DNS.Family != cluster.AllFamilies {
		t.Errorf("%+v, %v", s, err)
	}
	s, _, err = clusterOf(t, `{"name": "c", "type": "STRICT_DNS", "use_tcp_for_dns_lookups": true, "typed_dns_resolver_config": {"name": "r",
		"typed_config": {"@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig", "num_retries": 2}}, `+oneName+`}`)
	if err != nil || s.DNS.Resolver == nil || s.DNS.Resolver.TCP || s.DNS.Resolver.Tries != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	o, err := Resolver(&bootstrapv3.Bootstrap{UseTcpForDnsLookups: true}) //nolint:staticcheck // deprecated, still sent
	if err != nil || !o.TCP {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestDNSRefused(t *testing.T) {
	ext := func(fields string) string {
		return `{"name": "c", "cluster_type": {"name": "dns", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster"` + fields + `}}, ` + oneName + `}`
	}
	for text, want := range map[string]string{
		ext(`, "dns_min_refresh_rate": "0.5s"`):                     "cluster_type.typed_config.dns_min_refresh_rate",
		ext(`, "dns_refresh_rate": "0.0001s"`):                      "dns_refresh_rate",
		ext(`, "dns_failure_refresh_rate": {"max_interval": "1s"}`): "dns_failure_refresh_rate.base_interval",
		`{"name": "c", "type": "LOGICAL_DNS"}`:                      "load_assignment",
		`{"name": "c", "type": "STRICT_DNS", "typed_dns_resolver_config": {"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.apple.v3.AppleDnsResolverConfig"}}, ` + oneName + `}`: "apple",
		`{"name": "c", "type": "STRICT_DNS", "dns_resolvers": [{"socket_address": {"address": "ns.test", "port_value": 53}}], ` + oneName + `}`:                                                                                    "dns_resolvers[0]",
		`{"name": "c", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "original_dst_lb_config": {"http_header_name": "x"}}`:                                                                                              "original_dst_lb_config.http_header_name",
	} {
		if _, _, err := clusterOf(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
