package translate

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/filters/cors"
	"github.com/mecha-mesh/mecha/filters/headermutation"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

const rawJSON = `{"name": "r", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}`

func proxyJSON(fields string) string {
	return `{"name": "p", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"` + fields + `}}`
}

func TestClusterSockets(t *testing.T) {
	s, warnings, err := clusterOf(t, `{"name": "c", "transport_socket": `+rawJSON+`, "connection_pool_per_downstream_connection": true,
		"preconnect_policy": {"per_upstream_preconnect_ratio": 1.5, "predictive_preconnect_ratio": 2},
		"circuit_breakers": {"thresholds": [{"max_connection_pools": 7}], "per_host_thresholds": [{"max_connections": 3}, {"priority": "HIGH", "max_connections": 4}]},
		"transport_socket_matches": [{"name": "pp", "match": {"a": "b"}, "transport_socket": `+
		proxyJSON(`, "transport_socket": `+rawJSON+`, "config": {"version": "V2", "pass_through_tlvs": {"match_type": "INCLUDE", "tlv_type": [1, 2]}, "added_tlvs": [{"type": 240, "value": "aGk="}]}`)+`}],
		"load_assignment": {"cluster_name": "c", "endpoints": [{"metadata": {"filter_metadata": {"envoy.transport_socket_match": {"a": "b"}}},
		"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "1.1.1.1", "port_value": 80}}}, "metadata": {"typed_filter_metadata":
		{"envoy.transport_sockets.proxy_protocol": {"@type": "type.googleapis.com/envoy.config.core.v3.ProxyProtocolConfig", "added_tlvs": [{"type": 241, "value": "aGk="}]}}}}]}]}}`)
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	if !s.PerDownstream || s.Preconnect != 1.5 || s.Predict != 2 || s.Breakers[0].MaxPools != 7 || s.Breakers[0].MaxPerHost != 3 || s.Breakers[1].MaxPerHost != 4 {
		t.Errorf("%+v", s)
	}
	p, ok := s.Sockets[0].Socket.(*transport.ProxyProtocol)
	if !ok || !p.V2 || p.PassAll || string(p.Pass) != "\x01\x02" || len(p.Added) != 1 || string(p.Added[0].Value) != "hi" || s.Sockets[0].Match["a"] != "b" {
		t.Errorf("%+v", s.Sockets)
	}
	l := s.Assignment.Localities[0]
	if l.Metadata["envoy.transport_socket_match"]["a"] != "b" || len(l.Hosts[0].TLVs) != 1 || l.Hosts[0].TLVs[0].Type != 241 {
		t.Errorf("%+v", l)
	}
}

func TestClusterSocketsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`"transport_socket": ` + proxyJSON(""): "transport_socket.typed_config.transport_socket",
		`"transport_socket": ` + proxyJSON(`, "transport_socket": `+rawJSON+`, "config": {"version": "V2", "added_tlvs": [{"type": 256}]}`): "added_tlvs[0].type",
		`"preconnect_policy": {"predictive_preconnect_ratio": 0.5}`:                                                                         "preconnect_policy.predictive_preconnect_ratio",
		`"preconnect_policy": {"per_upstream_preconnect_ratio": 4}`:                                                                         "preconnect_policy.per_upstream_preconnect_ratio",
		`"circuit_breakers": {"per_host_thresholds": [{"max_requests": 4}]}`:                                                                "per_host_thresholds[0].max_requests",
		`"transport_socket_matches": [{"transport_socket": ` + rawJSON + `}]`:                                                               "transport_socket_matches[0]",
	} {
		if _, _, err := clusterOf(t, `{"name": "c", `+text+`}`); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestUpstreamFilters: the codec ends the list; what cannot run before it is refused.
func TestUpstreamFilters(t *testing.T) {
	of := func(names ...string) string {
		var list []string
		for _, n := range names {
			list = append(list, `{"name": "f", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.`+n+`"}}`)
		}
		return `{"name": "c", "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
			"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": {"http_protocol_options": {}}, "http_filters": [` + strings.Join(list, ",") + `]}}}`
	}
	const codec, mutation, other = "upstream_codec.v3.UpstreamCodec", "header_mutation.v3.HeaderMutation", "cors.v3.Cors"
	registry, err := filter.NewRegistry(headermutation.Spec, cors.Spec)
	if err != nil {
		t.Fatal(err)
	}
	clusterOf := func(t *testing.T, text string) (*cluster.Spec, []string, error) {
		var pb clusterv3.Cluster
		if err := protojson.Unmarshal([]byte(text), &pb); err != nil {
			t.Fatal(err)
		}
		raw, err := proto.Marshal(&pb)
		if err != nil {
			t.Fatal(err)
		}
		return Cluster(raw, nil, registry)
	}
	spec, _, err := clusterOf(t, of(codec))
	if err != nil {
		t.Fatal(err)
	}
	if list, ok := spec.Filters.([]filter.UpstreamFilter); !ok || len(list) > 0 {
		t.Errorf("the codec alone: %v; want an empty list", spec.Filters)
	}
	spec, _, err = clusterOf(t, of(mutation, codec))
	if list, _ := spec.Filters.([]filter.UpstreamFilter); err != nil || len(list) != 1 || list[0].Name != "f" {
		t.Errorf("%v, %v; want the filter f", spec.Filters, err)
	}
	for text, want := range map[string]string{
		of(other, codec): `http_filters[0].typed_config: no upstream HTTP filter for the type "envoy.extensions.filters.http.cors`,
		of(codec, codec): "http_filters[0]: must be the last one",
		of(mutation):     "http_filters[0]: the last filter must be",
	} {
		if _, _, err := clusterOf(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
