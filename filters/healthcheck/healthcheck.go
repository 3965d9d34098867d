// Package healthcheck is the HTTP filter health_check: it answers the health checks of
// load balancers in front of the proxy, or passes them on and remembers the answer.
package healthcheck

import (
	"net/http"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Spec describes the filter.
var Spec = filter.HTTPSpec[*Config]{
	Name:  "envoy.filters.http.health_check",
	Type:  "envoy.extensions.filters.http.health_check.v3.HealthCheck",
	Parse: parse,
	New: func(c *Config, env filter.Env) (func() filter.HTTP, error) {
		sh := &shared{Config: c, env: env, cluster: env.Node.Cluster}
		if c.CacheTime > 0 {
			sh.cache = newCache(c.CacheTime)
		}
		return func() filter.HTTP { return &Filter{shared: sh} }, nil
	},
}

// shared is what all streams of one chain have in common.
type shared struct {
	*Config
	env     filter.Env
	cluster string // whom this proxy belongs to
	cache   *cache // nil: nothing is remembered
}

func (sh *shared) failing() bool { return sh.env.Failing != nil && sh.env.Failing() }

// Filter serves one stream at a time.
type Filter struct {
	*shared
	check bool // the request is a health check
}

var (
	_ filter.RequestHeaders  = (*Filter)(nil)
	_ filter.ResponseHeaders = (*Filter)(nil)
)

// Reset implements filter.HTTP.
func (f *Filter) Reset() { f.check = false }

// The answers to health checks.
var (
	healthy          = answer(http.StatusOK, "health_check_ok")
	clusterHealthy   = answer(http.StatusOK, "health_check_ok_cluster_healthy")
	failed           = answer(http.StatusServiceUnavailable, "health_check_failed")
	clusterMissing   = answer(http.StatusServiceUnavailable, "health_check_failed_no_cluster_found")
	clusterEmpty     = answer(http.StatusServiceUnavailable, "health_check_failed_cluster_empty")
	clusterUnhealthy = answer(http.StatusServiceUnavailable, "health_check_failed_cluster_unhealthy")
)

func answer(code int, details string) *filter.Reply {
	r := &filter.Reply{Code: code, Details: details}
	if code/100 != 2 {
		r.Flags = meta.FailedLocalHealthCheck
	}
	return r
}

// OnRequestHeaders implements filter.RequestHeaders.
func (f *Filter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	if !f.Headers.Match(&s.Request) {
		return nil
	}
	f.check = true
	s.Meta.HealthCheck = true
	s.Span.Ignore()
	switch {
	case f.failing():
		return failed
	case f.cache != nil:
		if known, ok := f.cache.get(); ok {
			return known.reply()
		}
		return nil
	case f.PassThrough:
		return nil
	}
	return f.judge()
}

// Forecast implements filter.Forecaster.
func (f *Filter) Forecast(s *filter.Stream) error {
	other := *f
	return other.OnRequestHeaders(s, true)
}

// judge is the answer of the proxy itself.
func (f *Filter) judge() *filter.Reply {
	if len(f.Clusters) == 0 {
		return healthy
	}
	for _, c := range f.Clusters {
		if r := f.judgeCluster(c); r != nil {
			return r
		}
	}
	return clusterHealthy
}

// judgeCluster is nil if enough hosts of a cluster are healthy.
func (f *Filter) judgeCluster(c Cluster) *filter.Reply {
	if f.env.Clusters == nil {
		return clusterMissing
	}
	cl := f.env.Clusters.Cluster(c.Name)
	if cl == nil {
		return clusterMissing
	}
	st := cl.Stats()
	total, usable := st.MembershipTotal.Value(), st.MembershipHealthy.Value()+st.MembershipDegraded.Value()
	switch {
	case total == 0 && c.Percent > 0:
		return clusterEmpty
	case 100*usable < total*c.Percent:
		return clusterUnhealthy
	}
	return nil
}

// OnResponseHeaders implements filter.ResponseHeaders.
func (f *Filter) OnResponseHeaders(s *filter.Stream, _ bool) error {
	if f.check {
		if f.cache != nil {
			f.cache.put(outcome{uint16(s.Response.StatusCode()), s.Response.Has(header.XEnvoyDegraded)})
		}
		s.Response.Set("x-envoy-upstream-healthchecked-cluster", f.cluster)
	}
	if f.failing() {
		s.Response.SetID(header.XEnvoyImmediateHealthCheckFail, "true")
	}
	return nil
}

// Config is the parsed configuration.
type Config struct {
	Headers     match.Headers // of a health check
	PassThrough bool
	CacheTime   time.Duration
	Clusters    []Cluster
}

// Cluster is one of cluster_min_healthy_percentages.
type Cluster struct {
	Name    string
	Percent int64
}
