// Package originalsrc is the listener filter original_src: connections to upstream come
// from the address that the downstream connection comes from, as listener filters
// before it may have found out (proxy_protocol).
//
// Binding to that address is not here: see package cluster.
package originalsrc

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Spec describes the filter.
var Spec = filter.ListenerSpec[*Config]{
	Name:  "envoy.filters.listener.original_src",
	Type:  "envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
	Parse: parse,
	New:   func(c *Config, _ filter.Env) (filter.Listener, error) { return inspector{c}, nil },
}

// Config is the parsed configuration.
type Config struct {
	Mark int // SO_MARK of upstream connections, 0 is none
}

type inspector struct{ c *Config }

var _ filter.Listener = inspector{}

// Inspect implements filter.Listener. A client without an IP address changes nothing.
func (f inspector) Inspect(p filter.Peeker) error {
	if m := p.Meta(); m.Remote.AddrPort.IsValid() {
		m.UpstreamSource = &meta.Source{Addr: m.Remote.Addr(), Mark: f.c.Mark}
	}
	return nil
}
