package ondemand

import (
	"errors"
	"time"

	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// defaultTimeout is odcds.timeout where it is not set.
const defaultTimeout = 5 * time.Second

// parse decodes envoy.extensions.filters.http.on_demand.v3.OnDemand.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb ondemandv3.OnDemand
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"odcds"}}); err != nil {
		return nil, err
	}
	return clusters(pb.Odcds, p)
}

// parseRoute decodes envoy.extensions.filters.http.on_demand.v3.PerRouteConfig.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) {
	var pb ondemandv3.PerRouteConfig
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{"odcds"}}); err != nil {
		return nil, err
	}
	return clusters(pb.Odcds, p)
}

// clusters converts what both messages have in common; nil looks for no clusters.
func clusters(pb *ondemandv3.OnDemandCds, p *filter.Parser) (*Config, error) {
	if pb == nil {
		return &Config{}, nil
	}
	if err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"source", "timeout"}}); err != nil {
		return nil, filter.At("odcds", err)
	}
	from, err := fromproto.ConfigSource(pb.Source)
	if err == nil && from.Path != "" {
		err = errors.New("a file cannot be asked for clusters: expected ads or api_config_source")
	}
	if err != nil {
		return nil, filter.At("odcds.source", err)
	}
	c := &Config{Clusters: true, From: from.API, Timeout: defaultTimeout}
	if pb.Timeout != nil {
		c.Timeout = pb.Timeout.AsDuration()
	}
	p.ODCDS = append(p.ODCDS, from)
	return c, nil
}
