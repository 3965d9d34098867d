package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/iptables"
)

// sidecarBootstrap is the configuration of the sidecar that "mecha run" starts
// when it is not given one, as JSON for --config-yaml.
type sidecarBootstrap struct {
	name    string
	capture iptables.Config
	// xds is the control plane, "host:port" or "unix:PATH"; empty: none, the
	// sidecar passes everything on unchanged.
	xds string
	// host stands for this machine's own loopback inside the pod.
	host netip.Addr
}

type object map[string]any

func (b sidecarBootstrap) json() (string, error) {
	doc := object{
		"node":  object{"id": b.name, "cluster": b.name},
		"admin": object{"address": socketAddress("127.0.0.1", 15000)},
	}
	if b.xds == "" {
		doc["static_resources"] = b.passThrough()
	} else if err := b.controlPlane(doc); err != nil {
		return "", err
	}
	out, err := json.Marshal(doc)
	return string(out), err
}

// passThrough has the shape that Istio gives a sidecar for unknown traffic: two
// listeners on the capture ports and two clusters that go where the program, or
// whoever called it, wanted to go.
func (b sidecarBootstrap) passThrough() object {
	listener := func(name, direction string, port uint16, cluster string) object {
		return object{
			"name": name, "traffic_direction": direction,
			"address": object{"socket_address": object{"address": "::", "port_value": port, "ipv4_compat": true}},
			"listener_filters": []object{{
				"name":         "envoy.filters.listener.original_dst",
				"typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"},
			}},
			"filter_chains": []object{{"filters": []object{{
				"name": "envoy.filters.network.tcp_proxy",
				"typed_config": object{
					"@type":       "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
					"stat_prefix": cluster, "cluster": cluster,
				},
			}}}},
		}
	}
	cluster := func(name string) object {
		return object{"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s"}
	}
	listeners := []object{listener("virtualOutbound", "OUTBOUND", b.capture.OutboundPort, "PassthroughCluster")}
	clusters := []object{cluster("PassthroughCluster")}
	if b.capture.Inbound != iptables.None {
		in := listener("virtualInbound", "INBOUND", b.capture.InboundPort, "InboundPassthroughCluster")
		in["transparent"] = b.capture.Inbound == iptables.TProxy
		listeners = append(listeners, in)
		inbound := cluster("InboundPassthroughCluster")
		inbound["upstream_bind_config"] = object{
			"source_address":         object{"address": "127.0.0.6", "port_value": 0},
			"extra_source_addresses": []object{{"address": object{"address": "::6", "port_value": 0}}},
		}
		clusters = append(clusters, inbound)
	}
	return object{"listeners": listeners, "clusters": clusters}
}

// controlPlane has the sidecar fetch everything by ADS.
func (b sidecarBootstrap) controlPlane(doc object) error {
	address, kind, err := b.xdsAddress()
	if err != nil {
		return err
	}
	ads := object{"ads": object{}, "resource_api_version": "V3"}
	doc["dynamic_resources"] = object{
		"ads_config": object{
			"api_type": "GRPC", "transport_api_version": "V3",
			"grpc_services": []object{{"envoy_grpc": object{"cluster_name": "xds-grpc"}}},
		},
		"cds_config": ads, "lds_config": ads,
	}
	doc["static_resources"] = object{"clusters": []object{{
		"name": "xds-grpc", "type": kind, "connect_timeout": "5s",
		"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": object{"http2_protocol_options": object{}},
		}},
		"load_assignment": object{"cluster_name": "xds-grpc", "endpoints": []object{{
			"lb_endpoints": []object{{"endpoint": object{"address": address}}},
		}}},
	}}}
	return nil
}

// xdsAddress reads --xds. This machine's loopback has another address in a pod.
func (b sidecarBootstrap) xdsAddress() (address object, kind string, err error) {
	if path, ok := strings.CutPrefix(b.xds, "unix:"); ok {
		path, err = filepath.Abs(strings.TrimPrefix(path, "//"))
		return object{"pipe": object{"path": path}}, "STATIC", err
	}
	host, portText, err := net.SplitHostPort(b.xds)
	if err != nil {
		return nil, "", usageError{fmt.Errorf("--xds: %q: expected HOST:PORT or unix:PATH", b.xds)}
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return nil, "", usageError{fmt.Errorf("--xds: %q: expected a port from 1 to 65535", portText)}
	}
	a, err := netip.ParseAddr(host)
	switch {
	case host == "localhost" || err == nil && a.IsLoopback():
		return socketAddress(b.host.String(), uint16(port)), "STATIC", nil
	case err == nil:
		return socketAddress(host, uint16(port)), "STATIC", nil
	}
	return socketAddress(host, uint16(port)), "STRICT_DNS", nil
}

func socketAddress(address string, port uint16) object {
	return object{"socket_address": object{"address": address, "port_value": port}}
}

// markedUpstreams configures a sidecar that does not know our environment
// variable to mark its own connections, as Envoy does with socket options.
func markedUpstreams(mark uint32) string {
	out, err := json.Marshal(object{"cluster_manager": object{"upstream_bind_config": object{"socket_options": []object{{
		"description": "SO_MARK: the sidecar's own connection", "level": 1, "name": 36, "int_value": mark, "state": "STATE_PREBIND",
	}}}}})
	if err != nil {
		panic(err) // literals and a number
	}
	return string(out)
}
