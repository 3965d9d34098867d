// Package ondemand is the HTTP filter on_demand: a request for which there is no virtual
// host, no table of its scope or no cluster waits while that is asked for over VHDS, SRDS
// or ODCDS, and goes on when it has come, or will not.
//
// Who asks, and how many may wait, is behind filter.Demand.
package ondemand

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.on_demand",
	Type:       "envoy.extensions.filters.http.on_demand.v3.OnDemand",
	RouteType:  "envoy.extensions.filters.http.on_demand.v3.PerRouteConfig",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// routeTimeout is how long a request waits for its virtual host or the table of its scope.
const routeTimeout = 15 * time.Second

// Config says where clusters come from that are not there.
type Config struct {
	Clusters bool          // odcds is set
	From     string        // filter.Wanted.From of clusters
	Timeout  time.Duration // odcds.timeout
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	if env.Demand == nil {
		return nil, nil // nothing more can come
	}
	return func() filter.HTTP { return &Filter{c, &env} }, nil
}

// Filter serves one stream at a time.
type Filter struct {
	config *Config
	env    *filter.Env // shared: read only
}

var _ filter.RequestHeaders = (*Filter)(nil)

// Reset implements filter.HTTP.
func (f *Filter) Reset() {}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	if s.Route == nil {
		f.findRoute(s)
	}
	c := f.config
	if own, ok := filter.Override[*Config](s, f.env.Slot); ok {
		c = own
	}
	if !c.Clusters {
		return nil
	}
	name := s.ClusterName()
	if name == "" {
		return nil
	}
	if s.Cluster = f.env.Clusters.Cluster(name); s.Cluster == nil &&
		f.env.Demand.Wait(s.Engine.Context(), filter.Wanted{Kind: filter.WantedCluster, From: c.From, Name: name}, c.Timeout) {
		s.Cluster = f.env.Clusters.Cluster(name)
	}
	return nil
}

// findRoute waits for what the route depends on: first the table, then its virtual host.
func (f *Filter) findRoute(s *filter.Stream) {
	for range 2 {
		w, ok := s.Engine.MissingRoute()
		if !ok || !f.env.Demand.Wait(s.Engine.Context(), w, routeTimeout) {
			return
		}
		s.Engine.RefreshRoute()
		if s.Route != nil {
			return
		}
	}
}
