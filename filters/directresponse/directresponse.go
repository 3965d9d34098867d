// Package directresponse is the terminal network filter direct_response: it tells every
// client the same and closes the connection.
package directresponse

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Spec describes the filter.
var Spec = filter.NetworkSpec[*Config]{
	Name:  "envoy.filters.network.direct_response",
	Type:  "envoy.extensions.filters.network.direct_response.v3.Config",
	Parse: parse,
	New: func(c *Config, _ filter.Env) (func() filter.Network, error) {
		return func() filter.Network { return &responder{c} }, nil
	},
}

// Config is the parsed configuration.
type Config struct{ Response string }

type responder struct{ c *Config }

var _ filter.ConnTerminal = (*responder)(nil)

// Reset implements filter.Network.
func (*responder) Reset() {}

// Serve implements filter.ConnTerminal.
func (r *responder) Serve(c *filter.Conn) error {
	c.Log.Details = "direct_response"
	var b buffer.Buf
	b.AppendString(r.c.Response)
	c.Log.BytesSent = int64(b.Len())
	return c.Engine.Send(&b, true)
}
