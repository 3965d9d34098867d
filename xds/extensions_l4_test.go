package xds_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

const (
	echoFilter = `{"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}`
	sniFilter  = `{"@type": type.googleapis.com/envoy.extensions.filters.network.sni_cluster.v3.SniCluster}`
	inspector  = `{"@type": type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}`
	nothing    = `{"@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}`
)

func saying(text string) string {
	return fmt.Sprintf(`{"@type": type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config, response: {inline_string: %q}}`, text)
}

func extension(t *testing.T, name, config string) *corev3.TypedExtensionConfig {
	t.Helper()
	return message(t, &corev3.TypedExtensionConfig{}, "{name: "+name+", typed_config: "+config+"}")
}

func (k *kit) connect(listener string) net.Conn {
	k.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", k.port(listener)))
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// say sends a text on a new connection and returns all that comes back.
func (k *kit) say(listener, text string) string {
	k.t.Helper()
	c := k.connect(listener)
	_, _ = io.WriteString(c, text)
	got, _ := io.ReadAll(c) // what was not read by the other side resets the connection
	return string(got)
}

// TestDiscoveredNetworkFilter: the configuration of a network filter comes over ECDS and
// changes for connections to come; those that are open keep theirs.
func TestDiscoveredNetworkFilter(t *testing.T) {
	for _, variant := range []string{"GRPC", "DELTA_GRPC"} {
		t.Run(variant, func(t *testing.T) {
			plane := xdstest.New(t)
			plane.Set(message(t, &listenerv3.Listener{}, `
name: l
stat_prefix: l
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
filter_chains:
- filters:
  - name: ext
    config_discovery:
      config_source: {ads: {}, initial_fetch_timeout: 0s}
      type_urls: [envoy.extensions.filters.network.echo.v3.Echo, envoy.extensions.filters.network.direct_response.v3.Config, envoy.extensions.filters.network.sni_cluster.v3.SniCluster]
`), extension(t, "ext", echoFilter))
			k := proxyOf(t, plane, fmt.Sprintf(overADS, variant))
			old := k.connect("l")
			echo := func(text string) {
				t.Helper()
				got := make([]byte, len(text))
				if _, err := io.WriteString(old, text); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(old, got); err != nil || string(got) != text {
					t.Errorf("got %q, %v", got, err)
				}
			}
			echo("before")
			plane.Set(extension(t, "ext", saying("two")))
			until(t, "the new configuration", func() bool { return k.stat("extension_config_discovery.network_filter.ext.config_reload") == 2 })
			if got := k.say("l", ""); got != "two" {
				t.Errorf("got %q", got)
			}
			echo("after")
			plane.Set(extension(t, "ext", sniFilter))
			plane.Await("a refusal", func(r xdstest.Request) bool {
				return r.TypeURL == ads.ExtensionConfigType && strings.Contains(r.Error, "non-terminal filter named ext is the last filter")
			})
			if got := k.say("l", ""); got != "two" {
				t.Errorf("after a refusal: %q", got)
			}
			echo("still")
			if variant == "DELTA_GRPC" {
				plane.Remove(ads.ExtensionConfigType, "ext")
				until(t, "nothing to pass by", func() bool { return k.say("l", "") == "" })
				if got := k.stat("listener.l.network_extension_config_missing"); got < 1 {
					t.Errorf("network_extension_config_missing is %d", got)
				}
				echo("last")
			}
		})
	}
}

// TestDiscoveredListenerFilter: the same for a listener filter, on whose findings the
// choice of a chain depends.
func TestDiscoveredListenerFilter(t *testing.T) {
	plane := xdstest.New(t)
	plane.Set(message(t, &listenerv3.Listener{}, `
name: l
stat_prefix: l
address: {socket_address: {address: 127.0.0.1, port_value: 0}}
listener_filters:
- name: ext
  config_discovery:
    config_source: {ads: {}, initial_fetch_timeout: 0s}
    type_urls: [envoy.extensions.filters.listener.http_inspector.v3.HttpInspector, envoy.extensions.filters.listener.original_dst.v3.OriginalDst]
filter_chains:
- {filter_chain_match: {application_protocols: [http/1.1]}, filters: [{name: a, typed_config: `+saying("http")+`}]}
- {filters: [{name: a, typed_config: `+saying("other")+`}]}
`), extension(t, "ext", inspector))
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "DELTA_GRPC"))
	const get = "GET / HTTP/1.1\r\n\r\n"
	if got := k.say("l", get); !strings.HasPrefix(got, "http") {
		t.Errorf("got %q", got)
	}
	plane.Set(extension(t, "ext", nothing))
	until(t, "the new configuration", func() bool { return k.say("l", get) == "other" })
	plane.Set(extension(t, "ext", sniFilter))
	plane.Await("a refusal", func(r xdstest.Request) bool {
		return r.TypeURL == ads.ExtensionConfigType && strings.Contains(r.Error, `typed_config: has the type "envoy.extensions.filters.network.sni_cluster.v3.SniCluster"`)
	})
	plane.Set(extension(t, "ext", inspector))
	until(t, "the first configuration again", func() bool { return k.say("l", get) == "http" })
	plane.Remove(ads.ExtensionConfigType, "ext")
	until(t, "nothing to pass by", func() bool { return k.say("l", get) == "" })
	if got := k.stat("listener.l.extension_config_missing"); got < 1 {
		t.Errorf("extension_config_missing is %d", got)
	}
}

// TestDiscoveredUpgradeFilter: a filter of an upgrade.
func TestDiscoveredUpgradeFilter(t *testing.T) {
	plane := xdstest.New(t)
	plane.Set(httpListener(t, "l", `
route_config: `+answers("inline", "hello")+`
upgrade_configs:
- upgrade_type: websocket
  filters:
  - name: ext
    config_discovery: {config_source: {ads: {}, initial_fetch_timeout: 0s}, type_urls: [`+mutation+`]}
  - name: envoy.filters.http.router
    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}`+routerFilter), extension(t, "ext", seen("one")))
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "GRPC"))
	ask := func() string { return k.get("l", "/", "connection", "upgrade", "upgrade", "websocket") }
	if got := ask(); got != "200 hello x-seen=one" {
		t.Errorf("an upgrade gets %s", got)
	}
	if got := k.get("l", "/"); got != "200 hello" {
		t.Errorf("another request gets %s", got)
	}
	plane.Set(extension(t, "ext", seen("two")))
	until(t, "the new configuration", func() bool { return ask() == "200 hello x-seen=two" })
}
