package translate

import (
	_ "github.com/envoyproxy/go-control-plane/envoy/config/upstream/local_address_selector/v3"
	_ "google.golang.org/protobuf/types/known/emptypb"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/cluster"
)

func TestClusterBind(t *testing.T) {
	s, warnings, err := clusterOf(t, `{"name": "c", "upstream_bind_config": {
		"source_address": {"address": "::6", "port_value": 0}, "freebind": true,
		"extra_source_addresses": [{"address": {"address": "127.0.0.6", "port_value": 0}, "socket_options": {"socket_options": [{"level": 1, "name": 2, "int_value": 3}]}}],
		"socket_options": [{"level": 4, "name": 5, "buf_value": "AQI=", "ip_version": "SOCKET_IP_VERSION_IPV6"}, {"level": 9, "name": 9, "int_value": 9, "type": {"datagram": {}}}],
		"local_address_selector": {"name": "s", "typed_config": {"@type": "type.googleapis.com/envoy.config.upstream.local_address_selector.v3.DefaultLocalAddressSelector"}}},
		"upstream_connection_options": {"happy_eyeballs_config": {"first_address_family_version": "V6", "first_address_family_count": 2}}}`)
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	b := s.Bind
	if b.V6.String() != "[::6]:0" || b.V4.String() != "127.0.0.6:0" || !b.Freebind {
		t.Errorf("%+v", b)
	}
	if len(b.Options) != 1 || b.Options[0].Int != 3 || len(b.V6Options) != 1 || string(b.V6Options[0].Buf) != "\x01\x02" || !b.V6Options[0].NotV4 {
		t.Errorf("options %+v, for IPv6 %+v", b.Options, b.V6Options)
	}
	if s.Eyeballs.First != cluster.V6Only || s.Eyeballs.Count != 2 {
		t.Errorf("%+v", s.Eyeballs)
	}
}

func TestClusterBindRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"source_address": {"address": "host", "port_value": 0}}`:                                                                                      "upstream_bind_config.source_address",
		`{"source_address": {"address": "1.1.1.1", "port_value": 0}, "extra_source_addresses": [{"address": {"address": "2.2.2.2", "port_value": 0}}]}`: "extra_source_addresses[0]",
		`{"source_address": {"address": "1.1.1.1", "port_value": 0, "network_namespace_filepath": "/x"}}`:                                               "network_namespace_filepath",
		`{"socket_options": [{"level": 1, "name": 2}]}`:                                                                                                 "socket_options[0]",
		`{"socket_options": [{"level": 1, "name": 2, "int_value": 1, "state": "STATE_LISTENING"}]}`:                                                     "socket_options[0].state",
		`{"local_address_selector": {"name": "s", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Empty"}}}`:                             "local_address_selector",
	} {
		if _, _, err := clusterOf(t, `{"name": "c", "upstream_bind_config": `+text+`}`); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
