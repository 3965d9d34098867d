package healthcheck

import (
	"cmp"
	"errors"
	"slices"

	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
)

// parse decodes envoy.extensions.filters.http.health_check.v3.HealthCheck.
func parse(raw []byte, p *filter.Parser) (*Config, error) {
	var pb healthv3.HealthCheck
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	err := fromproto.Check(&pb, p, fromproto.Fields{Used: []string{
		"pass_through_mode", "cache_time", "cluster_min_healthy_percentages", "headers",
	}})
	if err != nil {
		return nil, err
	}
	c := &Config{PassThrough: pb.PassThroughMode.GetValue()}
	if c.CacheTime, err = fromproto.Duration(pb.CacheTime, 0); err != nil {
		return nil, filter.At("cache_time", err)
	}
	if c.CacheTime > 0 && !c.PassThrough {
		return nil, filter.At("cache_time", errors.New("must not be set when pass_through_mode is false"))
	}
	if c.Headers, err = fromproto.Headers("headers", pb.Headers); err != nil || c.PassThrough {
		return c, err
	}
	for name, percent := range pb.ClusterMinHealthyPercentages {
		c.Clusters = append(c.Clusters, Cluster{name, int64(percent.GetValue())})
	}
	slices.SortFunc(c.Clusters, func(a, b Cluster) int { return cmp.Compare(a.Name, b.Name) })
	return c, nil
}
