// Package originaldst is the listener filter original_dst: it restores the
// destination that a connection had before it was redirected to the listener. A
// connection to an internal listener has no destination that the kernel knows: there it
// is what filter state or metadata of the dialer say.
//
// Handing the connection to the listener of that destination is not here: that is
// use_original_dst, in package l4.
package originaldst

import (
	"net/netip"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Spec describes the filter.
var Spec = filter.ListenerSpec[*Config]{
	Name:  "envoy.filters.listener.original_dst",
	Type:  "envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
	Parse: parse,
	New:   func(*Config, filter.Env) (filter.Listener, error) { return inspector{}, nil },
}

// Where the addresses of a connection to an internal listener are.
const (
	localState  = "envoy.filters.listener.original_dst.local_ip"
	remoteState = "envoy.filters.listener.original_dst.remote_ip"
	namespace   = "envoy.filters.listener.original_dst"
	localField  = "local"
)

// Config is the parsed configuration: there is nothing to configure.
type Config struct{}

type inspector struct{}

var _ filter.Listener = inspector{}

// Inspect implements filter.Listener. A connection that was not redirected keeps its
// local address.
func (inspector) Inspect(p filter.Peeker) error {
	m := p.Meta()
	if m.Local.IsInternal() {
		restoreInternal(p.Conn())
		return nil
	}
	if dst, ok := netio.OriginalDst(p.Socket()); ok {
		m.OriginalDst, m.LocalRestored, m.Local = dst, true, dst
	}
	return nil
}

func restoreInternal(c *filter.Conn) {
	m := c.Meta
	if local, ok := stateAddr(c, localState); ok {
		m.OriginalDst, m.LocalRestored, m.Local = local, true, local
	} else if v, _ := c.Metadata.Find(namespace, localField); v != nil {
		text, _ := v.(string)
		if local, ok := parseAddr(text); ok {
			m.OriginalDst, m.LocalRestored, m.Local = local, true, local
		}
	}
	if remote, ok := stateAddr(c, remoteState); ok {
		m.Remote = remote
	}
}

func stateAddr(c *filter.Conn, key string) (meta.Addr, bool) {
	text, ok := filter.StateText(c.State.Get(key))
	if !ok {
		return meta.Addr{}, false
	}
	return parseAddr(text)
}

func parseAddr(text string) (meta.Addr, bool) {
	ap, err := netip.ParseAddrPort(text)
	return meta.Addr{AddrPort: ap}, err == nil
}
