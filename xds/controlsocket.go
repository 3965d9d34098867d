package xds

import (
	"context"
	"fmt"
	"net"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/xds/translate"
)

// controlDial makes connections to the control plane that carry the SO_MARK of
// upstream_bind_config.socket_options: of the cluster that envoy_grpc names, or of
// cluster_manager. Capture rules that know the sidecar by its mark let it reach the
// control plane by that. It is nil where there is no mark.
func controlDial(b *bootstrapv3.Bootstrap, services []*corev3.GrpcService) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	mark, err := translate.SocketMark(b.GetClusterManager().GetUpstreamBindConfig())
	if err != nil {
		return nil, filter.At("cluster_manager.upstream_bind_config", err)
	}
	for _, s := range services {
		for _, c := range b.GetStaticResources().GetClusters() {
			if c.UpstreamBindConfig == nil || c.Name != s.GetEnvoyGrpc().GetClusterName() {
				continue
			}
			if mark, err = translate.SocketMark(c.UpstreamBindConfig); err != nil {
				return nil, fmt.Errorf("cluster %q: %w", c.Name, filter.At("upstream_bind_config", err))
			}
		}
	}
	if mark == 0 {
		return nil, nil
	}
	return netio.MarkedDialer(mark).DialContext, nil
}

// UpstreamMark is the SO_MARK in cluster_manager.upstream_bind_config, which is for
// every cluster that has none of its own; 0 is none.
func UpstreamMark(b *bootstrapv3.Bootstrap) (int, error) {
	mark, err := translate.SocketMark(b.GetClusterManager().GetUpstreamBindConfig())
	return mark, filter.At("cluster_manager.upstream_bind_config", err)
}
