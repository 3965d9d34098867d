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

// controlDial makes connections to the control plane that carry the socket options of
// upstream_bind_config: of the cluster that envoy_grpc names, or of cluster_manager.
// Capture rules that know the sidecar by its mark let it reach the control plane by
// that. It is nil where there are none.
func controlDial(b *bootstrapv3.Bootstrap, services []*corev3.GrpcService) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	options, err := translate.SocketOptions(b.GetClusterManager().GetUpstreamBindConfig().GetSocketOptions())
	if err != nil {
		return nil, filter.At("cluster_manager.upstream_bind_config.socket_options", err)
	}
	for _, s := range services {
		for _, c := range b.GetStaticResources().GetClusters() {
			if c.UpstreamBindConfig == nil || c.Name != s.GetEnvoyGrpc().GetClusterName() {
				continue
			}
			if options, err = translate.SocketOptions(c.UpstreamBindConfig.SocketOptions); err != nil {
				return nil, fmt.Errorf("cluster %q: %w", c.Name, filter.At("upstream_bind_config.socket_options", err))
			}
		}
	}
	if len(options) == 0 {
		return nil, nil
	}
	return netio.OptionsDialer(options).DialContext, nil
}
