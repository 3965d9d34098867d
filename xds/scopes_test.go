package xds_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/ads"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// scoped is what a connection manager has whose scopes go by the header x-scope.
func scoped(scopes, routes string) string {
	return `
scoped_routes:
  name: s
  scope_key_builder: {fragments: [{header_value_extractor: {name: x-scope, index: 0}}]}
  rds_config_source: ` + routes + `
  scoped_rds: {scoped_rds_config_source: ` + scopes + `}
` + routerFilter
}

// scopeOf is a scope, in YAML; more is added to it.
func scopeOf(name, key, more string) string {
	return fmt.Sprintf(`{name: %s, key: {fragments: [{string_key: %s}]}, %s}`, name, key, more)
}

// TestScopedRoutes: scopes come over ADS and streams of their own, in either protocol; the
// listener waits for them and for the tables that they name.
func TestScopedRoutes(t *testing.T) {
	for _, variant := range []string{"GRPC", "DELTA_GRPC"} {
		for name, from := range map[string]string{
			"ads": "{ads: {}, initial_fetch_timeout: 0s}",
			"own": "{initial_fetch_timeout: 0s, api_config_source: {api_type: " + variant + ", grpc_services: [{envoy_grpc: {cluster_name: xds}}]}}",
		} {
			t.Run(variant+"/"+name, func(t *testing.T) { scopedRoutes(t, variant, from) })
		}
	}
}

func scopedRoutes(t *testing.T, variant, from string) {
	plane := xdstest.New(t)
	scope := func(text string) *routev3.ScopedRouteConfiguration {
		return message(t, &routev3.ScopedRouteConfiguration{}, text)
	}
	table := func(text string) *routev3.RouteConfiguration {
		return message(t, &routev3.RouteConfiguration{}, text)
	}
	plane.Set(
		httpListener(t, "l", scoped(from, from)),
		scope(scopeOf("a", "blue", "route_configuration_name: ra")),
		scope(scopeOf("b", "red", "route_configuration: "+answers("rb", "inline"))),
	)
	k := proxyOf(t, plane, fmt.Sprintf(overADS, variant))
	plane.Await("the request for the table of a scope", func(r xdstest.Request) bool {
		return r.TypeURL == ads.RouteType && len(r.Names) == 1 && r.Names[0] == "ra"
	})
	if n := len(k.server.Listeners.Listeners()); n != 0 {
		t.Error("a listener is in use before the tables of its scopes")
	}
	plane.Set(table(answers("ra", "first")))
	for scope, want := range map[string]string{"blue": "200 first", "red": "200 inline", "green": "404 "} {
		if got := k.get("l", "/", "x-scope", scope); got != want {
			t.Errorf("%s: got %s, want %s", scope, got, want)
		}
	}
	for name, want := range map[string]int64{"all_scopes": 2, "active_scopes": 2, "on_demand_scopes": 0, "update_rejected": 0} {
		if got := k.stat("http.l.scoped_rds.s." + name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}

	// A scope that takes another's key is refused, the others go on.
	plane.Set(scope(scopeOf("c", "red", "route_configuration_name: ra")))
	plane.Await("a refusal", func(r xdstest.Request) bool {
		return r.TypeURL == ads.ScopedRouteType && strings.Contains(r.Error, `c: key: the scopes "b" and "c" have the same key`)
	})
	plane.Set(scope(scopeOf("c", "green", "route_configuration_name: ra")))
	until(t, "the third scope", func() bool { return k.get("l", "/", "x-scope", "green") == "200 first" })

	// Its table changes, it goes to another table, and goes.
	plane.Set(table(answers("ra", "second")))
	until(t, "the new table", func() bool { return k.get("l", "/", "x-scope", "green") == "200 second" })
	plane.Set(scope(scopeOf("a", "blue", "route_configuration_name: rd")), table(answers("rd", "other")))
	until(t, "the other table", func() bool { return k.get("l", "/", "x-scope", "blue") == "200 other" })
	plane.Remove(ads.ScopedRouteType, "c")
	until(t, "the end of the scope", func() bool { return k.get("l", "/", "x-scope", "green") == "404 " })
	plane.Await("the end of interest in its table", func(r xdstest.Request) bool {
		return r.TypeURL == ads.RouteType && (len(r.Unsubscribe) == 1 && r.Unsubscribe[0] == "ra" || len(r.Names) == 1 && r.Names[0] == "rd")
	})
	if got := k.get("l", "/", "x-scope", "red"); got != "200 inline" {
		t.Errorf("got %s", got)
	}
	dump, err := k.manager.Dump(nil, xds.DumpOptions{Resource: "dynamic_scoped_route_configs"})
	if err != nil || !strings.Contains(string(dump), `"rd"`) {
		t.Errorf("%v: %s", err, dump)
	}
}

// TestScopedRoutesOfAFile: scopes and tables may come from files.
func TestScopedRoutesOfAFile(t *testing.T) {
	plane := xdstest.New(t)
	dir := t.TempDir()
	write := func(name, typeURL, resource string) string {
		path := filepath.Join(dir, name)
		text := "{resources: [{\"@type\": " + typeURL + ", " + strings.TrimPrefix(resource, "{") + "]}"
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		return "{path_config_source: {path: " + path + "}}"
	}
	scopes := write("scopes.yaml", ads.ScopedRouteType, scopeOf("a", "blue", "route_configuration_name: r"))
	routes := write("routes.yaml", ads.RouteType, answers("r", "hello"))
	plane.Set(httpListener(t, "l", scoped(scopes, routes)))
	k := proxyOf(t, plane, fmt.Sprintf(overADS, "GRPC"))
	if got := k.get("l", "/", "x-scope", "blue"); got != "200 hello" {
		t.Errorf("got %s", got)
	}
	write("scopes.yaml", ads.ScopedRouteType, scopeOf("a", "red", "route_configuration_name: r"))
	until(t, "the new key", func() bool { return k.get("l", "/", "x-scope", "red") == "200 hello" })
	if got := k.get("l", "/", "x-scope", "blue"); got != "404 " {
		t.Errorf("got %s", got)
	}
}

// TestScopesThatDoNotCome hold nothing up for ever.
func TestScopesThatDoNotCome(t *testing.T) {
	plane := xdstest.New(t)
	from := "{initial_fetch_timeout: 0.05s, api_config_source: {api_type: DELTA_GRPC, grpc_services: [{envoy_grpc: {cluster_name: away}}]}}"
	plane.Set(httpListener(t, "l", scoped(from, "{ads: {}}")))
	k := proxyOf(t, plane, strings.Replace(fmt.Sprintf(overADS, "GRPC"), "[XDS]", "[XDS, {name: away, connect_timeout: 1s, type: STATIC, load_assignment: {cluster_name: away, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}]}]}}]", 1))
	if got := k.get("l", "/", "x-scope", "blue"); got != "404 " {
		t.Errorf("got %s", got)
	}
	if got := k.stat("http.l.scoped_rds.s.init_fetch_timeout"); got != 1 {
		t.Errorf("init_fetch_timeout is %d", got)
	}
}
