// Package originaldst is the listener filter original_dst: it restores the
// destination that a connection had before it was redirected to the listener.
//
// Handing the connection to the listener of that destination is not here: that is
// use_original_dst, in package l4.
package originaldst

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Spec describes the filter.
var Spec = filter.ListenerSpec[*Config]{
	Name:  "envoy.filters.listener.original_dst",
	Type:  "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
	Parse: parse,
	New:   func(*Config, filter.Env) (filter.Listener, error) { return inspector{}, nil },
}

// Config is the parsed configuration: there is nothing to configure.
type Config struct{}

type inspector struct{}

var _ filter.Listener = inspector{}

// Inspect implements filter.Listener. A connection that was not redirected keeps its
// local address.
func (inspector) Inspect(p filter.Peeker) error {
	if dst, ok := netio.OriginalDst(p.Socket()); ok {
		m := p.Meta()
		m.OriginalDst, m.LocalRestored, m.Local = dst, true, dst
	}
	return nil
}
