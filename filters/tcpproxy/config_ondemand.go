package tcpproxy

import (
	"errors"
	"time"

	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// defaultDemandTimeout is on_demand.timeout where it is not set.
const defaultDemandTimeout = time.Minute

// parseOnDemand reads on_demand; without odcds_config it does nothing.
func (c *Config) parseOnDemand(pb *tcpproxyv3.TcpProxy, p *filter.Parser) error {
	o := pb.OnDemand
	if o == nil {
		return nil
	}
	if err := fromproto.Check(o, p, fromproto.Fields{Used: []string{"odcds_config", "timeout"}}); err != nil {
		return filter.At("on_demand", err)
	}
	if o.OdcdsConfig == nil {
		return nil
	}
	from, err := fromproto.ConfigSource(o.OdcdsConfig)
	if err == nil && from.Path != "" {
		err = errors.New("a file cannot be asked for clusters: expected ads or api_config_source")
	}
	if err != nil {
		return filter.At("on_demand.odcds_config", err)
	}
	c.Demand = &Demand{From: from.API, Timeout: defaultDemandTimeout}
	if o.Timeout != nil {
		if c.Demand.Timeout = o.Timeout.AsDuration(); c.Demand.Timeout <= 0 {
			return filter.At("on_demand.timeout", errors.New("must be more than 0"))
		}
	}
	p.ODCDS = append(p.ODCDS, from)
	return nil
}
