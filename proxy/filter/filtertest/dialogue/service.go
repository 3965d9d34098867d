package dialogue

import (
	"net"

	"google.golang.org/grpc"
)

// ServeGRPC runs the services that register adds, on a port of 127.0.0.1, until the test ends.
func ServeGRPC(t TB, register func(s *grpc.Server)) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	go func() { _ = s.Serve(l) }() // until Stop
	t.Cleanup(s.Stop)
	return l.Addr()
}

// SocketAddress is a configured address of 127.0.0.1 (core.v3.Address).
func SocketAddress(port int) map[string]any {
	return object{"socket_address": object{"address": "127.0.0.1", "port_value": port}}
}

// StaticCluster is a cluster of one host at a port of 127.0.0.1 (cluster.v3.Cluster).
func StaticCluster(name string, port int, http2 bool) map[string]any {
	c := object{"name": name, "type": "STATIC", "load_assignment": object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{
		object{"endpoint": object{"address": SocketAddress(port)}},
	}}}}}
	if http2 {
		c["typed_extension_protocol_options"] = object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
			"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": object{"http2_protocol_options": object{}},
		}}
	}
	return c
}
