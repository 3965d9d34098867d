// Package echo is the terminal network filter echo: it sends everything back to where
// it came from.
package echo

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Spec describes the filter.
var Spec = filter.NetworkSpec[struct{}]{
	Name:  "envoy.filters.network.echo",
	Type:  "envoy.extensions.filters.network.echo.v3.Echo",
	Parse: parse,
	New: func(struct{}, filter.Env) (func() filter.Network, error) {
		return func() filter.Network { return echo{} }, nil
	},
}

type echo struct{}

var _ filter.ConnTerminal = echo{}

// Reset implements filter.Network.
func (echo) Reset() {}

// Serve implements filter.ConnTerminal.
func (echo) Serve(c *filter.Conn) error {
	var b buffer.Buf
	for {
		end, err := c.Engine.Recv(&b)
		if err != nil {
			return err
		}
		n := int64(b.Len())
		if err := c.Engine.Send(&b, end); err != nil {
			return err
		}
		c.Log.BytesReceived += n
		c.Log.BytesSent += n
		if end {
			return nil
		}
	}
}
