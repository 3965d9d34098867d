// Package translate turns the resources of xDS into the plain specs of the engine, one
// file for each resource type. What this build does not do is refused by name, with
// the path of the field; nothing is dropped silently.
//
// It builds nothing: see proxy/server.
package translate

import (
	"errors"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// clusterFields is what of Cluster this build obeys. What is ignored concerns
// statistics, how names are looked up, and health, which the control plane tells, too.
var clusterFields = fromproto.Fields{
	Used: []string{
		"name", "alt_stat_name", "type", "cluster_type", "eds_cluster_config", "connect_timeout",
		"per_connection_buffer_limit_bytes", "lb_policy", "load_assignment", "max_requests_per_connection",
		"circuit_breakers", "common_http_protocol_options", "http_protocol_options", "http2_protocol_options",
		"protocol_selection", "upstream_http_protocol_options", "typed_extension_protocol_options",
		"dns_refresh_rate", "dns_jitter", "dns_failure_refresh_rate", "respect_dns_ttl", "dns_lookup_family", "cleanup_interval", "upstream_bind_config", "common_lb_config", "transport_socket",
		"typed_dns_resolver_config", "dns_resolution_config", "dns_resolvers", "use_tcp_for_dns_lookups",
		"transport_socket_matches", "upstream_connection_options", "close_connections_on_host_health_failure", "wait_for_warm_on_init",
		"track_timeout_budgets", "track_cluster_stats",
		"preconnect_policy", "connection_pool_per_downstream_connection",
		"metadata", "least_request_lb_config", "original_dst_lb_config", "round_robin_lb_config",
		"outlier_detection", "health_checks", "ignore_health_on_host_removal",
		"ring_hash_lb_config", "maglev_lb_config", "lb_subset_config", "load_balancing_policy",
	},
	Ignored: []string{
		"lrs_server", "per_connection_buffer_high_watermark_timeout",
	},
}

// Cluster translates a Cluster. secrets are where those that it names come from; nil
// refuses them. registry has the filters that may run before its hosts; nil has none.
func Cluster(raw []byte, secrets filter.Secrets, registry *filter.Registry) (*cluster.Spec, []string, error) {
	var pb clusterv3.Cluster
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, nil, err
	}
	p := &filter.Parser{Secrets: secrets, Registry: registry}
	if err := fromproto.Check(&pb, p, clusterFields); err != nil {
		return nil, nil, err
	}
	spec := &cluster.Spec{
		Name: pb.Name, StatName: pb.AltStatName, ServiceName: pb.Name,
		BufferLimit: 1 << 20, PanicThreshold: 50, Socket: transport.Raw{}, Hash: hashOf(raw),
		CloseOnHostFailure: pb.CloseConnectionsOnHostHealthFailure, IgnoreHealthOnRemoval: pb.IgnoreHealthOnHostRemoval,
	}
	if len(pb.GetMetadata().GetFilterMetadata()) > 0 {
		spec.LogMetadata = kept(raw, &clusterv3.Cluster{})
	}
	if spec.StatName == "" {
		spec.StatName = pb.Name
	}
	for _, step := range []func(*clusterv3.Cluster, *cluster.Spec, *filter.Parser) error{
		clusterDNS, clusterType, clusterLimits, clusterBalance, clusterBreakers, clusterOutliers, clusterTrack, clusterBind, clusterSocket, clusterHTTP, clusterHealth, clusterHosts,
	} {
		if err := step(&pb, spec, p); err != nil {
			return nil, nil, err
		}
	}
	return spec, p.Warnings, nil
}

func clusterLimits(pb *clusterv3.Cluster, spec *cluster.Spec, _ *filter.Parser) (err error) {
	if spec.ConnectTimeout, err = fromproto.PositiveDuration(pb.ConnectTimeout, 5*time.Second); err != nil {
		return filter.At("connect_timeout", err)
	}
	if spec.CleanupEvery, err = fromproto.PositiveDuration(pb.CleanupInterval, 5*time.Second); err != nil {
		return filter.At("cleanup_interval", err)
	}
	if v := pb.PerConnectionBufferLimitBytes; v != nil {
		spec.BufferLimit = int(v.Value)
	}
	return nil
}

// clusterTrack reads track_cluster_stats; the older track_timeout_budgets does not count
// beside it.
func clusterTrack(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	t := pb.TrackClusterStats
	if t == nil {
		spec.Track.Budgets = pb.TrackTimeoutBudgets
		return nil
	}
	spec.Track = cluster.Track{Sizes: t.RequestResponseSizes, Budgets: t.TimeoutBudgets, Endpoints: t.PerEndpointStats}
	err := fromproto.Check(t, p, fromproto.Fields{Used: []string{"request_response_sizes", "timeout_budgets", "per_endpoint_stats"}})
	return filter.At("track_cluster_stats", err)
}

func clusterBreakers(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	for i := range spec.Breakers {
		spec.Breakers[i] = cluster.Thresholds{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3, RetryBudget: cluster.UnsaidBudget()}
	}
	if err := perHost(pb.CircuitBreakers.GetPerHostThresholds(), spec, p); err != nil {
		return filter.At("circuit_breakers", err)
	}
	seen := map[corev3.RoutingPriority]bool{}
	for i, t := range pb.CircuitBreakers.GetThresholds() {
		err := fromproto.Check(t, p, fromproto.Fields{
			Used: []string{"priority", "max_connections", "max_pending_requests", "max_requests", "max_retries", "retry_budget", "track_remaining", "max_connection_pools"},
		})
		if err != nil {
			return filter.At("circuit_breakers", filter.AtIndex("thresholds", i, err))
		}
		if seen[t.Priority] {
			continue // the first one of a priority counts
		}
		seen[t.Priority] = true
		into := &spec.Breakers[cluster.Default]
		if t.Priority == corev3.RoutingPriority_HIGH {
			into = &spec.Breakers[cluster.High]
		}
		into.MaxConnections = orDefault(t.MaxConnections, into.MaxConnections)
		into.MaxPending = orDefault(t.MaxPendingRequests, into.MaxPending)
		into.MaxRequests = orDefault(t.MaxRequests, into.MaxRequests)
		into.MaxRetries = orDefault(t.MaxRetries, into.MaxRetries)
		into.TrackRemaining = t.TrackRemaining
		into.MaxPools = t.MaxConnectionPools.GetValue()
		if t.MaxRetries != nil {
			into.RetryBudget = nil
		}
		if b := t.RetryBudget; b != nil {
			if into.RetryBudget, err = retryBudget(b, p); err != nil {
				return filter.At("circuit_breakers", filter.AtIndex("thresholds", i, filter.At("retry_budget", err)))
			}
		}
	}
	return nil
}

func retryBudget(pb *clusterv3.CircuitBreakers_Thresholds_RetryBudget, p *filter.Parser) (*cluster.RetryBudget, error) {
	err := fromproto.Check(pb, p, fromproto.Fields{Used: []string{"budget_percent", "min_retry_concurrency", "budget_interval"}})
	if err != nil {
		return nil, err
	}
	b := &cluster.RetryBudget{Percent: 20, MinConcurrency: orDefault(pb.MinRetryConcurrency, 3)}
	if pb.BudgetPercent != nil {
		b.Percent = pb.BudgetPercent.Value
	}
	b.Interval, err = fromproto.Duration(pb.BudgetInterval, 0)
	return b, filter.At("budget_interval", err)
}

// perHost reads per_host_thresholds, of which max_connections alone exists.
func perHost(list []*clusterv3.CircuitBreakers_Thresholds, spec *cluster.Spec, p *filter.Parser) error {
	for i, t := range list {
		err := fromproto.Check(t, p, fromproto.Fields{Used: []string{"priority", "max_connections"}})
		if err != nil {
			return filter.AtIndex("per_host_thresholds", i, err)
		}
		into := &spec.Breakers[cluster.Default]
		if t.Priority == corev3.RoutingPriority_HIGH {
			into = &spec.Breakers[cluster.High]
		}
		if into.MaxPerHost == 0 && t.MaxConnections != nil {
			into.MaxPerHost = max(t.MaxConnections.Value, 1) // one is always allowed
		}
	}
	return nil
}

func orDefault(v interface{ GetValue() uint32 }, otherwise uint32) uint32 {
	if m, ok := v.(proto.Message); !ok || !m.ProtoReflect().IsValid() {
		return otherwise
	}
	return v.GetValue()
}

func clusterHosts(pb *clusterv3.Cluster, spec *cluster.Spec, _ *filter.Parser) error {
	if spec.Type == cluster.LogicalDNS {
		if e := pb.GetLoadAssignment().GetEndpoints(); len(e) != 1 || len(e[0].LbEndpoints) != 1 {
			return filter.At("load_assignment", errors.New("a cluster of type LOGICAL_DNS has one locality with one endpoint"))
		}
	}
	if pb.LoadAssignment == nil {
		return nil
	}
	names := spec.Type == cluster.StrictDNS || spec.Type == cluster.LogicalDNS
	a, err := assignment(pb.LoadAssignment, names)
	if err != nil {
		return filter.At("load_assignment", err)
	}
	spec.Assignment = a
	return nil
}
