package translate

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	graphitev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/stat_sinks/graphite_statsd/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/stats/statsd"
)

// The sinks of this build, and one that has gone out of use.
const (
	statsdSink   = "envoy.config.metrics.v3.StatsdSink"
	dogSink      = "envoy.config.metrics.v3.DogStatsdSink"
	graphiteSink = "envoy.extensions.stat_sinks.graphite_statsd.v3.GraphiteStatsdSink"
	hystrixSink  = "envoy.config.metrics.v3.HystrixSink"
)

// processSinks converts stats_sinks. One that this build does not have gives a warning: the
// proxy is whole without it.
func processSinks(pb *bootstrapv3.Bootstrap, c *config.Process, p *filter.Parser) error {
	for i, s := range pb.StatsSinks {
		a, err := fromproto.Any(s.GetTypedConfig())
		if err != nil {
			return filter.AtIndex("stats_sinks", i, filter.At("typed_config", err))
		}
		sink, err := statsSink(a, p)
		if err != nil {
			return filter.AtIndex("stats_sinks", i, filter.At("typed_config", err))
		}
		if sink == nil {
			p.Warnings = append(p.Warnings, fmt.Sprintf("stats_sinks[%d]: this build does not have the sink %q", i, a.Type))
			continue
		}
		c.StatsSinks = append(c.StatsSinks, sink)
	}
	return nil
}

func statsSink(a filter.Any, p *filter.Parser) (any, error) {
	switch a.Type {
	case statsdSink:
		return plainStatsd(a.Value, p)
	case dogSink:
		return datagramStatsd(a.Value, &metricsv3.DogStatsdSink{}, statsd.Dog, p)
	case graphiteSink:
		return datagramStatsd(a.Value, &graphitev3.GraphiteStatsdSink{}, statsd.Graphite, p)
	case fromproto.OpenTelemetrySinkType:
		return fromproto.OpenTelemetrySink(a.Value, p)
	case fromproto.MetricsServiceType:
		return fromproto.MetricsService(a.Value, p)
	case hystrixSink:
		return nil, fmt.Errorf("this build does not support the sink %q", a.Type)
	}
	return nil, nil
}

// defaultPrefix is what names begin with where nobody says.
const defaultPrefix = "envoy"

func prefixOf(text string) string {
	if text == "" {
		return defaultPrefix
	}
	return text
}

func plainStatsd(raw []byte, p *filter.Parser) (_ *statsd.Config, err error) {
	var pb metricsv3.StatsdSink
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"address", "tcp_cluster_name", "prefix"}}); err != nil {
		return nil, err
	}
	s := &statsd.Config{Prefix: prefixOf(pb.Prefix)}
	switch to := pb.StatsdSpecifier.(type) {
	case *metricsv3.StatsdSink_TcpClusterName:
		if s.Cluster = to.TcpClusterName; s.Cluster == "" {
			err = errors.New("must not be empty")
		}
		return s, filter.At("tcp_cluster_name", err)
	case *metricsv3.StatsdSink_Address:
		s.Address, err = datagramAddress(to.Address)
		return s, filter.At("address", err)
	}
	return nil, errors.New("one of address, tcp_cluster_name is required")
}

// datagramStatsd converts a sink that only sends datagrams.
func datagramStatsd(raw []byte, pb interface {
	proto.Message
	GetAddress() *corev3.Address
	GetPrefix() string
	GetMaxBytesPerDatagram() *wrapperspb.UInt64Value
}, d statsd.Dialect, p *filter.Parser,
) (_ *statsd.Config, err error) {
	if err := fromproto.Unmarshal(raw, pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"address", "prefix", "max_bytes_per_datagram"}}); err != nil {
		return nil, err
	}
	s := &statsd.Config{Prefix: prefixOf(pb.GetPrefix()), Dialect: d, Max: int(pb.GetMaxBytesPerDatagram().GetValue())}
	s.Address, err = datagramAddress(pb.GetAddress())
	return s, filter.At("address", err)
}

func datagramAddress(a *corev3.Address) (string, error) {
	sa := a.GetSocketAddress()
	if sa == nil {
		return "", errors.New("is required, with a socket_address")
	}
	if net.ParseIP(sa.Address) == nil {
		return "", filter.At("socket_address.address", fmt.Errorf("%q is no IP address", sa.Address))
	}
	port := sa.GetPortValue()
	if port == 0 || port > 65535 {
		return "", filter.At("socket_address.port_value", fmt.Errorf("%d is no port", port))
	}
	return net.JoinHostPort(sa.Address, strconv.Itoa(int(port))), nil
}
