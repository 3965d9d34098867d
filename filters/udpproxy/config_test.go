package udpproxy

import (
	"strings"
	"testing"
	"time"

	udpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/udp_proxy/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

func parseJSON(t *testing.T, text string) (*Config, error) {
	t.Helper()
	return parse(message.Raw(t, &udpproxyv3.UdpProxyConfig{}, text), &filter.Parser{})
}

func TestParse(t *testing.T) {
	c, err := parseJSON(t, `{"stat_prefix": "p", "cluster": "c"}`)
	if err != nil {
		t.Fatal(err)
	}
	if c.IdleTimeout != time.Minute || c.MaxDatagram != 65535 || c.FlushEvery != 0 || c.Route(&netio.Datagram{}) != "c" {
		t.Errorf("defaults %+v", c)
	}
	c, err = parseJSON(t, `{"stat_prefix": "p", "cluster": "c", "idle_timeout": "0s", "use_original_src_ip": true,
		"hash_policies": [{"key": "k"}], "upstream_socket_config": {"max_rx_datagram_size": "9000", "prefer_gro": false},
		"use_per_packet_load_balancing": true, "access_log_options": {"access_log_flush_interval": "2s"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if c.IdleTimeout != 0 || c.MaxDatagram != 9000 || c.FlushEvery != 2*time.Second || c.Hash.Key != "k" || !c.PerPacket || !c.OriginalSource {
		t.Errorf("parsed %+v", c)
	}
}

// What is refused here is refused by Envoy, or could not be obeyed.
func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"cluster": "c"}`:                   "stat_prefix",
		`{"stat_prefix": "p"}`:               "route_specifier",
		`{"stat_prefix": "p", "cluster":""}`: "cluster",
		`{"stat_prefix": "p", "cluster": "c", "hash_policies": [{"source_ip": false}]}`:                                                                                                 "hash_policies[0].source_ip",
		`{"stat_prefix": "p", "cluster": "c", "hash_policies": [{"key": ""}]}`:                                                                                                          "hash_policies[0].key",
		`{"stat_prefix": "p", "cluster": "c", "hash_policies": [{}]}`:                                                                                                                   "hash_policies[0]",
		`{"stat_prefix": "p", "cluster": "c", "hash_policies": [{"key": "a"}, {"key": "b"}]}`:                                                                                           "hash_policies",
		`{"stat_prefix": "p", "cluster": "c", "idle_timeout": "-1s"}`:                                                                                                                   "idle_timeout",
		`{"stat_prefix": "p", "cluster": "c", "upstream_socket_config": {"max_rx_datagram_size": "0"}}`:                                                                                 "upstream_socket_config.max_rx_datagram_size",
		`{"stat_prefix": "p", "cluster": "c", "upstream_socket_config": {"max_rx_datagram_size": "65536"}}`:                                                                             "upstream_socket_config.max_rx_datagram_size",
		`{"stat_prefix": "p", "cluster": "c", "access_log_options": {"access_log_flush_interval": "0s"}}`:                                                                               "access_log_options.access_log_flush_interval",
		`{"stat_prefix": "p", "matcher": {"on_no_match": {"action": {"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3.Route"}}}}}`: "matcher.on_no_match",
		`{"stat_prefix": "p", "cluster": "c", "session_filters": [{"name": "x"}]}`:                                                                                                      "session_filters",
		`{"stat_prefix": "p", "cluster": "c", "tunneling_config": {"proxy_host": "h", "target_host": "t"}}`:                                                                             "tunneling_config",
		`{"stat_prefix": "p", "cluster": "c", "proxy_access_log": [{"name": "x"}]}`:                                                                                                     "proxy_access_log",
	} {
		if _, err := parseJSON(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, pb := range []*udpproxyv3.UdpProxyConfig{
		{StatPrefix: "p", RouteSpecifier: &udpproxyv3.UdpProxyConfig_Cluster{Cluster: "c"}},
		{StatPrefix: "p", HashPolicies: []*udpproxyv3.UdpProxyConfig_HashPolicy{{}}},
	} {
		raw, err := proto.Marshal(pb)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parse(raw, &filter.Parser{})
		if err == nil && (c.Route == nil || c.MaxDatagram < 1 || c.IdleTimeout < 0) {
			t.Errorf("took %+v", c)
		}
	})
}
