package xds

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/sys/unix"
)

func option(level, name, value int64) *corev3.BindConfig {
	return &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{{Level: level, Name: name, Value: &corev3.SocketOption_IntValue{IntValue: value}}}}
}

// TestControlDialMarks: capture rules see the mark on the connection to the control plane.
func TestControlDialMarks(t *testing.T) {
	services := []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "xds"}}}}
	for _, c := range []struct {
		name         string
		manager, own *corev3.BindConfig
		mark         int
		plain        bool
		wantErr      string
	}{
		{name: "no options", plain: true},
		{name: "the cluster's", own: option(unix.SOL_SOCKET, unix.SO_MARK, 77), mark: 77},
		{name: "for all clusters", manager: option(unix.SOL_SOCKET, unix.SO_MARK, 78), mark: 78},
		{name: "the cluster's wins", manager: option(unix.SOL_SOCKET, unix.SO_MARK, 78), own: option(unix.SOL_SOCKET, unix.SO_MARK, 77), mark: 77},
		{name: "another option", own: option(unix.SOL_SOCKET, unix.SO_RCVBUF, 1), mark: 0},
		{name: "no value", own: &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{{Level: 1, Name: 1}}}, wantErr: `cluster "xds": upstream_bind_config.socket_options[0]: int_value`},
	} {
		b := &bootstrapv3.Bootstrap{
			ClusterManager:  &bootstrapv3.ClusterManager{UpstreamBindConfig: c.manager},
			StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{{Name: "xds", UpstreamBindConfig: c.own}}},
		}
		dial, err := controlDial(b, services)
		if c.wantErr != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.wantErr) {
				t.Errorf("%s: error %v", c.name, err)
			}
			continue
		}
		if err != nil || (dial == nil) != c.plain {
			t.Errorf("%s: %v, dialer %v", c.name, err, dial != nil)
		}
		if dial == nil {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // nothing was written to it
		conn, err := dial(t.Context(), "tcp", l.Addr().String())
		if errors.Is(err, unix.EPERM) {
			t.Skip("setting a mark needs CAP_NET_ADMIN here")
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // nothing was written to it
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK); err != nil || got != c.mark {
				t.Errorf("%s: mark %d, %v; want %d", c.name, got, err, c.mark)
			}
		}); err != nil {
			t.Error(err)
		}
	}
}
