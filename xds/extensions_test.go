package xds_test

import (
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

const mutation = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"

// seen is a filter configuration, in YAML, that adds x-seen to responses.
func seen(value string) string {
	return fmt.Sprintf(`{"@type": type.googleapis.com/%s, mutations: {response_mutations: [{append: {header: {key: x-seen, value: %q}}}]}}`, mutation, value)
}

func discovering(t *testing.T, name, source string) string {
	t.Helper()
	return `
route_config: ` + answers("inline", "hello") + `
http_filters:
- name: ext
  config_discovery: {` + source + `, type_urls: [` + mutation + `]}
- name: envoy.filters.http.router
  typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}`
}

const overADS = "dynamic_resources: {ads_config: {api_type: %s, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}, lds_config: {ads: {}, initial_fetch_timeout: 0s}}\nstatic_resources: {clusters: [XDS]}\n"

// TestDiscoveredFilter: a filter's configuration comes over ECDS, changes without
// touching connections, is refused alone, and goes back to its default.
func TestDiscoveredFilter(t *testing.T) {
	for _, variant := range []string{"GRPC", "DELTA_GRPC"} {
		t.Run(variant, func(t *testing.T) {
			plane := xdstest.New(t)
			plane.Set(
				httpListener(t, "l", discovering(t, "l", "config_source: {ads: {}, initial_fetch_timeout: 0s}, default_config: "+seen("default"))),
				message(t, &corev3.TypedExtensionConfig{}, "{name: ext, typed_config: "+seen("one")+"}"),
			)
			k := proxyOf(t, plane, fmt.Sprintf(overADS, variant))
			if got := k.get("l", "/"); got != "200 hello x-seen=one" {
				t.Errorf("got %s", got)
			}
			plane.Set(message(t, &corev3.TypedExtensionConfig{}, "{name: ext, typed_config: "+seen("two")+"}"))
			until(t, "the new configuration", func() bool { return k.get("l", "/") == "200 hello x-seen=two" })
			plane.Set(message(t, &corev3.TypedExtensionConfig{}, `{name: ext, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}`))
			plane.Await("a refusal", func(r xdstest.Request) bool {
				return r.TypeURL == ads.ExtensionConfigType && strings.Contains(r.Error, `typed_config: has the type "envoy.extensions.filters.http.router.v3.Router", expected`)
			})
			if got := k.get("l", "/"); got != "200 hello x-seen=two" {
				t.Errorf("after a refusal: %s", got)
			}
			for name, want := range map[string]int64{"config_reload": 2, "update_success": 2, "update_rejected": 1} {
				if got := k.stat("extension_config_discovery.http_filter.ext." + name); got != want {
					t.Errorf("%s is %d, want %d", name, got, want)
				}
			}
			if variant == "DELTA_GRPC" {
				plane.Remove(ads.ExtensionConfigType, "ext")
				until(t, "the default", func() bool { return k.get("l", "/") == "200 hello x-seen=default" })
			}
			// The listener changes: what it discovers stays.
			plane.Set(message(t, &corev3.TypedExtensionConfig{}, "{name: ext, typed_config: "+seen("three")+"}"))
			until(t, "the third configuration", func() bool { return k.get("l", "/") == "200 hello x-seen=three" })
			changed := httpListener(t, "l", strings.Replace(discovering(t, "l", "config_source: {ads: {}, initial_fetch_timeout: 0s}, default_config: "+seen("default")), "hello", "changed", 1))
			plane.Set(changed)
			until(t, "the changed listener", func() bool { return k.get("l", "/") == "200 changed x-seen=three" })
		})
	}
}

// TestListenersWaitForTheirFilters: a listener takes no connection before the
// configurations of its filters have come, unless its defaults are good enough; without
// either, nothing passes.
func TestListenersWaitForTheirFilters(t *testing.T) {
	plane := xdstest.New(t)
	plane.Set(
		httpListener(t, "waits", discovering(t, "waits", "config_source: {ads: {}, initial_fetch_timeout: 0s}")),
		httpListener(t, "default", discovering(t, "default", "config_source: {ads: {}, initial_fetch_timeout: 0s}, apply_default_config_without_warming: true, default_config: "+seen("default"))),
		httpListener(t, "gone", strings.ReplaceAll(discovering(t, "gone", "config_source: {ads: {}, initial_fetch_timeout: 0.05s}"), "name: ext", "name: never")),
	)
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "GRPC"))
	if got := k.get("default", "/"); got != "200 hello x-seen=default" {
		t.Errorf("got %s", got)
	}
	if got := k.get("gone", "/"); got != "500 " {
		t.Errorf("without a configuration: %s", got)
	}
	for _, l := range k.server.Listeners.Listeners() {
		if l.Name() == "waits" {
			t.Error("a listener without the configuration of its filter is in use")
		}
	}
	plane.Set(message(t, &corev3.TypedExtensionConfig{}, "{name: ext, typed_config: "+seen("one")+"}"))
	if got := k.get("waits", "/"); got != "200 hello x-seen=one" {
		t.Errorf("got %s", got)
	}
	until(t, "the same for all", func() bool { return k.get("default", "/") == "200 hello x-seen=one" })
}
