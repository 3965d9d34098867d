package telemetry_test

import (
	"encoding/json"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// startSinking runs a proxy with a sink that is told of statistics all the time.
func startSinking(t *testing.T, sink obj, cluster int, http2 bool) *dialogue.Proxy {
	config, err := json.Marshal(obj{
		"node": obj{"id": "node-1", "cluster": "my-cluster"}, "admin": obj{"address": dialogue.SocketAddress(ports.FreeN(t, 1)[0])},
		"stats_flush_interval": "0.01s", "stats_sinks": []any{obj{"name": "s", "typed_config": sink}},
		"static_resources": obj{"clusters": []any{dialogue.StaticCluster("to", cluster, http2)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return dialogue.StartMecha(t, config)
}

// TestSlowCollector: flushes for a collector that does not answer are dropped and counted.
func TestSlowCollector(t *testing.T) {
	service := obj{"envoy_grpc": obj{"cluster_name": "to"}}
	for prefix, sink := range map[string]obj{
		"stats_sinks.open_telemetry":  {"@type": ofOTLPSink, "grpc_service": service},
		"stats_sinks.metrics_service": {"@type": ofMetricsSink, "transport_api_version": "V3", "grpc_service": service},
	} {
		t.Run(prefix, func(t *testing.T) {
			p := startSinking(t, sink, silent(t, false), true)
			until(t, "a drop", func() bool { return dropped(p.Stat(prefix + ".flushes_dropped")) })
			if sent := p.Stat(prefix + ".messages_sent"); prefix == "stats_sinks.open_telemetry" && sent != "0" {
				t.Errorf("%s messages sent", sent)
			}
		})
	}
}

// TestDeadCollector: nobody listens.
func TestDeadCollector(t *testing.T) {
	for stat, sink := range map[string]obj{
		"stats_sinks.open_telemetry.messages_failed":  {"@type": ofOTLPSink, "grpc_service": obj{"envoy_grpc": obj{"cluster_name": "to"}}},
		"stats_sinks.metrics_service.messages_failed": {"@type": ofMetricsSink, "transport_api_version": "V3", "grpc_service": obj{"envoy_grpc": obj{"cluster_name": "to"}}},
		"statsd.cx_failed":                            {"@type": ofStatsd, "tcp_cluster_name": "to"},
	} {
		t.Run(stat, func(t *testing.T) {
			p := startSinking(t, sink, ports.FreeN(t, 1)[0], true)
			until(t, "a failure", func() bool { return dropped(p.Stat(stat)) })
		})
	}
}

func dropped(stat string) bool { return stat != "" && stat != "0" }

// TestStatsdReconnects: a connection that statsd closes is made again.
func TestStatsdReconnects(t *testing.T) {
	p := startSinking(t, obj{"@type": ofStatsd, "tcp_cluster_name": "to"}, silent(t, true), false)
	until(t, "another connection", func() bool {
		n := p.Stat("cluster.to.upstream_cx_total")
		return dropped(n) && n != "1" && n != "2"
	})
}
