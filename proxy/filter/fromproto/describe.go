package fromproto

import (
	"errors"
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// describe gives a route what others ask of it: names, limits, statistics.
func (b *hostBuilder) describe(r *route.Route, pb *routev3.Route) (err error) {
	if d := pb.Decorator; d != nil {
		r.Decorator = &route.Decorator{Operation: d.Operation, Propagate: d.Propagate == nil || d.Propagate.Value}
	}
	if pb.Tracing != nil {
		if r.Tracing, err = routeTracing(pb.Tracing); err != nil {
			return filter.At("tracing", err)
		}
	}
	if a := pb.GetRoute(); a != nil {
		r.IncludeHostLimits = a.IncludeVhRateLimits.GetValue() //nolint:staticcheck // deprecated, still sent
		if r.Limits, err = RateLimits(a.RateLimits, b.p); err != nil {
			return filter.At("route", err)
		}
		if err := b.mustExist(a.GetCluster()); err != nil {
			return filter.At("route.cluster", err)
		}
	}
	if pb.StatPrefix != "" && b.p.Stats != nil {
		r.Stats = route.RouteStats(b.p.Stats, b.pb.Name, pb.StatPrefix, b.vh)
	}
	return nil
}

// mustExist refuses a cluster that is not there, where validate_clusters asks for that.
func (b *tableBuilder) mustExist(cluster string) error {
	if cluster == "" || !b.validate || b.p.HasCluster == nil || b.p.HasCluster(cluster) {
		return nil
	}
	return fmt.Errorf("there is no cluster %q, and validate_clusters is on", cluster)
}

// virtualClusters converts virtual_clusters; nil if there are none.
func (b *hostBuilder) virtualClusters(vh *route.VirtualHost) error {
	if len(b.pb.VirtualClusters) == 0 {
		return nil
	}
	count := func(name string) *route.Stats {
		if b.p.Stats == nil {
			return &route.Stats{}
		}
		return route.ClusterStats(b.p.Stats, vh.Name, name, vh)
	}
	out := &route.VirtualClusters{Other: count("other")}
	for i, pb := range b.pb.VirtualClusters {
		headers, err := Headers("headers", pb.Headers)
		if err == nil && len(headers) == 0 {
			err = filter.At("headers", errors.New("needs at least one item"))
		}
		if err != nil {
			return filter.AtIndex("virtual_clusters", i, err)
		}
		out.All = append(out.All, route.VirtualCluster{Name: pb.Name, Headers: headers, Stats: count(pb.Name)})
	}
	vh.Clusters = out
	return nil
}
