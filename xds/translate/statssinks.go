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
		c.StatsSinks = append(c.StatsSinks, *sink)
	}
	return nil
}

// defaultPrefix is what names begin with where nobody says.
const defaultPrefix = "envoy"

func statsSink(a filter.Any, p *filter.Parser) (*statsd.Config, error) {
	s := &statsd.Config{Prefix: defaultPrefix}
	var m proto.Message
	switch a.Type {
	case statsdSink:
		m = &metricsv3.StatsdSink{}
	case dogSink:
		m, s.Dialect = &metricsv3.DogStatsdSink{}, statsd.Dog
	case graphiteSink:
		m, s.Dialect = &graphitev3.GraphiteStatsdSink{}, statsd.Graphite
	case hystrixSink:
		return nil, fmt.Errorf("this build does not support the sink %q", a.Type)
	default:
		return nil, nil
	}
	if err := fromproto.Unmarshal(a.Value, m); err != nil {
		return nil, err
	}
	err := fromproto.Check(m, p, fromproto.Fields{
		Used:    []string{"address", "prefix", "max_bytes_per_datagram"},
		Ignored: []string{"scale_histogram_units_to_milliseconds"}, // they are in milliseconds
	})
	if err != nil {
		return nil, err
	}
	of := m.(interface {
		GetAddress() *corev3.Address
		GetPrefix() string
	})
	if of.GetPrefix() != "" {
		s.Prefix = of.GetPrefix()
	}
	switch b := m.(type) {
	case *metricsv3.DogStatsdSink:
		s.Max = int(b.MaxBytesPerDatagram.GetValue())
	case *graphitev3.GraphiteStatsdSink:
		s.Max = int(b.MaxBytesPerDatagram.GetValue())
	}
	s.Address, err = datagramAddress(of.GetAddress())
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
