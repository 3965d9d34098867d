package xds

import (
	"errors"
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/translate"
)

// clientConfig turns an ApiConfigSource into how to talk to that control plane.
func clientConfig(b *bootstrapv3.Bootstrap, a *corev3.ApiConfigSource) (cfg ads.Config, err error) {
	cfg.Node, cfg.NodeOnFirstMessageOnly = b.Node, a.SetNodeOnFirstMessageOnly
	switch a.ApiType {
	case corev3.ApiConfigSource_GRPC, corev3.ApiConfigSource_AGGREGATED_GRPC:
	case corev3.ApiConfigSource_DELTA_GRPC, corev3.ApiConfigSource_AGGREGATED_DELTA_GRPC:
		cfg.Variant = ads.Delta
	default:
		return cfg, filter.At("api_type", fmt.Errorf("this build does not support %s", a.ApiType))
	}
	if cfg.RateLimit, err = rateLimit(a.RateLimitSettings); err != nil {
		return cfg, filter.At("rate_limit_settings", err)
	}
	if len(a.GrpcServices) == 0 {
		return cfg, filter.At("grpc_services", errors.New("needs at least one item"))
	}
	for i, s := range a.GrpcServices {
		if err := grpcService(b, s, &cfg); err != nil {
			return cfg, filter.AtIndex("grpc_services", i, err)
		}
	}
	cfg.Dial, err = controlDial(b, a.GrpcServices)
	return cfg, err
}

// rateLimit reads rate_limit_settings with Envoy's defaults; nil is no limit.
func rateLimit(pb *corev3.RateLimitSettings) (l ads.RateLimit, err error) {
	if pb == nil {
		return l, nil
	}
	l = ads.RateLimit{Tokens: 100, PerSec: 10, Enabled: true}
	if v := pb.MaxTokens; v != nil {
		l.Tokens = float64(v.Value)
	}
	if v := pb.FillRate; v != nil {
		if !(v.Value > 0) {
			return l, filter.At("fill_rate", errors.New("must be more than 0"))
		}
		l.PerSec = v.Value
	}
	if l.Tokens < 1 {
		return l, filter.At("max_tokens", errors.New("must be at least 1"))
	}
	return l, nil
}

// grpcService adds what a GrpcService says. Several are alternatives: the addresses are
// tried in turn, and the rest is that of the last.
func grpcService(b *bootstrapv3.Bootstrap, s *corev3.GrpcService, cfg *ads.Config) error {
	for _, h := range s.InitialMetadata {
		if cfg.Metadata == nil {
			cfg.Metadata = metadata.MD{}
		}
		value := h.Value
		if len(h.RawValue) > 0 {
			value = string(h.RawValue)
		}
		cfg.Metadata.Append(h.Key, value)
	}
	if g := s.GetGoogleGrpc(); g != nil {
		return filter.At("google_grpc", googleGRPC(g, cfg))
	}
	e := s.GetEnvoyGrpc()
	if e == nil {
		return errors.New("envoy_grpc or google_grpc is required")
	}
	err := fromproto.Check(e, nil, fromproto.Fields{
		Used:    []string{"cluster_name", "authority", "max_receive_message_length"},
		Ignored: []string{"retry_policy", "skip_envoy_headers"}, // a stream that ends is always opened again
	})
	if err != nil {
		return filter.At("envoy_grpc", err)
	}
	c := staticCluster(b, e.ClusterName)
	if c == nil {
		return filter.At("envoy_grpc.cluster_name", fmt.Errorf("there is no static cluster %q", e.ClusterName))
	}
	if err := translate.PlainSocket(c.TransportSocket); err != nil {
		return filter.At("envoy_grpc.cluster_name", fmt.Errorf("cluster %q: %w", c.Name, filter.At("transport_socket", err)))
	}
	addrs, err := clusterAddresses(c)
	if err != nil {
		return filter.At("envoy_grpc.cluster_name", err)
	}
	cfg.Addresses = append(cfg.Addresses, addrs...)
	// Envoy sends the name of the cluster.
	if cfg.Authority = e.Authority; cfg.Authority == "" {
		cfg.Authority = e.ClusterName
	}
	if v := e.MaxReceiveMessageLength; v != nil {
		cfg.MaxMessageBytes = int(v.Value)
	}
	if t := c.ConnectTimeout; t != nil && t.AsDuration() > 0 {
		cfg.ConnectTimeout = max(t.AsDuration(), time.Second)
	}
	cfg.DialOptions = append(cfg.DialOptions, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return nil
}

func staticCluster(b *bootstrapv3.Bootstrap, name string) *clusterv3.Cluster {
	for _, c := range b.GetStaticResources().GetClusters() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// clusterAddresses are the addresses of the endpoints of a cluster, as ads.Config takes
// them. Names are looked up for each connection.
func clusterAddresses(c *clusterv3.Cluster) (out []string, err error) {
	for _, l := range c.GetLoadAssignment().GetEndpoints() {
		for _, e := range l.LbEndpoints {
			a := e.GetEndpoint().GetAddress()
			switch {
			case a.GetPipe() != nil:
				out = append(out, "unix:"+a.GetPipe().Path)
			case a.GetSocketAddress() != nil:
				out = append(out, fmt.Sprintf("%s:%d", bracketed(a.GetSocketAddress().Address), a.GetSocketAddress().GetPortValue()))
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the cluster %q has no endpoints", c.Name)
	}
	return out, nil
}
