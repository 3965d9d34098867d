package translate_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/config"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
	"github.com/mecha-mesh/mecha/xds/translate"
)

func process(t *testing.T, yaml string) (*config.Process, []string, error) {
	t.Helper()
	b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: yaml})
	if err != nil {
		t.Fatal(err)
	}
	return translate.Process(b)
}

func TestProcess(t *testing.T) {
	p, warnings, err := process(t, `
node: {id: me, cluster: c, locality: {zone: z}}
stats_flush_interval: 1s
flags_path: x
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 15000}}
  access_log:
  - name: f
    typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null}
layered_runtime:
  layers:
  - name: base
    static_layer: {a: {b: 5, c: x}, "d.e": true, p: {numerator: 5}}
  - name: over
    static_layer: {a.b: 6.5}
  - {name: admin, admin_layer: {}}
overload_manager:
  resource_monitors:
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
      max_active_downstream_connections: 1000
`)
	if err != nil {
		t.Fatal(err)
	}
	if p.Node != (filter.Node{ID: "me", Cluster: "c", Zone: "z"}) || p.StatsFlush != time.Second || p.MaxConnections != 1000 || len(p.AdminLogs) != 1 {
		t.Errorf("%+v", p)
	}
	want := []runtime.Layer{
		{Name: "base", Values: map[string]string{"a.b": "5", "a.c": "x", "d.e": "true", "p": `{"numerator":5}`}},
		{Name: "over", Values: map[string]string{"a.b": "6.5"}},
		{Name: "admin", Kind: runtime.Admin, Values: map[string]string{}},
	}
	if !reflect.DeepEqual(p.Runtime, want) {
		t.Errorf("runtime %+v, want %+v", p.Runtime, want)
	}
	if v, ok := p.RuntimeValue("a.b"); v != "6.5" || !ok {
		t.Errorf("a.b is %q, %v", v, ok)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "flags_path") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestProcessDefaults(t *testing.T) {
	p, warnings, err := process(t, "node: {id: me}")
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if p.StatsFlush != 5*time.Second || p.MaxConnections != 0 || len(p.Runtime) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestProcessRefusals(t *testing.T) {
	for yaml, want := range map[string]string{
		"header_prefix: x-mecha": "header_prefix: this build does not support",
		"layered_runtime: {layers: [{name: a, admin_layer: {}}, {name: a, admin_layer: {}}]}": `layered_runtime.layers[1].name: "a" is the name of an earlier layer`,
		"layered_runtime: {layers: [{name: a, admin_layer: {}}, {name: b, admin_layer: {}}]}": `layered_runtime.layers[1].admin_layer: there can be one only`,
		"layered_runtime: {layers: [{name: a, static_layer: {n: null}}]}":                     `layered_runtime.layers[0].static_layer.n: expected a number`,
		"layered_runtime: {layers: [{name: a, disk_layer: {}}]}":                              `layered_runtime.layers[0].disk_layer.symlink_root: is required`,
		"admin: {access_log: [{name: f}]}":                                                    "admin.access_log[0].typed_config: is required",
		"overload_manager: {resource_monitors: [{name: m}]}":                                  "overload_manager.resource_monitors[0].typed_config: is required",
	} {
		if _, _, err := process(t, yaml); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", yaml, err, want)
		}
	}
}

func TestRuntimeLayers(t *testing.T) {
	p, _, err := process(t, `
node: {cluster: front}
layered_runtime:
  layers:
  - {name: disk, disk_layer: {symlink_root: /srv/current, subdirectory: envoy}}
  - {name: over, disk_layer: {symlink_root: /srv/current, subdirectory: override, append_service_cluster: true}}
  - {name: dyn, rtds_layer: {name: values, rtds_config: {ads: {}}}}
  - {name: s, static_layer: {big: 10000000000, half: 0.5, whole: {denominator: HUNDRED}, empty: {}}}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []runtime.Layer{
		{Name: "disk", Kind: runtime.Disk, Values: map[string]string{}, Root: "/srv/current", Directory: "/srv/current/envoy"},
		{Name: "over", Kind: runtime.Disk, Values: map[string]string{}, Root: "/srv/current", Directory: "/srv/current/override/front"},
		{Name: "dyn", Kind: runtime.RTDS, Values: map[string]string{}, Resource: "values"},
		{Name: "s", Values: map[string]string{"big": "10000000000", "half": "0.5", "whole": `{"denominator":"HUNDRED"}`, "empty": "{}"}},
	}
	if !reflect.DeepEqual(p.Runtime, want) {
		t.Errorf("runtime %+v, want %+v", p.Runtime, want)
	}
}
