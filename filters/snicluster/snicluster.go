// Package snicluster is the network filter sni_cluster: the server name of the TLS
// handshake is the name of the cluster.
package snicluster

import (
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Spec describes the filter.
var Spec = filter.NetworkSpec[struct{}]{
	Name:  "envoy.filters.network.sni_cluster",
	Type:  "envoy.extensions.filters.network.sni_cluster.v3.SniCluster",
	Parse: parse,
	New: func(struct{}, filter.Env) (func() filter.Network, error) {
		return func() filter.Network { return naming{} }, nil
	},
}

type naming struct{}

var _ filter.ConnOpener = naming{}

// Reset implements filter.Network.
func (naming) Reset() {}

// OnConn implements filter.ConnOpener.
func (naming) OnConn(c *filter.Conn) error {
	if name := c.Meta.ServerName; name != "" {
		c.State.Set("envoy.tcp_proxy.cluster", name)
	}
	return nil
}
