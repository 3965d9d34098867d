// Package hcm is the terminal network filter http_connection_manager: it hands a
// connection to the HTTP engine. Its config.go turns Envoy's message into l7.Spec; what
// happens to a request is in package l7.
package hcm

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/l7"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// Spec describes the filter.
var Spec = filter.NetworkSpec[*Config]{
	Name:  "envoy.filters.network.http_connection_manager",
	Type:  "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
	Parse: parse,
	New:   newFactory,
}

// Config is the parsed configuration.
type Config struct {
	spec *l7.Spec
	slot func(name string) filter.Slot
}

func newFactory(c *Config, env filter.Env) (func() filter.Network, error) {
	m, err := l7.New(c.spec, env, c.slot)
	if err != nil {
		return nil, err
	}
	return func() filter.Network { return conn{m} }, nil
}

// conn serves connections; it has no state of its own.
type conn struct{ m *l7.Manager }

var _ filter.ConnTerminal = conn{}

// Reset implements filter.Network.
func (conn) Reset() {}

// Forecast tells what would become of a request on such a connection (l4.HTTPForecaster).
func (c conn) Forecast(over *meta.Conn, head *header.Map) *why.Exchange {
	return c.m.Forecast(over, head)
}

// Serve implements filter.ConnTerminal.
func (c conn) Serve(fc *filter.Conn) error { return c.m.ServeConn(fc) }
