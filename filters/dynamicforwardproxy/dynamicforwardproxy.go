// Package dynamicforwardproxy is dynamic_forward_proxy for HTTP streams and
// sni_dynamic_forward_proxy for connections: they look the name up that a client wants
// to reach, so that a cluster of type dynamic_forward_proxy has a host for it.
//
// The table of names is package cluster/dnscache; it is shared with the cluster.
package dynamicforwardproxy

import (
	"context"
	"errors"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/cluster/dnscache"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// Spec describes the filter of streams.
var Spec = filter.HTTPSpec[*Config]{
	Name:       "envoy.filters.http.dynamic_forward_proxy",
	Type:       "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
	RouteType:  "envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig",
	Parse:      parse,
	ParseRoute: parseRoute,
	New:        newFactory,
}

// Config is the parsed configuration, of the filter or of a route.
type Config struct {
	Forward *cluster.Forward // of the filter
	// InitTimeout is how long a request waits for a cluster with sub clusters to have one
	// for its name (sub_cluster_config.cluster_init_timeout), 5 s unless set.
	InitTimeout time.Duration
	// AllowState lets filter state say where a request goes
	// (allow_dynamic_host_from_filter_state).
	AllowState bool

	RewriteLiteral string // of a route: host_rewrite_literal
	RewriteHeader  string // of a route: host_rewrite_header
}

// resolver is a dynamic_forward_proxy in a chain.
type resolver struct {
	c        *Config
	slot     filter.Slot
	cache    *dnscache.Cache
	clusters cluster.Source
}

func newFactory(c *Config, env filter.Env) (func() filter.HTTP, error) {
	var cache *dnscache.Cache
	if c.Forward != nil { // not with sub_cluster_config
		var err error
		if cache, err = open(c.Forward, env); err != nil {
			return nil, err
		}
	}
	r := &resolver{c: c, slot: env.Slot, cache: cache, clusters: env.Clusters}
	return func() filter.HTTP { return &streamFilter{resolver: r} }, nil
}

func open(f *cluster.Forward, env filter.Env) (*dnscache.Cache, error) {
	if env.Caches == nil {
		return nil, errors.New("dynamic_forward_proxy: this process has no DNS caches")
	}
	cache, release, err := env.Caches.DNSCache(f)
	if err == nil {
		env.OnRetire(release)
	}
	return cache, err
}

// streamFilter serves one stream at a time.
type streamFilter struct {
	*resolver
	at cluster.Attempt
}

var _ filter.RequestHeaders = (*streamFilter)(nil)

// Reset implements filter.HTTP.
func (f *streamFilter) Reset() { f.at = cluster.Attempt{} }

// OnRequestHeaders implements filter.RequestHeaders.
func (f *streamFilter) OnRequestHeaders(s *filter.Stream, _ bool) error {
	c := s.Target(f.clusters)
	if c == nil || c.Spec().Type != cluster.DynamicForward {
		return nil
	}
	if o, ok := filter.Override[*Config](s, f.slot); ok {
		o.rewrite(&s.Request)
	}
	f.at.Headers, f.at.State = &s.Request, nil
	if f.c.AllowState {
		f.at.State = s
	}
	key, ok := f.at.ForwardKey(port(c.Spec()))
	if !ok {
		return &replyFailure
	}
	if c.Spec().Sub != nil {
		return subReply(c.AwaitSub(s.Engine.Context(), key, f.c.InitTimeout))
	}
	if f.cache == nil {
		return &replyFailure
	}
	if len(f.cache.Get(key)) > 0 {
		return nil
	}
	if _, err := f.cache.Resolve(s.Engine.Context(), key); err != nil {
		return reply(err)
	}
	return nil
}

// port is where a request goes that names none.
func port(s *cluster.Spec) uint16 {
	if t, ok := s.Socket.(interface{ Secure() bool }); ok && t.Secure() {
		return 443
	}
	return 80
}

func (c *Config) rewrite(m *header.Map) {
	switch {
	case c.RewriteLiteral != "":
		m.SetID(header.Authority, c.RewriteLiteral)
	case c.RewriteHeader != "":
		if v := m.Get(c.RewriteHeader); v != "" {
			m.SetID(header.Authority, v)
		}
	}
}

// The replies, in Envoy's words.
var (
	replyFull    = filter.Reply{Code: 503, Body: "DNS cache overflow", Details: "dns_cache_overflow", Flags: meta.UpstreamOverflow}
	replyPending = filter.Reply{
		Code: 503, Body: "Dynamic forward proxy pending request overflow",
		Details: "dynamic_forward_proxy_pending_request_overflow", Flags: meta.UpstreamOverflow,
	}
	replySubs    = filter.Reply{Code: 503, Body: "Sub cluster overflow", Details: "sub_cluster_overflow"}
	replySubLate = filter.Reply{Code: 503, Body: "Sub cluster warming timeout", Details: "sub_cluster_warming_timeout"}
	replyFailure = filter.Reply{Code: 503, Body: "DNS resolution failure", Details: "dns_resolution_failure", Flags: meta.DNSResolutionFailed}
)

// subReply is the answer where there is no sub cluster, nil where there is one.
func subReply(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrSubClusters):
		return &replySubs
	case errors.Is(err, cluster.ErrSubLate):
		return &replySubLate
	}
	return reply(err)
}

func reply(err error) error {
	var failed *dnscache.Failure
	switch {
	case errors.Is(err, dnscache.ErrFull):
		return &replyFull
	case errors.Is(err, dnscache.ErrPending):
		return &replyPending
	case errors.As(err, &failed):
		return &replyFailure
	case errors.Is(err, context.Canceled):
		return &filter.Error{Source: filter.Downstream, Flag: meta.DownstreamConnectionTermination, Err: err}
	}
	return err
}
