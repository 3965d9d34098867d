package dynamicforwardproxy

import (
	"errors"
	"strconv"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// SNI describes the filter of connections.
var SNI = filter.NetworkSpec[*SNIConfig]{
	Name:  "envoy.filters.network.sni_dynamic_forward_proxy",
	Type:  "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
	Parse: parseSNI,
	New: func(c *SNIConfig, env filter.Env) (func() filter.Network, error) {
		cache, err := open(c.Forward, env)
		if err != nil {
			return nil, err
		}
		return func() filter.Network { return &connFilter{c, cache} }, nil
	},
}

// SNIConfig is the parsed configuration.
type SNIConfig struct {
	Forward *cluster.Forward
	Port    uint16 // port_value, 443 unless set
}

type connFilter struct {
	c     *SNIConfig
	cache *dnscache.Cache
}

var _ filter.ConnOpener = (*connFilter)(nil)

// Reset implements filter.Network.
func (*connFilter) Reset() {}

// errUnresolved is the end of a connection whose server name leads nowhere.
var errUnresolved = errors.New("sni_dynamic_forward_proxy: the server name has no address")

// OnConn implements filter.ConnOpener. Filter state may say another host and port.
func (f *connFilter) OnConn(c *filter.Conn) error {
	at := cluster.Attempt{Conn: c.Meta, State: c}
	key, ok := at.ForwardKey(f.c.Port)
	if !ok {
		return nil // without a server name tcp_proxy has no host
	}
	if _, err := f.cache.Resolve(c.Engine.Context(), key); err != nil {
		c.Log.Flags |= meta.DNSResolutionFailed
		return errors.Join(errUnresolved, err)
	}
	c.State.Set(cluster.DynamicHostKey, key.Host)
	c.State.Set(cluster.DynamicPortKey, strconv.Itoa(int(key.Port)))
	return nil
}
