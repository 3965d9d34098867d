package bandwidthlimit

import (
	"errors"

	bandwidthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/bandwidth_limit/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/bandwidth"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit.
func parse(raw []byte, p *filter.Parser) (*Config, error) { return parseAt(raw, p, false) }

// parseRoute is parse for a route, which needs a limit.
func parseRoute(raw []byte, p *filter.Parser) (*Config, error) { return parseAt(raw, p, true) }

func parseAt(raw []byte, p *filter.Parser, route bool) (*Config, error) {
	var pb bandwidthv3.BandwidthLimit
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"stat_prefix", "enable_mode", "limit_kbps", "fill_interval", "runtime_enabled", "enable_response_trailers", "response_trailer_prefix",
	}})
	if err != nil {
		return nil, err
	}
	interval, err := fromproto.Duration(pb.FillInterval, bandwidth.Interval)
	if err != nil {
		return nil, filter.At("fill_interval", err)
	}
	c := &Config{
		StatPrefix: pb.StatPrefix,
		Request:    pb.EnableMode&bandwidthv3.BandwidthLimit_REQUEST != 0,
		Response:   pb.EnableMode&bandwidthv3.BandwidthLimit_RESPONSE != 0,
		Enabled:    fromproto.RuntimeFlag(pb.RuntimeEnabled, true).On(p.Runtime),
	}
	if pb.EnableResponseTrailers {
		c.Trailers = trailerNames(pb.ResponseTrailerPrefix)
	}
	switch {
	case pb.LimitKbps != nil:
		c.bucket = bandwidth.New(pb.LimitKbps.Value, interval)
	case route:
		return nil, filter.At("limit_kbps", errors.New("is required for a route"))
	default: // no limit
		c.Request, c.Response = false, false
	}
	return c, nil
}
