package main

import (
	"fmt"
	"os"
	"strconv"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/sys/unix"

	"github.com/mecha-mesh/mecha/cmd/mecha/pod"
)

// markUpstream obeys the environment variable by which "mecha run" tells its sidecar
// the SO_MARK of everything it connects with: without it, capture would send the
// sidecar's own connections back to it. It becomes what a bootstrap says in
// cluster_manager.upstream_bind_config, unless that says something itself.
func markUpstream(b *bootstrapv3.Bootstrap) error {
	text := os.Getenv(pod.MarkEnv)
	if text == "" || b.GetClusterManager().GetUpstreamBindConfig() != nil {
		return nil
	}
	mark, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Errorf("the environment variable %s=%q is not a mark: it must be a number from 0 to 4294967295", pod.MarkEnv, text)
	}
	if b.ClusterManager == nil {
		b.ClusterManager = &bootstrapv3.ClusterManager{}
	}
	b.ClusterManager.UpstreamBindConfig = &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{{
		Description: "from " + pod.MarkEnv, Level: unix.SOL_SOCKET, Name: unix.SO_MARK,
		Value: &corev3.SocketOption_IntValue{IntValue: int64(mark)}, State: corev3.SocketOption_STATE_PREBIND,
	}}}
	return nil
}
