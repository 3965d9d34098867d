package translate

import (
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/stats/statsd"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
)

func TestStatsSinks(t *testing.T) {
	const dog = `{"@type": "type.googleapis.com/envoy.config.metrics.v3.DogStatsdSink", "max_bytes_per_datagram": 1400, "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8125}}}`
	for sink, want := range map[string]string{
		dog: "",
		`{"@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink"}`:                                                                        "one of address, tcp_cluster_name",
		`{"@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig"}`:                                                              "typed_config.grpc_service",
		`{"@type": "type.googleapis.com/envoy.extensions.stat_sinks.open_telemetry.v3.SinkConfig"}`:                                                  "one of grpc_service, http_service",
		`{"@type": "type.googleapis.com/envoy.config.metrics.v3.HystrixSink"}`:                                                                       "HystrixSink",
		`{"@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink", "address": {"socket_address": {"address": "statsd", "port_value": 1}}}`: "no IP address",
	} {
		b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: `{"stats_sinks": [{"name": "s", "typed_config": ` + sink + `}]}`})
		var c *config.Process
		if err == nil {
			c, _, err = Process(b)
		}
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", sink, err, want)
		case want == "" && err != nil:
			t.Errorf("%s: %v", sink, err)
		case want == "" && (len(c.StatsSinks) != 1 || (*c.StatsSinks[0].(*statsd.Config) != statsd.Config{Address: "127.0.0.1:8125", Prefix: "envoy", Dialect: statsd.Dog, Max: 1400})):
			t.Errorf("%s: got %+v", sink, c.StatsSinks)
		}
	}
}
