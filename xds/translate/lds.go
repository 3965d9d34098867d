package translate

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/l4"
)

var listenerFields = fromproto.Fields{
	Used: []string{
		"metadata", "name", "address", "additional_addresses", "stat_prefix", "filter_chains", "use_original_dst", "default_filter_chain",
		"per_connection_buffer_limit_bytes", "per_connection_buffer_high_watermark_timeout", "listener_filters", "listener_filters_timeout",
		"continue_on_listener_filters_timeout", "transparent", "freebind", "traffic_direction", "enable_reuse_port",
		"reuse_port", "access_log", "tcp_backlog_size", "bind_to_port", "ignore_global_conn_limit", "deprecated_v1",
		"udp_listener_config",
		"filter_chain_matcher", "drain_type", "bypass_overload_manager", "tcp_keepalive", "tcp_fast_open_queue_length", "enable_mptcp",
		"socket_options", "internal_listener",
		// Every connection is a goroutine that any processor may run, and is accepted by
		// itself: what these ask for is so already.
		"connection_balance_config", "max_connections_to_accept_per_socket_event",
	},
	Ignored: []string{"stats_matcher"},
}

// Listener translates a Listener. The names of the route configurations that it needs
// are collected in p.
func Listener(raw []byte, p *filter.Parser) (*l4.Spec, error) {
	var pb listenerv3.Listener
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	if err := fromproto.Check(&pb, p, listenerFields); err != nil {
		return nil, err
	}
	spec := &l4.Spec{
		Name: pb.Name, StatPrefix: pb.StatPrefix,
		Unbound:        pb.BindToPort != nil && !pb.BindToPort.Value || pb.DeprecatedV1.GetBindToPort() != nil && !pb.DeprecatedV1.BindToPort.Value,
		UseOriginalDst: pb.UseOriginalDst.GetValue(), Transparent: pb.Transparent.GetValue(), Freebind: pb.Freebind.GetValue(),
		Backlog: int(pb.TcpBacklogSize.GetValue()), Direction: l4.Direction(pb.TrafficDirection),
		ContinueOnTimeout: pb.ContinueOnListenerFiltersTimeout,
		BufferLimit:       1 << 20, Hash: hashOf(raw),
		// The limit of the process is the overload manager's.
		IgnoreGlobalLimit: pb.IgnoreGlobalConnLimit || pb.BypassOverloadManager,
		ReusePort:         pb.EnableReusePort == nil || pb.EnableReusePort.Value,
		DrainModifyOnly:   pb.DrainType == listenerv3.Listener_MODIFY_ONLY,
		Multipath:         pb.EnableMptcp,
	}
	if len(pb.GetMetadata().GetFilterMetadata()) > 0 {
		spec.Metadata = kept(raw, &listenerv3.Listener{})
	}
	if v := pb.TcpFastOpenQueueLength; v != nil {
		spec.FastOpen = new(int(v.Value))
	}
	var err error
	if spec.FilterTimeout, err = fromproto.Duration(pb.ListenerFiltersTimeout, 15*time.Second); err != nil {
		return nil, filter.At("listener_filters_timeout", err)
	}
	if spec.StuckTimeout, err = fromproto.Duration(pb.PerConnectionBufferHighWatermarkTimeout, 0); err != nil {
		return nil, filter.At("per_connection_buffer_high_watermark_timeout", err)
	}
	if v := pb.PerConnectionBufferLimitBytes; v != nil {
		spec.BufferLimit = int(v.Value)
	}
	if err := listenerAddresses(&pb, spec, p); err != nil {
		return nil, err
	}
	if udp, err := listenerUDP(&pb, spec, p); err != nil {
		return nil, err
	} else if udp {
		return spec, nil
	}
	for _, step := range []func(*listenerv3.Listener, *l4.Spec, *filter.Parser) error{
		listenerFilters, useProxyProto, listenerChains, listenerMatcher, listenerLogs,
	} {
		if err := step(&pb, spec, p); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

func hashOf(raw []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(raw) // a hash never fails
	return h.Sum64()
}

func listenerFilters(pb *listenerv3.Listener, spec *l4.Spec, p *filter.Parser) error {
	for i, f := range pb.ListenerFilters {
		l, err := listenerFilter(f, p)
		if err != nil {
			return filter.AtIndex("listener_filters", i, err)
		}
		spec.Filters = append(spec.Filters, l)
	}
	return nil
}

// useProxyProto adds the filter that a chain asks for with a field of old, after all
// others: that of the first chain decides.
func useProxyProto(pb *listenerv3.Listener, spec *l4.Spec, p *filter.Parser) error {
	if len(pb.FilterChains) == 0 || !pb.FilterChains[0].GetUseProxyProto().GetValue() { //nolint:staticcheck // deprecated, still sent
		return nil
	}
	p.Warnings = append(p.Warnings, "FilterChain.use_proxy_proto is deprecated and does not say in which order listener filters run: configure the proxy_protocol listener filter")
	factory, err := p.Listener(filter.Any{Type: "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"})
	spec.Filters = append(spec.Filters, l4.ListenerFilter{Name: "envoy.filters.listener.proxy_protocol", Factory: factory})
	return filter.AtIndex("filter_chains", 0, filter.At("use_proxy_proto", err))
}

func listenerFilter(f *listenerv3.ListenerFilter, p *filter.Parser) (l l4.ListenerFilter, err error) {
	l.Name = f.Name
	if l.Disabled, err = predicate(f.FilterDisabled); err != nil {
		return l, filter.At("filter_disabled", err)
	}
	if d := f.GetConfigDiscovery(); d != nil {
		l.Discovered = true
		l.Factory, err = fromproto.ListenerDiscovery(f.Name, d, p)
		return l, filter.At("config_discovery", err)
	}
	c, err := fromproto.Any(f.GetTypedConfig())
	if err == nil {
		l.Factory, err = p.Listener(c)
	}
	return l, filter.At("typed_config", err)
}

// predicate converts a ListenerFilterChainMatchPredicate; nil stays nil.
func predicate(pb *listenerv3.ListenerFilterChainMatchPredicate) (*l4.Predicate, error) {
	switch r := pb.GetRule().(type) {
	case nil:
		return nil, nil
	case *listenerv3.ListenerFilterChainMatchPredicate_AnyMatch:
		return &l4.Predicate{Any: true}, nil
	case *listenerv3.ListenerFilterChainMatchPredicate_NotMatch:
		not, err := predicate(r.NotMatch)
		return &l4.Predicate{Not: not}, err
	case *listenerv3.ListenerFilterChainMatchPredicate_AndMatch:
		set, err := predicates(r.AndMatch)
		return &l4.Predicate{And: set}, err
	case *listenerv3.ListenerFilterChainMatchPredicate_OrMatch:
		set, err := predicates(r.OrMatch)
		return &l4.Predicate{Or: set}, err
	case *listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange:
		return &l4.Predicate{PortFrom: int(r.DestinationPortRange.Start), PortTo: int(r.DestinationPortRange.End)}, nil
	default:
		return nil, fmt.Errorf("this build does not support %T", r)
	}
}

func predicates(set *listenerv3.ListenerFilterChainMatchPredicate_MatchSet) ([]l4.Predicate, error) {
	out := []l4.Predicate{}
	for i, r := range set.Rules {
		p, err := predicate(r)
		if err != nil {
			return nil, filter.AtIndex("rules", i, err)
		}
		if p == nil {
			return nil, filter.AtIndex("rules", i, errors.New("is empty"))
		}
		out = append(out, *p)
	}
	return out, nil
}

func listenerChains(pb *listenerv3.Listener, spec *l4.Spec, p *filter.Parser) error {
	for i, fc := range pb.FilterChains {
		c, err := chain(fc, p)
		if err != nil {
			return filter.AtIndex("filter_chains", i, err)
		}
		spec.Chains = append(spec.Chains, c)
	}
	if pb.DefaultFilterChain != nil {
		c, err := chain(pb.DefaultFilterChain, p)
		if err != nil {
			return filter.At("default_filter_chain", err)
		}
		spec.Default = c
	}
	if len(spec.Chains) == 0 && spec.Default == nil {
		return filter.At("filter_chains", errors.New("at least one filter chain is required"))
	}
	return nil
}

func chain(pb *listenerv3.FilterChain, p *filter.Parser) (*l4.Chain, error) {
	err := fromproto.Check(pb, p, fromproto.Fields{
		Used: []string{"filter_chain_match", "filters", "transport_socket", "transport_socket_connect_timeout", "name", "metadata", "use_proxy_proto"},
	})
	if err != nil {
		return nil, err
	}
	socket, err := downstreamSocket(pb.TransportSocket, p)
	if err != nil {
		return nil, filter.At("transport_socket", err)
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(pb)
	if err != nil {
		return nil, err
	}
	c := &l4.Chain{Name: pb.Name, Hash: hashOf(raw), Socket: socket}
	if len(pb.GetMetadata().GetFilterMetadata()) > 0 {
		c.Metadata = kept(raw, &listenerv3.FilterChain{})
	}
	if c.ConnectTimeout, err = fromproto.Duration(pb.TransportSocketConnectTimeout, 0); err != nil {
		return nil, filter.At("transport_socket_connect_timeout", err)
	}
	if c.Match, err = chainMatch(pb.FilterChainMatch, p); err != nil {
		return nil, filter.At("filter_chain_match", err)
	}
	for i, f := range pb.Filters {
		n, err := networkFilter(f, p)
		if err != nil {
			return nil, filter.AtIndex("filters", i, err)
		}
		c.Filters = append(c.Filters, n)
	}
	return c, nil
}

func networkFilter(f *listenerv3.Filter, p *filter.Parser) (n l4.NetworkFilter, err error) {
	n.Name = f.Name
	if d := f.GetConfigDiscovery(); d != nil {
		n.Discovered = true
		n.Factory, err = fromproto.NetworkDiscovery(f.Name, d, p)
		return n, filter.At("config_discovery", err)
	}
	c, err := fromproto.Any(f.GetTypedConfig())
	if err == nil {
		n.Factory, err = p.Network(c)
	}
	return n, filter.At("typed_config", err)
}

func chainMatch(pb *listenerv3.FilterChainMatch, p *filter.Parser) (m l4.Match, err error) {
	if pb == nil {
		return m, nil
	}
	err = fromproto.Check(pb, p, fromproto.Fields{Used: []string{
		"destination_port", "prefix_ranges", "direct_source_prefix_ranges", "source_type", "source_prefix_ranges",
		"source_ports", "server_names", "transport_protocol", "application_protocols",
	}})
	if err != nil {
		return m, err
	}
	m = l4.Match{
		DestinationPort: uint16(pb.DestinationPort.GetValue()), ServerNames: pb.ServerNames,
		TransportProtocol: pb.TransportProtocol, ApplicationProtocols: pb.ApplicationProtocols,
		SourceType: l4.SourceType(pb.SourceType),
	}
	if m.PrefixRanges, err = fromproto.CIDRs("prefix_ranges", pb.PrefixRanges); err != nil {
		return m, err
	}
	if m.DirectSourceRanges, err = fromproto.CIDRs("direct_source_prefix_ranges", pb.DirectSourcePrefixRanges); err != nil {
		return m, err
	}
	if m.SourceRanges, err = fromproto.CIDRs("source_prefix_ranges", pb.SourcePrefixRanges); err != nil {
		return m, err
	}
	for i, name := range pb.ServerNames {
		if strings.Contains(strings.TrimPrefix(name, "*."), "*") {
			return m, filter.AtIndex("server_names", i, fmt.Errorf("%q: a wildcard stands for whole labels in front only, as in *.example.com", name))
		}
	}
	for _, port := range pb.SourcePorts {
		m.SourcePorts = append(m.SourcePorts, uint16(port))
	}
	return m, nil
}

// listenerMatcher converts filter_chain_matcher, whose actions name chains.
func listenerMatcher(pb *listenerv3.Listener, spec *l4.Spec, p *filter.Parser) (err error) {
	if pb.FilterChainMatcher == nil {
		return nil
	}
	spec.Matcher, err = fromproto.Tree(pb.FilterChainMatcher, p, fromproto.TreeOptions[*filter.Conn, string]{
		Input: fromproto.NetworkInput, Action: chainName,
	})
	return filter.At("filter_chain_matcher", err)
}

func chainName(_ string, c filter.Any) (string, error) {
	var name wrapperspb.StringValue
	if c.Type != string(name.ProtoReflect().Descriptor().FullName()) {
		return "", filter.At("typed_config", fmt.Errorf("%q: the action must be a google.protobuf.StringValue with the name of a filter chain", c.Type))
	}
	err := proto.Unmarshal(c.Value, &name)
	return name.Value, filter.At("typed_config", err)
}

func listenerLogs(pb *listenerv3.Listener, spec *l4.Spec, _ *filter.Parser) (err error) {
	spec.Logs, err = fromproto.AccessLogs(pb.AccessLog)
	return err
}
