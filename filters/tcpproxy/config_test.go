package tcpproxy

import (
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/backoff"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/message"
)

// parseJSON parses a TcpProxy written as JSON.
func parseJSON(t *testing.T, text string) (*Config, *filter.Parser, error) {
	t.Helper()
	raw := message.Raw(t, &tcpproxyv3.TcpProxy{}, text)
	p := &filter.Parser{}
	c, err := parse(raw, p)
	return c, p, err
}

func TestParse(t *testing.T) {
	c, _, err := parseJSON(t, `{"stat_prefix": "p", "cluster": "c"}`)
	if err != nil {
		t.Fatal(err)
	}
	if c.IdleTimeout != time.Hour || c.MaxConnectAttempts != 1 || c.MaxDuration != 0 || c.pick().Name != "c" {
		t.Errorf("defaults %+v", c)
	}
	c, p, err := parseJSON(t, `{"stat_prefix": "p", "idle_timeout": "0s", "max_connect_attempts": 4,
		"weighted_clusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 3}]},
		"max_downstream_connection_duration": "10s", "max_downstream_connection_duration_jitter_percentage": {"value": 50},
		"backoff_options": {"base_interval": "0.1s"}, "hash_policy": [{"source_ip": {}}],
		"access_log_options": {"flush_access_log_on_connected": true}, "check_drain_close": false}`)
	if err != nil {
		t.Fatal(err)
	}
	if c.IdleTimeout != 0 || c.MaxConnectAttempts != 4 || !c.HashSourceIP || c.Backoff != (backoff.Policy{Base: 100 * time.Millisecond, Max: time.Second}) {
		t.Errorf("parsed %+v", c)
	}
	if len(p.Warnings) != 0 || !c.LogTimes.Connected {
		t.Errorf("warnings %q, %+v", p.Warnings, c.LogTimes)
	}
	for range 100 {
		if d := c.lifetime(); d < 10*time.Second || d > 15*time.Second {
			t.Fatalf("lifetime %v", d)
		}
	}
	seen := map[string]int{}
	for range 4000 {
		seen[c.pick().Name]++
	}
	if a := seen["a"]; a < 800 || a > 1200 || a+seen["b"] != 4000 {
		t.Errorf("picked %v", seen)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"cluster": "c"}`:                    "stat_prefix",
		`{"stat_prefix": "p"}`:                "cluster_specifier",
		`{"stat_prefix": "p", "cluster": ""}`: "cluster: must not be empty",
		`{"stat_prefix": "p", "cluster": "c", "tunneling_config": {"hostname": ""}}`:                                                 "tunneling_config.hostname",
		`{"stat_prefix": "p", "cluster": "c", "tunneling_config": {"hostname": "h", "post_path": "/p"}}`:                             "tunneling_config.post_path",
		`{"stat_prefix": "p", "cluster": "c", "tunneling_config": {"hostname": "%NOSUCH%"}}`:                                         "tunneling_config.hostname",
		`{"stat_prefix": "p", "cluster": "c", "on_demand": {"odcds_config": {"ads": {}}, "timeout": "0s"}}`:                          "on_demand.timeout",
		`{"stat_prefix": "p", "cluster": "c", "access_log_options": {"access_log_flush_interval": "0.0001s"}}`:                       "access_log_options.access_log_flush_interval",
		`{"stat_prefix": "p", "cluster": "c", "access_log_options": {}, "flush_access_log_on_connected": true}`:                      "access_log_options",
		`{"stat_prefix": "p", "cluster": "c", "proxy_protocol_tlvs": [{"type": 256, "value": "aGk="}]}`:                              "proxy_protocol_tlvs[0].type",
		`{"stat_prefix": "p", "cluster": "c", "proxy_protocol_tlvs": [{"type": 25}]}`:                                                "proxy_protocol_tlvs[0]",
		`{"stat_prefix": "p", "cluster": "c", "upstream_connect_mode": "ON_DOWNSTREAM_DATA"}`:                                        "upstream_connect_mode",
		`{"stat_prefix": "p", "cluster": "c", "max_connect_attempts": 0}`:                                                            "max_connect_attempts",
		`{"stat_prefix": "p", "cluster": "c", "idle_timeout": "-1s"}`:                                                                "idle_timeout",
		`{"stat_prefix": "p", "cluster": "c", "max_downstream_connection_duration": "0s"}`:                                           "max_downstream_connection_duration",
		`{"stat_prefix": "p", "cluster": "c", "max_downstream_connection_duration_jitter_percentage": {"value": 101}}`:               "jitter_percentage.value",
		`{"stat_prefix": "p", "cluster": "c", "hash_policy": [{"filter_state": {"key": ""}}]}`:                                       "hash_policy[0]",
		`{"stat_prefix": "p", "cluster": "c", "backoff_options": {"base_interval": "2s", "max_interval": "1s"}}`:                     "backoff_options.max_interval",
		`{"stat_prefix": "p", "cluster": "c", "access_log": [{"name": "x"}]}`:                                                        "access_log[0]",
		`{"stat_prefix": "p", "weighted_clusters": {}}`:                                                                              "weighted_clusters.clusters",
		`{"stat_prefix": "p", "weighted_clusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b"}]}}`:                       "weighted_clusters.clusters[1].weight",
		`{"stat_prefix": "p", "weighted_clusters": {"clusters": [{"weight": 1}]}}`:                                                   "weighted_clusters.clusters[0].name",
		`{"stat_prefix": "p", "weighted_clusters": {"clusters": [{"name": "a", "weight": 4294967295}, {"name": "b", "weight": 1}]}}`: "sum of the weights",
	} {
		_, _, err := parseJSON(t, text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := parse([]byte{0xff}, nil); err == nil {
		t.Error("took what is no message")
	}
}

func TestParseConnect(t *testing.T) {
	c, p, err := parseJSON(t, `{"stat_prefix": "p", "metadata_match": {"filter_metadata": {"envoy.lb": {"a": "x", "b": "y"}}},
		"weighted_clusters": {"clusters": [{"name": "a", "weight": 1, "metadata_match": {"filter_metadata": {"envoy.lb": {"b": "z"}}}}]},
		"hash_policy": [{"filter_state": {"key": "k"}}], "upstream_connect_mode": "ON_DOWNSTREAM_DATA", "max_early_data_bytes": 0,
		"access_log_options": {"access_log_flush_interval": "2s", "flush_access_log_on_start": true},
		"proxy_protocol_tlvs": [{"type": 5, "value": "aGk="}, {"type": 6, "format_string": {"text_format_source": {"inline_string": "%START_TIME%"}}}],
		"tunneling_config": {"hostname": "%DOWNSTREAM_LOCAL_ADDRESS%", "headers_to_add": [{"header": {"key": "x", "value": "y"}}], "propagate_response_headers": true}}`)
	if err != nil || len(p.Warnings) != 0 {
		t.Fatal(err, p.Warnings)
	}
	if a, _ := c.Clusters[0].Match.Get("a"); a == "" || len(c.Clusters[0].Match) != 2 {
		t.Errorf("labels %v", c.Clusters[0].Match)
	}
	if c.HashState != "k" || !c.AwaitData || c.LogTimes != (LogTimes{Start: true, Every: 2 * time.Second}) || !c.Tunnel.KeepResponse {
		t.Errorf("%+v", c)
	}
	if len(c.TLVs) != 2 || string(c.TLVs[0].Value) != "hi" || c.TLVs[1].Format == nil {
		t.Errorf("%+v", c.TLVs)
	}
}

func FuzzParse(f *testing.F) {
	for _, pb := range []*tcpproxyv3.TcpProxy{
		{StatPrefix: "p", ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: "c"}},
		{StatPrefix: "p", HashPolicy: []*typev3.HashPolicy{{}}, BackoffOptions: &corev3.BackoffStrategy{}, ClusterSpecifier: &tcpproxyv3.TcpProxy_WeightedClusters{
			WeightedClusters: &tcpproxyv3.TcpProxy_WeightedCluster{Clusters: []*tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight{{Name: "a", Weight: 1}}},
		}},
	} {
		raw, err := proto.Marshal(pb)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parse(raw, &filter.Parser{})
		if err == nil && (len(c.Clusters) == 0 || c.pick().Name == "" || c.MaxConnectAttempts < 1 || c.IdleTimeout < 0) {
			t.Errorf("took %+v", c)
		}
	})
}
