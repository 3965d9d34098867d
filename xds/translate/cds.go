// Package translate turns the resources of xDS into the plain specs of the engine, one
// file for each resource type. What this build does not do is refused by name, with
// the path of the field; nothing is dropped silently.
//
// It builds nothing: see proxy/server.
package translate

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

var clusterFields = fromproto.Fields{
	Used: []string{
		"name", "alt_stat_name", "type", "eds_cluster_config", "connect_timeout", "per_connection_buffer_limit_bytes",
		"lb_policy", "load_assignment", "max_requests_per_connection", "circuit_breakers", "common_http_protocol_options",
		"http_protocol_options", "typed_extension_protocol_options", "dns_refresh_rate", "dns_jitter", "dns_failure_refresh_rate", "respect_dns_ttl",
		"dns_lookup_family", "cleanup_interval", "upstream_bind_config", "common_lb_config", "transport_socket",
		"transport_socket_matches", "upstream_connection_options", "close_connections_on_host_health_failure",
		"least_request_lb_config", "original_dst_lb_config", "round_robin_lb_config",
	},
	Ignored: []string{
		"metadata", "typed_dns_resolver_config", "dns_resolvers",
		"use_tcp_for_dns_lookups", "track_timeout_budgets", "track_cluster_stats", "wait_for_warm_on_init",
		"ignore_health_on_host_removal", "lrs_server", "per_connection_buffer_high_watermark_timeout", "preconnect_policy",
		"outlier_detection", "health_checks", "protocol_selection", "filters",
	},
}

// Cluster translates a Cluster.
func Cluster(raw []byte) (*cluster.Spec, []string, error) {
	var pb clusterv3.Cluster
	if err := proto.Unmarshal(raw, &pb); err != nil {
		return nil, nil, fmt.Errorf("cluster: %w", err)
	}
	p := &filter.Parser{}
	if err := fromproto.Check(&pb, p, clusterFields); err != nil {
		return nil, nil, err
	}
	if pb.Name == "" {
		return nil, nil, filter.At("name", errors.New("is required"))
	}
	h := fnv.New64a()
	_, _ = h.Write(raw) // a hash never fails
	spec := &cluster.Spec{
		Name: pb.Name, StatName: pb.AltStatName, ServiceName: pb.Name,
		ConnectTimeout: 5 * time.Second, BufferLimit: 1 << 20, PanicThreshold: 50,
		CleanupEvery: 5 * time.Second, Socket: transport.Raw{}, Hash: h.Sum64(),
		CloseOnHostRemoval: pb.CloseConnectionsOnHostHealthFailure,
	}
	if spec.StatName == "" {
		spec.StatName = pb.Name
	}
	for _, step := range []func(*clusterv3.Cluster, *cluster.Spec, *filter.Parser) error{
		clusterType, clusterLimits, clusterBalance, clusterBreakers, clusterBind, clusterSocket, clusterHTTP, clusterHosts,
	} {
		if err := step(&pb, spec, p); err != nil {
			return nil, nil, err
		}
	}
	return spec, p.Warnings, nil
}

func clusterType(pb *clusterv3.Cluster, spec *cluster.Spec, _ *filter.Parser) error {
	if t := pb.GetClusterType(); t != nil {
		return filter.At("cluster_type", fmt.Errorf("this build does not support the cluster type %q", t.Name))
	}
	switch pb.GetType() {
	case clusterv3.Cluster_STATIC:
		spec.Type = cluster.Static
	case clusterv3.Cluster_STRICT_DNS:
		spec.Type = cluster.StrictDNS
	case clusterv3.Cluster_LOGICAL_DNS:
		spec.Type = cluster.LogicalDNS
	case clusterv3.Cluster_EDS:
		spec.Type = cluster.EDS
		if n := pb.GetEdsClusterConfig().GetServiceName(); n != "" {
			spec.ServiceName = n
		}
		return clusterSource(pb, spec)
	case clusterv3.Cluster_ORIGINAL_DST:
		spec.Type = cluster.OriginalDestination
		o := pb.GetOriginalDstLbConfig()
		spec.OriginalDst = cluster.OriginalDst{
			UseHTTPHeader: o.GetUseHttpHeader(), HTTPHeader: o.GetHttpHeaderName(),
			PortOverride: uint16(o.GetUpstreamPortOverride().GetValue()),
		}
		if spec.OriginalDst.HTTPHeader == "" {
			spec.OriginalDst.HTTPHeader = "x-envoy-original-dst-host"
		}
	}
	return nil
}

// clusterSource says where the endpoints come from.
func clusterSource(pb *clusterv3.Cluster, spec *cluster.Spec) error {
	from, err := fromproto.ConfigSource(pb.GetEdsClusterConfig().GetEdsConfig())
	if err != nil {
		return filter.At("eds_cluster_config.eds_config", err)
	}
	spec.EDS, spec.EDSWatched, spec.InitialFetchTimeout = from.Path, from.Watched, from.Timeout
	if from.Timeout == 0 {
		spec.InitialFetchTimeout = -1
	}
	return nil
}

func clusterLimits(pb *clusterv3.Cluster, spec *cluster.Spec, _ *filter.Parser) error {
	if d := pb.ConnectTimeout; d != nil {
		if d.AsDuration() <= 0 {
			return filter.At("connect_timeout", fmt.Errorf("%v is not more than zero", d.AsDuration()))
		}
		spec.ConnectTimeout = d.AsDuration()
	}
	if v := pb.PerConnectionBufferLimitBytes; v != nil {
		spec.BufferLimit = int(v.Value)
	}
	if d := pb.CleanupInterval; d != nil {
		spec.CleanupEvery = d.AsDuration()
	}
	spec.DNS = cluster.DNS{Refresh: 5 * time.Second, RespectTTL: pb.RespectDnsTtl, Family: cluster.Family(pb.DnsLookupFamily)}
	if d := pb.DnsRefreshRate; d != nil {
		if d.AsDuration() < time.Millisecond {
			return filter.At("dns_refresh_rate", fmt.Errorf("%v is less than 1ms", d.AsDuration()))
		}
		spec.DNS.Refresh = d.AsDuration()
	}
	spec.DNS.Jitter = pb.DnsJitter.AsDuration()
	if r := pb.DnsFailureRefreshRate; r != nil {
		spec.DNS.FailureBase, spec.DNS.FailureMax = r.BaseInterval.AsDuration(), r.MaxInterval.AsDuration()
	}
	if k := pb.UpstreamConnectionOptions.GetTcpKeepalive(); k != nil {
		spec.KeepAlive = &cluster.TCPKeepAlive{
			Probes:   k.KeepaliveProbes.GetValue(),
			Time:     time.Duration(k.KeepaliveTime.GetValue()) * time.Second,
			Interval: time.Duration(k.KeepaliveInterval.GetValue()) * time.Second,
		}
	}
	return nil
}

func clusterBalance(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	switch pb.LbPolicy {
	case clusterv3.Cluster_ROUND_ROBIN:
		spec.LB = cluster.RoundRobin
	case clusterv3.Cluster_LEAST_REQUEST:
		spec.LB = cluster.LeastRequestLB
	case clusterv3.Cluster_RANDOM:
		spec.LB = cluster.Random
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		spec.LB = cluster.ClusterProvided
	default:
		return filter.At("lb_policy", fmt.Errorf("this build does not support %s", pb.LbPolicy))
	}
	if spec.Type == cluster.OriginalDestination && spec.LB != cluster.ClusterProvided {
		return filter.At("lb_policy", errors.New("a cluster of type ORIGINAL_DST needs CLUSTER_PROVIDED"))
	}
	if spec.Type != cluster.OriginalDestination && spec.LB == cluster.ClusterProvided {
		return filter.At("lb_policy", errors.New("CLUSTER_PROVIDED is for clusters of type ORIGINAL_DST"))
	}
	spec.LeastRequest = cluster.LeastRequest{Choices: 2, Bias: 1}
	if c := pb.GetLeastRequestLbConfig(); c != nil {
		if v := c.ChoiceCount; v != nil {
			if v.Value < 2 {
				return filter.At("least_request_lb_config.choice_count", fmt.Errorf("%d is less than 2", v.Value))
			}
			spec.LeastRequest.Choices = int(v.Value)
		}
		if v := c.ActiveRequestBias; v != nil {
			spec.LeastRequest.Bias = v.DefaultValue
		}
	}
	common := pb.CommonLbConfig
	if common == nil {
		return nil
	}
	if v := common.HealthyPanicThreshold; v != nil {
		spec.PanicThreshold = v.Value
	}
	return filter.At("common_lb_config", fromproto.Check(common, p, fromproto.Fields{
		Used:    []string{"healthy_panic_threshold"},
		Ignored: []string{"update_merge_window", "zone_aware_lb_config", "locality_weighted_lb_config", "ignore_new_hosts_until_first_hc", "close_connections_on_host_set_change", "override_host_status", "consistent_hashing_lb_config"},
	}))
}

func clusterBreakers(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	for i := range spec.Breakers {
		spec.Breakers[i] = cluster.Thresholds{MaxConnections: 1024, MaxPending: 1024, MaxRequests: 1024, MaxRetries: 3}
	}
	for i, t := range pb.CircuitBreakers.GetThresholds() {
		err := fromproto.Check(t, p, fromproto.Fields{
			Used:    []string{"priority", "max_connections", "max_pending_requests", "max_requests", "max_retries", "retry_budget", "track_remaining"},
			Ignored: []string{"max_connection_pools"},
		})
		if err != nil {
			return filter.At("circuit_breakers", filter.AtIndex("thresholds", i, err))
		}
		into := &spec.Breakers[cluster.Default]
		if t.Priority == corev3.RoutingPriority_HIGH {
			into = &spec.Breakers[cluster.High]
		}
		into.MaxConnections = orDefault(t.MaxConnections, into.MaxConnections)
		into.MaxPending = orDefault(t.MaxPendingRequests, into.MaxPending)
		into.MaxRequests = orDefault(t.MaxRequests, into.MaxRequests)
		into.MaxRetries = orDefault(t.MaxRetries, into.MaxRetries)
		into.TrackRemaining = t.TrackRemaining
		if b := t.RetryBudget; b != nil {
			into.RetryBudget = &cluster.RetryBudget{Percent: 20, MinConcurrency: orDefault(b.MinRetryConcurrency, 3)}
			if b.BudgetPercent != nil {
				into.RetryBudget.Percent = b.BudgetPercent.Value
			}
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

func clusterBind(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	b := pb.UpstreamBindConfig
	if b == nil {
		return nil
	}
	err := fromproto.Check(b, p, fromproto.Fields{
		Used:    []string{"source_address", "freebind", "socket_options", "extra_source_addresses", "additional_source_addresses"},
		Ignored: []string{"local_address_selector"},
	})
	if err != nil {
		return filter.At("upstream_bind_config", err)
	}
	bind := &cluster.Bind{Freebind: b.Freebind.GetValue()}
	sources := []*corev3.SocketAddress{}
	if b.SourceAddress != nil {
		sources = append(sources, b.SourceAddress)
	}
	for _, e := range b.ExtraSourceAddresses {
		sources = append(sources, e.Address)
	}
	for _, s := range sources {
		addr, err := netip.ParseAddr(s.GetAddress())
		if err != nil {
			return filter.At("upstream_bind_config.source_address", err)
		}
		ap := netip.AddrPortFrom(addr, uint16(s.GetPortValue()))
		if addr.Is4() {
			bind.V4 = ap
		} else {
			bind.V6 = ap
		}
	}
	const solSocket, soMark = 1, 36
	for i, o := range b.SocketOptions {
		if o.Level != solSocket || o.Name != soMark {
			return filter.At("upstream_bind_config", filter.AtIndex("socket_options", i, fmt.Errorf("this build sets SO_MARK only, not level %d name %d", o.Level, o.Name)))
		}
		bind.Mark = int(o.GetIntValue())
	}
	spec.Bind = bind
	return nil
}

func clusterSocket(pb *clusterv3.Cluster, _ *cluster.Spec, _ *filter.Parser) error {
	if err := plainSocket(pb.TransportSocket); err != nil {
		return filter.At("transport_socket", err)
	}
	for i, m := range pb.TransportSocketMatches {
		if err := plainSocket(m.TransportSocket); err != nil {
			return filter.AtIndex("transport_socket_matches", i, filter.At("transport_socket", err))
		}
	}
	return nil
}

const rawBuffer = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"

// plainSocket accepts the raw_buffer transport socket.
func plainSocket(ts *corev3.TransportSocket) error {
	if ts == nil {
		return nil
	}
	c, err := fromproto.Any(ts.GetTypedConfig())
	if err != nil {
		return filter.At("typed_config", err)
	}
	if c.Type != rawBuffer {
		return filter.At("typed_config", fmt.Errorf("this build does not support the transport socket %q", c.Type))
	}
	return nil
}

const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

func clusterHTTP(pb *clusterv3.Cluster, spec *cluster.Spec, p *filter.Parser) error {
	spec.HTTP = cluster.HTTPOptions{IdleTimeout: time.Hour, MaxHeadersCount: 100, MaxHeadersKB: 60}
	spec.HTTP.MaxRequests = pb.GetMaxRequestsPerConnection().GetValue() //nolint:staticcheck // deprecated, still sent
	if err := commonHTTP(pb.GetCommonHttpProtocolOptions(), spec); err != nil {
		return filter.At("common_http_protocol_options", err)
	}
	http1(pb.GetHttpProtocolOptions(), spec)
	for key, a := range pb.TypedExtensionProtocolOptions {
		at := fmt.Sprintf("typed_extension_protocol_options[%s]", key)
		c, err := fromproto.Any(a)
		if err != nil {
			return filter.At(at, err)
		}
		if c.Type != httpOptions {
			return filter.At(at, fmt.Errorf("this build does not support %q", c.Type))
		}
		if err := httpProtocolOptions(c.Value, spec, p); err != nil {
			return filter.At(at, err)
		}
	}
	return nil
}

func httpProtocolOptions(raw []byte, spec *cluster.Spec, p *filter.Parser) error {
	var o httpv3.HttpProtocolOptions
	if err := proto.Unmarshal(raw, &o); err != nil {
		return err
	}
	err := fromproto.Check(&o, p, fromproto.Fields{
		Used:    []string{"common_http_protocol_options", "explicit_http_config", "use_downstream_protocol_config", "auto_config"},
		Ignored: []string{"upstream_http_protocol_options"},
	})
	if err != nil {
		return err
	}
	if err := commonHTTP(o.CommonHttpProtocolOptions, spec); err != nil {
		return filter.At("common_http_protocol_options", err)
	}
	if e := o.GetExplicitHttpConfig(); e != nil {
		if e.GetHttp2ProtocolOptions() != nil || e.GetHttp3ProtocolOptions() != nil {
			return filter.At("explicit_http_config", errors.New("this build speaks HTTP/1 to hosts only"))
		}
		http1(e.GetHttpProtocolOptions(), spec)
	}
	http1(o.GetUseDownstreamProtocolConfig().GetHttpProtocolOptions(), spec)
	http1(o.GetAutoConfig().GetHttpProtocolOptions(), spec)
	return nil
}

func commonHTTP(c *corev3.HttpProtocolOptions, spec *cluster.Spec) error {
	if c == nil {
		return nil
	}
	for _, d := range []struct {
		path string
		pb   *durationpb.Duration
		into *time.Duration
	}{
		{"idle_timeout", c.IdleTimeout, &spec.HTTP.IdleTimeout},
		{"max_connection_duration", c.MaxConnectionDuration, &spec.HTTP.MaxConnDuration},
	} {
		if d.pb == nil {
			continue
		}
		if d.pb.AsDuration() < 0 {
			return filter.At(d.path, fmt.Errorf("%v is negative", d.pb.AsDuration()))
		}
		*d.into = d.pb.AsDuration()
	}
	if v := c.MaxHeadersCount; v != nil {
		spec.HTTP.MaxHeadersCount = v.Value
	}
	if v := c.MaxResponseHeadersKb; v != nil {
		spec.HTTP.MaxHeadersKB = v.Value
	}
	if v := c.MaxRequestsPerConnection; v != nil {
		spec.HTTP.MaxRequests = v.Value
	}
	return nil
}

func http1(o *corev3.Http1ProtocolOptions, spec *cluster.Spec) {
	if o == nil {
		return
	}
	spec.HTTP.EnableTrailers = o.EnableTrailers
	spec.HTTP.ProperCase = o.HeaderKeyFormat.GetProperCaseWords() != nil
}

func clusterHosts(pb *clusterv3.Cluster, spec *cluster.Spec, _ *filter.Parser) error {
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
