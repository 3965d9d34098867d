package udpproxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

type starter = func(t testing.TB, config []byte, admin string) *dialogue.Proxy

func startMecha(t testing.TB, config []byte, _ string) *dialogue.Proxy {
	return dialogue.StartMecha(t, config)
}

// tunnels are ways of a datagram through two proxies, which hold whoever each of them is.
var tunnels = []struct {
	name   string
	http2  bool
	tunnel obj // merged over tunneling_config
	play   func(w *world)
}{
	{name: "HTTP2", http2: true, play: func(w *world) {
		a, b := w.client(), w.client()
		for i := range 3 {
			a.ask(fmt.Sprint("a", i), fmt.Sprint("A", i))
			b.ask(fmt.Sprint("b", i), fmt.Sprint("B", i))
		}
		a.ask(strings.Repeat("y", 1400), strings.Repeat("Y", 1400))
		a.ask("", "")
		w.WaitStat(w, "cluster.proxy.udp.sess_tunnel_success", "2")
		w.stats("downstream_sess_total", "2", "downstream_sess_active", "2", "downstream_sess_rx_datagrams", "8")
	}},
	{name: "HTTP1", play: func(w *world) { w.client().ask("a", "A") }},
	{name: "another target", http2: true, tunnel: obj{"target_host": "elsewhere"}, play: func(w *world) { w.refused("a") }},
	{name: "again", http2: true, tunnel: obj{"target_host": "elsewhere", "retry_options": obj{"max_connect_attempts": 3}}, play: func(w *world) {
		w.client().send("a")
		w.WaitStat(w, "cluster.proxy.udp.sess_tunnel_failure", "1")
		w.WaitStat(w, "cluster.proxy.upstream_rq_retry", "2")
	}},
	// The tunnel does not come about, so that the datagram finds it closed.
	{name: "no room", http2: true, tunnel: obj{"target_host": "elsewhere", "buffer_options": obj{"max_buffered_bytes": 3}}, play: func(w *world) {
		w.client().send("long")
		w.WaitStat(w, "cluster.proxy.udp.sess_tunnel_buffer_overflow", "1")
	}},
}

// playTunnels begins tunnels at one proxy and ends them at another. deaf says that the latter
// grants tunnels over HTTP/1.1 by a 200, so that neither of the two opens any: Envoy does, in
// spite of RFC 9298, section 3.3.
func playTunnels(t *testing.T, begin, end starter, deaf bool) {
	for _, c := range tunnels {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "127.0.0.1")
			port := ports.Free(t)
			w.run(end, w.terminator(port, c.http2))
			w.tunnel(begin, port, c.http2, obj{"tunneling_config": c.tunnel}, true)
			if deaf && !c.http2 {
				w.refused("a")
				return
			}
			c.play(w)
		})
	}
}

// tunnel runs a proxy whose sessions go through a proxy at port. more is merged over the filter.
func (w *world) tunnel(begin starter, port int, http2 bool, more obj, capsules bool) {
	tunnel := obj{
		"proxy_host": "proxy", "target_host": "target", "default_target_port": 53, "buffer_options": obj{},
	}
	filter := obj{"cluster": "proxy"}
	for k, v := range more {
		filter[k] = v
	}
	own, _ := more["tunneling_config"].(obj)
	for k, v := range own {
		tunnel[k] = v
	}
	filter["tunneling_config"] = tunnel
	if capsules {
		filter["session_filters"] = []any{obj{"name": "capsule", "typed_config": obj{
			"@type": "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.session.http_capsule.v3.FilterConfig",
		}}}
	}
	w.Proxy = w.run(begin, func(admin string) obj {
		config := w.config(admin, filter, nil, 0)
		static := config["static_resources"].(obj)
		static["clusters"] = append(static["clusters"].([]any), httpCluster(port, http2))
		return config
	})
}

// refused sends a datagram for which no tunnel comes about.
func (w *world) refused(text string) {
	w.Helper()
	w.client().send(text)
	w.WaitStat(w, "cluster.proxy.udp.sess_tunnel_failure", "1")
	w.WaitStat(w, "cluster.proxy.upstream_cx_connect_attempts_exceeded", "1")
	if line := w.line(); !strings.HasPrefix(line, "UdpSessionEnd UF,URX {") {
		w.Errorf("log %q", line)
	}
}

func (w *world) run(start starter, config func(admin string) obj) *dialogue.Proxy {
	admin := fmt.Sprintf("127.0.0.1:%d", ports.Free(w))
	return start(w, w.marshal(config(admin)), admin)
}

func httpCluster(port int, http2 bool) obj {
	version := "http_protocol_options"
	if http2 {
		version = "http2_protocol_options"
	}
	return obj{
		"name": "proxy", "type": "STATIC",
		"load_assignment": obj{"cluster_name": "proxy", "endpoints": []any{obj{"lb_endpoints": []any{
			obj{"endpoint": obj{"address": address("127.0.0.1", port, "TCP")}},
		}}}},
		"typed_extension_protocol_options": obj{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": obj{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": obj{version: obj{}},
		}},
	}
}

// terminator is a proxy that turns CONNECT-UDP to the target into datagrams.
func (w *world) terminator(port int, http2 bool) func(admin string) obj {
	return func(admin string) obj {
		config := w.config(admin, obj{"cluster": "up"}, nil, 0)
		hcm := obj{
			"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
			"stat_prefix": "end", "http2_protocol_options": obj{"allow_connect": true},
			"upgrade_configs": []any{obj{"upgrade_type": "CONNECT-UDP"}},
			"http_filters": []any{obj{"name": "router", "typed_config": obj{
				"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
			}}},
			"route_config": obj{"name": "r", "virtual_hosts": []any{obj{"name": "v", "domains": []string{"target:53"}, "routes": []any{obj{
				"match": obj{"connect_matcher": obj{}},
				"route": obj{"cluster": "up", "upgrade_configs": []any{obj{"upgrade_type": "CONNECT-UDP", "connect_config": obj{}}}},
			}}}}},
		}
		static := config["static_resources"].(obj)
		static["listeners"] = []any{obj{
			"name": "end", "address": address("127.0.0.1", port, "TCP"),
			"filter_chains": []any{obj{"filters": []any{obj{"name": "hcm", "typed_config": hcm}}}},
		}}
		return config
	}
}

func TestTunnels(t *testing.T) { playTunnels(t, startMecha, startMecha, false) }
