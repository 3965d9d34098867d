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
	"golang.org/x/sys/unix"
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

// jsonObject is a message of the configuration.
type jsonObject map[string]any

func (b sidecarBootstrap) json() (string, error) {
	doc := jsonObject{
		"node":  jsonObject{"id": b.name, "cluster": b.name},
		"admin": jsonObject{"address": socketAddress("127.0.0.1", 15000)},
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
func (b sidecarBootstrap) passThrough() jsonObject {
	listener := func(name, direction string, port uint16, cluster string) jsonObject {
		return jsonObject{
			"name": name, "traffic_direction": direction,
			"address": jsonObject{"socket_address": jsonObject{"address": "::", "port_value": port, "ipv4_compat": true}},
			"listener_filters": []jsonObject{{
				"name":         "envoy.filters.listener.original_dst",
				"typed_config": jsonObject{"@type": "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"},
			}},
			"filter_chains": []jsonObject{{"filters": []jsonObject{{
				"name": "envoy.filters.network.tcp_proxy",
				"typed_config": jsonObject{
					"@type":       "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
					"stat_prefix": cluster, "cluster": cluster,
				},
			}}}},
		}
	}
	cluster := func(name string, bind jsonObject) jsonObject {
		b.mark(bind)
		c := jsonObject{"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "10s"}
		if len(bind) > 0 {
			c["upstream_bind_config"] = bind
		}
		return c
	}
	listeners := []jsonObject{listener("virtualOutbound", "OUTBOUND", b.capture.OutboundPort, "PassthroughCluster")}
	clusters := []jsonObject{cluster("PassthroughCluster", jsonObject{})}
	if b.capture.Inbound != iptables.None {
		in := listener("virtualInbound", "INBOUND", b.capture.InboundPort, "InboundPassthroughCluster")
		in["transparent"] = b.capture.Inbound == iptables.TProxy
		listeners = append(listeners, in)
		clusters = append(clusters, cluster("InboundPassthroughCluster", jsonObject{
			"source_address":         jsonObject{"address": "127.0.0.6", "port_value": 0},
			"extra_source_addresses": []jsonObject{{"address": jsonObject{"address": "::6", "port_value": 0}}},
		}))
	}
	return jsonObject{"listeners": listeners, "clusters": clusters}
}

// controlPlane has the sidecar fetch everything by ADS.
func (b sidecarBootstrap) controlPlane(doc jsonObject) error {
	address, kind, err := b.xdsAddress()
	if err != nil {
		return err
	}
	ads := jsonObject{"ads": jsonObject{}, "resource_api_version": "V3"}
	doc["dynamic_resources"] = jsonObject{
		"ads_config": jsonObject{
			"api_type": "GRPC", "transport_api_version": "V3",
			"grpc_services": []jsonObject{{"envoy_grpc": jsonObject{"cluster_name": "xds-grpc"}}},
		},
		"cds_config": ads, "lds_config": ads,
	}
	xds := jsonObject{
		"name": "xds-grpc", "type": kind, "connect_timeout": "5s",
		"typed_extension_protocol_options": jsonObject{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": jsonObject{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": jsonObject{"http2_protocol_options": jsonObject{}},
		}},
		"load_assignment": jsonObject{"cluster_name": "xds-grpc", "endpoints": []jsonObject{{
			"lb_endpoints": []jsonObject{{"endpoint": jsonObject{"address": address}}},
		}}},
	}
	if bind := (jsonObject{}); len(b.capture.ProxyMarks) > 0 {
		b.mark(bind)
		xds["upstream_bind_config"] = bind
	}
	doc["static_resources"] = jsonObject{"clusters": []jsonObject{xds}}
	return nil
}

// xdsAddress reads --xds. This machine's loopback has another address in a pod.
func (b sidecarBootstrap) xdsAddress() (address jsonObject, kind string, err error) {
	if path, ok := strings.CutPrefix(b.xds, "unix:"); ok {
		path, err = filepath.Abs(strings.TrimPrefix(path, "//"))
		return jsonObject{"pipe": jsonObject{"path": path}}, "STATIC", err
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

func socketAddress(address string, port uint16) jsonObject {
	return jsonObject{"socket_address": jsonObject{"address": address, "port_value": port}}
}

// mark adds the socket option by which the rules know the sidecar's own
// connections. It repeats what the environment says (pod.MarkEnv), for sidecars
// that do not look there.
func (b sidecarBootstrap) mark(bind jsonObject) {
	if len(b.capture.ProxyMarks) > 0 {
		bind["socket_options"] = []jsonObject{markOption(b.capture.ProxyMarks[0])}
	}
}

func markOption(mark uint32) jsonObject {
	return jsonObject{
		"description": "SO_MARK: the sidecar's own connection", "level": unix.SOL_SOCKET, "name": unix.SO_MARK,
		"int_value": mark, "state": "STATE_PREBIND",
	}
}

// markedUpstreams is added to the configuration of a foreign sidecar: every
// cluster without a bind configuration of its own gets the mark.
func markedUpstreams(mark uint32) string {
	out, err := json.Marshal(jsonObject{"cluster_manager": jsonObject{"upstream_bind_config": jsonObject{"socket_options": []jsonObject{markOption(mark)}}}})
	if err != nil {
		panic(err) // literals and a number
	}
	return string(out)
}
