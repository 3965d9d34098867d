package translate_test

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/l4"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/transport"
	"github.com/mecha-mesh/mecha/xds/translate"
)

func encode(t testing.TB, m proto.Message, text string) []byte {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func clusterOf(t testing.TB, text string) (*cluster.Spec, []string) {
	t.Helper()
	spec, warnings, err := translate.Cluster(encode(t, &clusterv3.Cluster{}, text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return spec, warnings
}

// TestClusterDefaults are those of Envoy.
func TestClusterDefaults(t *testing.T) {
	got, warnings := clusterOf(t, `{"name": "c"}`)
	if len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	breakers := cluster.Thresholds{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3, RetryBudget: cluster.UnsaidBudget()}
	want := &cluster.Spec{
		Name: "c", StatName: "c", ServiceName: "c", ConnectTimeout: 5 * time.Second, PanicThreshold: 50, BufferLimit: 1 << 20,
		OverrideStatus: cluster.HealthSet(0).With(cluster.Healthy).With(cluster.Degraded),
		Policy:         cluster.Policy{Locality: cluster.LocalityLB{Enabled: runtime.Fraction{Numerator: 100, Denominator: 100}, MinClusterSize: 6}, SlowStart: cluster.SlowStart{Aggression: runtime.DoubleSetting{Default: 1}, MinPercent: 10}},
		DNS:            cluster.DNS{Refresh: 5 * time.Second},
		Breakers:       [2]cluster.Thresholds{breakers, breakers}, Socket: transport.Raw{}, CleanupEvery: 5 * time.Second,
		HTTP: got.HTTP, Hash: got.Hash,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if h := got.HTTP; h.IdleTimeout != time.Hour || h.MaxHeadersCount != 100 || h.MaxRequests != 0 {
		t.Errorf("HTTP options %+v", h)
	}
}

func TestClusterFields(t *testing.T) {
	got, _ := clusterOf(t, `{
		"name": "c", "alt_stat_name": "s;", "type": "EDS", "connect_timeout": "1s", "lb_policy": "LEAST_REQUEST",
		"eds_cluster_config": {"service_name": "svc", "eds_config": {"ads": {}, "initial_fetch_timeout": "0s"}},
		"least_request_lb_config": {"choice_count": 5}, "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
		"circuit_breakers": {"thresholds": [{"max_requests": 7, "track_remaining": true}, {"priority": "HIGH", "retry_budget": {"budget_percent": {"value": 30}}}, {"max_requests": 8}]},
		"upstream_bind_config": {"source_address": {"address": "127.0.0.6", "port_value": 0}, "extra_source_addresses": [{"address": {"address": "::6", "port_value": 0}}],
			"socket_options": [{"level": 1, "name": 36, "int_value": 1337}]},
		"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}}, "max_requests_per_connection": 9,
		"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
			"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"common_http_protocol_options": {"idle_timeout": "300s"}, "use_downstream_protocol_config": {"http_protocol_options": {"enable_trailers": true}, "http2_protocol_options": {}}}}}`)
	if got.StatName != "s;" || got.ServiceName != "svc" || got.Type != cluster.EDS || got.InitialFetchTimeout >= 0 || got.ConnectTimeout != time.Second {
		t.Errorf("%+v", got)
	}
	if p := got.Policy; p.Kind != cluster.LeastRequestLB || p.LeastRequest.Choices != 5 || got.PanicThreshold != 0 {
		t.Errorf("load balancing %+v, panic %v", p, got.PanicThreshold)
	}
	if b := got.Breakers[cluster.Default]; b.MaxRequests != 7 || !b.TrackRemaining || b.MaxRetries != 3 {
		t.Errorf("default breakers %+v", b)
	}
	if b := got.Breakers[cluster.High].RetryBudget; b == nil || b.Percent != 30 || b.MinConcurrency != 3 {
		t.Errorf("retry budget %+v", b)
	}
	if b := got.Bind; b == nil || b.V4.Addr() != netip.MustParseAddr("127.0.0.6") || b.V6.Addr() != netip.MustParseAddr("::6") || len(b.Options) != 1 || b.Options[0].Int != 1337 || len(b.V6Options) != 1 {
		t.Errorf("bind %+v", b)
	}
	if h := got.HTTP; h.IdleTimeout != 5*time.Minute || !h.EnableTrailers || h.MaxRequests != 9 {
		t.Errorf("HTTP options %+v", h)
	}
	if got.KeepAlive == nil || got.KeepAlive.Time != 5*time.Minute {
		t.Errorf("keep-alive %+v", got.KeepAlive)
	}
}

// TestIgnoredFieldsAreNoted: what has no effect does not pass in silence.
func TestIgnoredFieldsAreNoted(t *testing.T) {
	_, warnings := clusterOf(t, `{"name": "c", "lrs_server": {"self": {}}, "per_connection_buffer_high_watermark_timeout": "1s"}`)
	all := strings.Join(warnings, "\n")
	for _, want := range []string{"lrs_server", "per_connection_buffer_high_watermark_timeout"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning about %s in %q", want, warnings)
		}
	}
}

func TestAssignment(t *testing.T) {
	a, err := translate.Assignment(encode(t, &endpointv3.ClusterLoadAssignment{}, `{"cluster_name": "c", "policy": {"overprovisioning_factor": 200}, "endpoints": [
		{"locality": {"region": "r", "zone": "z"}, "priority": 1, "load_balancing_weight": 3, "lb_endpoints": [
			{"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}, "hostname": "h",
				"additional_addresses": [{"address": {"socket_address": {"address": "::1", "port_value": 81}}}]},
			 "health_status": "DRAINING", "load_balancing_weight": 5,
			 "metadata": {"filter_metadata": {"envoy.lb": {"version": "v1", "n": 2}}}},
			{"endpoint": {"address": {"pipe": {"path": "@x"}}}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []cluster.Locality{{Region: "r", Zone: "z", Weight: 3, Priority: 1, Hosts: []cluster.HostSpec{
		{
			Addr: meta.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}, Hostname: "h", Weight: 5, Health: cluster.DrainingHost,
			Metadata: map[string]map[string]any{"envoy.lb": {"version": "v1", "n": 2.0}},
			Extra:    []meta.Addr{{AddrPort: netip.MustParseAddrPort("[::1]:81")}},
		},
		{Addr: meta.Addr{Path: "@x"}, Weight: 1},
	}}}
	if a.Cluster != "c" || a.Overprovisioning != 200 || !reflect.DeepEqual(a.Localities, want) {
		t.Errorf("got  %+v\nwant %+v", a, want)
	}
}

func TestDNSNames(t *testing.T) {
	got, _ := clusterOf(t, `{"name": "c", "type": "STRICT_DNS", "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [
		{"endpoint": {"address": {"socket_address": {"address": "a.example", "port_value": 80}}}},
		{"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}}}]}]}}`)
	hosts := got.Assignment.Localities[0].Hosts
	if h := hosts[0]; h.DNSName != "a.example" || h.Port != 80 || h.Hostname != "a.example" || h.Addr.Known() {
		t.Errorf("a name: %+v", h)
	}
	if h := hosts[1]; h.DNSName != "" || h.Hostname != "10.0.0.1" || h.Addr.String() != "10.0.0.1:80" {
		t.Errorf("an address: %+v", h)
	}
}

func listenerOf(t testing.TB, text string) *l4.Spec {
	t.Helper()
	spec, err := translate.Listener(encode(t, &listenerv3.Listener{}, text), parser(t))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

const tcpProxy = `{"name": "tcp", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "x", "cluster": "c"}}`

func TestListener(t *testing.T) {
	l := listenerOf(t, `{"name": "virtualInbound", "traffic_direction": "INBOUND", "use_original_dst": true, "transparent": true,
		"address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}},
		"additional_addresses": [{"address": {"socket_address": {"address": "::", "port_value": 15006, "ipv4_compat": true}}}],
		"listener_filters_timeout": "0s", "continue_on_listener_filters_timeout": true,
		"listener_filters": [{"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
			"filter_disabled": {"or_match": {"rules": [{"destination_port_range": {"start": 9000, "end": 9001}}, {"not_match": {"any_match": true}}]}}}],
		"access_log": [{"name": "f", "filter": {"response_flag_filter": {"flags": ["NR"]}}, "typed_config":
			{"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "/dev/null"}}],
		"filter_chains": [{"name": "a", "filter_chain_match": {"destination_port": 8080, "prefix_ranges": [{"address_prefix": "10.1.2.3", "prefix_len": 8}],
			"server_names": ["*.example"], "transport_protocol": "raw_buffer", "application_protocols": ["http/1.1"], "source_type": "EXTERNAL", "source_ports": [7]},
			"filters": [`+tcpProxy+`]}],
		"default_filter_chain": {"filters": [`+tcpProxy+`]}}`)
	if l.Name != "virtualInbound" || l.Direction != l4.Inbound || !l.UseOriginalDst || !l.Transparent || l.Unbound || !l.ContinueOnTimeout || l.FilterTimeout != 0 {
		t.Errorf("%+v", l)
	}
	if len(l.Addresses) != 2 || l.Addresses[0].Addr.String() != "0.0.0.0:15006" || !l.Addresses[1].DualStack {
		t.Errorf("addresses %+v", l.Addresses)
	}
	want := l4.Match{
		DestinationPort: 8080, PrefixRanges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ServerNames: []string{"*.example"},
		TransportProtocol: "raw_buffer", ApplicationProtocols: []string{"http/1.1"}, SourceType: l4.External, SourcePorts: []uint16{7},
	}
	if len(l.Chains) != 1 || !reflect.DeepEqual(l.Chains[0].Match, want) || l.Default == nil {
		t.Errorf("chains %+v, default %+v", l.Chains, l.Default)
	}
	for port, off := range map[uint16]bool{9000: true, 9001: false} {
		m := &meta.Conn{Local: meta.Addr{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port)}}
		if got := l.Filters[0].Disabled.Match(m); got != off {
			t.Errorf("filter disabled on port %d: %v", port, got)
		}
	}
	if len(l.Logs) != 1 || l.Logs[0].Filter == nil {
		t.Errorf("logs %+v", l.Logs)
	}
}

// TestUseProxyProto: the field of old stands for the listener filter, after all others.
func TestUseProxyProto(t *testing.T) {
	for _, on := range []string{"true", "false"} {
		l := listenerOf(t, `{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
			"listener_filters": [{"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],
			"filter_chains": [{"use_proxy_proto": `+on+`, "filters": [`+tcpProxy+`]}]}`)
		if n := len(l.Filters); (n == 2) != (on == "true") || l.Filters[0].Name != "tls" || l.Filters[n-1].Factory == nil {
			t.Errorf("%s: filters %+v", on, l.Filters)
		}
	}
}

// TestHashes: a chain keeps its hash, and so its connections, when another one changes.
func TestHashes(t *testing.T) {
	text := func(port string) string {
		return `{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}, "filter_chains": [{"filters": [` + tcpProxy + `]},
			{"filter_chain_match": {"destination_port": ` + port + `}, "filters": [` + tcpProxy + `]}]}`
	}
	a, b, c := listenerOf(t, text("1")), listenerOf(t, text("2")), listenerOf(t, text("1"))
	if a.Hash == b.Hash || a.Hash != c.Hash || a.Chains[0].Hash != b.Chains[0].Hash || a.Chains[1].Hash == b.Chains[1].Hash {
		t.Error("hashes don't follow the configuration")
	}
}

// TestRouteNames: the route tables that a listener needs are known.
func TestRouteNames(t *testing.T) {
	p := parser(t)
	_, err := translate.Listener(encode(t, &listenerv3.Listener{}, `{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}, "filter_chains": [{"filters": [{
		"name": "hcm", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "x",
		"rds": {"route_config_name": "r", "config_source": {"ads": {}}},
		"http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`), p)
	if err != nil || !slices.Equal(p.RDS, []string{"r"}) {
		t.Errorf("RDS %q, %v", p.RDS, err)
	}
}

func FuzzCluster(f *testing.F) {
	_, all := readVerdicts(f, "testdata/clusters.txt")
	for _, v := range all {
		f.Add(encode(f, &clusterv3.Cluster{}, v.json))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if spec, _, err := translate.Cluster(raw, nil, nil); err == nil && spec.Name == "" {
			t.Error("a cluster without a name")
		}
		_, _ = translate.Assignment(raw) // only must not panic
	})
}

func FuzzListener(f *testing.F) {
	_, all := readVerdicts(f, "testdata/listeners.txt")
	for _, v := range all {
		f.Add(encode(f, &listenerv3.Listener{}, v.json))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if spec, err := translate.Listener(raw, parser(t)); err == nil && len(spec.Addresses) == 0 {
			t.Error("a listener without an address")
		}
	})
}
