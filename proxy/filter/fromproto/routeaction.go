package fromproto

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec/capsule"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match"
	"github.com/mecha-mesh/mecha/proxy/route"
)

// actionFields is what of RouteAction this build obeys. What is ignored are shadow
// traffic, rate limits and CORS without their filters, gRPC's own time limits, early
// data of TLS, and hashes and metadata for load balancers that are refused by name.
func actionFields() Fields {
	return Fields{
		Used: []string{
			"cluster", "cluster_header", "weighted_clusters", "cluster_not_found_response_code", "prefix_rewrite",
			"regex_rewrite", "host_rewrite_literal", "auto_host_rewrite", "host_rewrite_header", "host_rewrite_path_regex",
			"append_x_forwarded_host", "host_rewrite", "path_rewrite", "path_rewrite_policy", "cluster_specifier_plugin",
			"inline_cluster_specifier_plugin", "rate_limits", "include_vh_rate_limits", "timeout", "idle_timeout", "flush_timeout", "retry_policy",
			"priority", "upgrade_configs", "max_stream_duration", "max_grpc_timeout", "grpc_timeout_offset", "hash_policy",
			"metadata_match", "hedge_policy", "internal_redirect_policy", "request_mirror_policies",
			"internal_redirect_action", "max_internal_redirects",
		},
		Ignored: []string{
			"cors", "early_data_policy",
		},
	}
}

// defaultTimeout is that of a route without timeout.
const defaultTimeout = 15 * time.Second

// forward converts a RouteAction, of the route pb, whose paths match from (nil: they
// match no template).
func (b *hostBuilder) forward(a *routev3.RouteAction, pb *routev3.Route, from *match.Template) (*route.ForwardAction, error) {
	if err := Check(a, b.p, actionFields()); err != nil {
		return nil, err
	}
	f := &route.ForwardAction{
		AppendXFH: a.AppendXForwardedHost, PrefixRewrite: a.PrefixRewrite,
		AttemptCount: b.pb.IncludeRequestAttemptCount, AttemptCountBack: b.pb.IncludeAttemptCountInResponse,
		NotFoundCode: notFoundCode(a.ClusterNotFoundResponseCode), TimeoutRetry: b.pb.IncludeIsTimeoutRetryHeader,
	}
	f.Match = lbLabels(a.MetadataMatch)
	f.BodyLimit, f.BodyLimitSet = b.bufferLimit(pb)
	switch c := a.ClusterSpecifier.(type) {
	case *routev3.RouteAction_Cluster:
		f.Cluster = c.Cluster
	case *routev3.RouteAction_ClusterHeader:
		f.ClusterHeader = match.HeaderName(c.ClusterHeader)
	case *routev3.RouteAction_WeightedClusters:
	case *routev3.RouteAction_ClusterSpecifierPlugin:
		if err := b.specifierNamed(c.ClusterSpecifierPlugin); err != nil {
			return nil, filter.At("cluster_specifier_plugin", err)
		}
		f.NoCluster = true
	case *routev3.RouteAction_InlineClusterSpecifierPlugin:
		if err := specifierPlugin(c.InlineClusterSpecifierPlugin, b.p); err != nil {
			return nil, filter.At("inline_cluster_specifier_plugin", err)
		}
		f.NoCluster = true
	case nil:
		return nil, errors.New("one of cluster, cluster_header, weighted_clusters, cluster_specifier_plugin, inline_cluster_specifier_plugin must be set")
	default:
		return nil, fmt.Errorf("this build does not support the cluster specifier %T", c)
	}
	if a.Priority == corev3.RoutingPriority_HIGH {
		f.Priority = cluster.High
	}
	for _, step := range []func(*routev3.RouteAction, *route.ForwardAction) error{
		hostRewrite, actionTimeouts, upgrades, hashPolicies, internalRedirect,
	} {
		if err := step(a, f); err != nil {
			return nil, err
		}
	}
	if err := pathRewrite(a, f, from); err != nil {
		return nil, err
	}
	if f.Mirrors = b.mirrors; len(a.RequestMirrorPolicies) > 0 {
		var err error
		if f.Mirrors, err = b.mirrorsOf(a.RequestMirrorPolicies); err != nil {
			return nil, err
		}
	}
	if err := b.hedge(a, f); err != nil {
		return nil, err
	}
	f.Retry = b.retry
	if a.RetryPolicy != nil {
		var err error
		if f.Retry, err = retryPolicy(a.RetryPolicy, b.p); err != nil {
			return nil, filter.At("retry_policy", err)
		}
	}
	return f, nil
}

// hedge converts the hedge_policy of the route or, if it has none, its virtual host. Two
// of its fields do nothing in Envoy either.
func (b *hostBuilder) hedge(a *routev3.RouteAction, f *route.ForwardAction) error {
	pb := a.HedgePolicy
	if pb == nil {
		pb = b.pb.HedgePolicy
	}
	if pb == nil {
		return nil
	}
	f.HedgeOnTimeout = pb.HedgeOnPerTryTimeout
	if n := pb.InitialRequests; n != nil && n.Value == 0 {
		return filter.At("hedge_policy.initial_requests", errors.New("must be at least 1"))
	}
	return nil
}

// bufferLimit is how much of a request body is kept for another attempt, if the route or
// its virtual host says so; that of the route wins.
func (b *hostBuilder) bufferLimit(pb *routev3.Route) (limit int, set bool) {
	n := uint64(0)
	switch {
	case pb.RequestBodyBufferLimit != nil:
		n = pb.RequestBodyBufferLimit.Value
	case pb.PerRequestBufferLimitBytes != nil: //nolint:staticcheck // deprecated, still sent
		n = uint64(pb.PerRequestBufferLimitBytes.Value) //nolint:staticcheck // as above
	case b.pb.RequestBodyBufferLimit != nil:
		n = b.pb.RequestBodyBufferLimit.Value
	case b.pb.PerRequestBufferLimitBytes != nil: //nolint:staticcheck // as above
		n = uint64(b.pb.PerRequestBufferLimitBytes.Value) //nolint:staticcheck // as above
	default:
		return 0, false
	}
	return int(min(n, math.MaxInt32)), true
}

func notFoundCode(c routev3.RouteAction_ClusterNotFoundResponseCode) int {
	switch c {
	case routev3.RouteAction_NOT_FOUND:
		return 404
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		return 500
	}
	return 503
}

func actionTimeouts(a *routev3.RouteAction, f *route.ForwardAction) (err error) {
	t := &f.Timeouts
	if t.Timeout, err = Duration(a.Timeout, defaultTimeout); err != nil {
		return filter.At("timeout", err)
	}
	t.IdleTimeoutSet = a.IdleTimeout != nil
	if t.IdleTimeout, err = Duration(a.IdleTimeout, 0); err != nil {
		return filter.At("idle_timeout", err)
	}
	t.FlushTimeoutSet = a.FlushTimeout != nil
	if t.FlushTimeout, err = Duration(a.FlushTimeout, 0); err != nil {
		return filter.At("flush_timeout", err)
	}
	if m := a.MaxStreamDuration; m != nil {
		t.Timeout = 0 // the duration of the stream takes its place
		return filter.At("max_stream_duration", streamDuration(m, t))
	}
	t.GRPC = a.MaxGrpcTimeout != nil                                //nolint:staticcheck // deprecated, still sent
	if t.GRPCMax, err = Duration(a.MaxGrpcTimeout, 0); err != nil { //nolint:staticcheck // as above
		return filter.At("max_grpc_timeout", err)
	}
	t.GRPCOffset, err = Duration(a.GrpcTimeoutOffset, 0) //nolint:staticcheck // as above
	return filter.At("grpc_timeout_offset", err)
}

func streamDuration(m *routev3.RouteAction_MaxStreamDuration, t *route.Timeouts) (err error) {
	t.DurationSet = m.MaxStreamDuration != nil
	if t.MaxStreamDuration, err = Duration(m.MaxStreamDuration, 0); err != nil {
		return filter.At("max_stream_duration", err)
	}
	t.GRPCHeader = m.GrpcTimeoutHeaderMax != nil
	if t.GRPCHeaderMax, err = Duration(m.GrpcTimeoutHeaderMax, 0); err != nil {
		return filter.At("grpc_timeout_header_max", err)
	}
	t.GRPCHeaderOffset, err = Duration(m.GrpcTimeoutHeaderOffset, 0)
	return filter.At("grpc_timeout_header_offset", err)
}

func upgrades(a *routev3.RouteAction, f *route.ForwardAction) error {
	seen := map[string]bool{}
	for i, u := range a.UpgradeConfigs {
		typ := strings.ToLower(u.UpgradeType)
		if seen[typ] {
			return filter.AtIndex("upgrade_configs", i, fmt.Errorf("there is already a configuration for the upgrade %q", u.UpgradeType))
		}
		seen[typ] = true
		if c := u.ConnectConfig; c != nil {
			if typ != "connect" && typ != capsule.Protocol {
				return filter.AtIndex("upgrade_configs", i, filter.At("connect_config", errors.New("is for the upgrade types CONNECT and CONNECT-UDP only")))
			}
			if pp := c.ProxyProtocolConfig; pp != nil {
				if err := Check(pp, nil, Fields{Used: []string{"version"}}); err != nil {
					return filter.AtIndex("upgrade_configs", i, filter.At("connect_config.proxy_protocol_config", err))
				}
				f.ConnectProxy = int(pp.Version) + 1
			}
			f.ConnectPost = c.AllowPost
			f.ConnectTerminate = true
		}
		f.Upgrades = append(f.Upgrades, route.Upgrade{Type: typ, Enabled: u.Enabled == nil || u.Enabled.Value})
	}
	return nil
}
