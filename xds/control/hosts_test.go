package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// host is a virtual host of the table shop.
func host(name, domain, version string) string {
	return fmt.Sprintf("{\"@type\": type.googleapis.com/envoy.config.route.v3.VirtualHost, name: shop/%s, domains: [%q], routes: [{name: v%s, match: {prefix: /}, direct_response: {status: 200}}]}\n", name, domain, version)
}

// Scopes, runtime layers, configurations of filters and virtual hosts are served from the
// folder, and a change of one is sent.
func TestEveryTypeIsServed(t *testing.T) {
	files := func(version string) map[string]string {
		return map[string]string{
			"scopes.yaml":  "{\"@type\": type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration, name: scope, route_configuration_name: v" + version + ", key: {fragments: [{string_key: a}]}}\n",
			"runtime.yaml": "{\"@type\": type.googleapis.com/envoy.service.runtime.v3.Runtime, name: layer, layer: {key: " + version + "}}\n",
			"filter.yaml":  "{\"@type\": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig, name: filter, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 1" + version + "}}\n",
			"hosts.yaml":   host("web", "web", version),
		}
	}
	variants(t, func(t *testing.T, v ads.Variant) {
		dir := t.TempDir()
		write(t, dir, files("1"))
		s, _ := serveFolder(t, dir)
		p := connect(t, v, s.Addresses()[0], "n", "")
		types := map[string]string{ads.ScopedRouteType: ads.Wildcard, ads.RuntimeType: "layer", ads.ExtensionConfigType: "filter"}
		if v == ads.Delta {
			types[ads.VirtualHostType] = "shop"
		}
		for url, name := range types {
			p.c.Subscribe(url, 0, name)
		}
		digests := map[string]ads.Digest{}
		all := func() (n int) {
			for url := range types {
				for name, r := range p.have[url] {
					if digests[url+name] != r.Digest {
						n++
					}
				}
			}
			return n
		}
		p.until("one resource of each type", func() bool { return all() == len(types) })
		p.mu.Lock()
		for url := range types {
			for name, r := range p.have[url] {
				digests[url+name] = r.Digest
			}
		}
		p.mu.Unlock()
		write(t, dir, files("2"))
		p.until("the changes", func() bool { return all() == len(types) })
	})
}

// askHosts opens a delta stream, and returns what asks for virtual hosts and tells what came
// of it: names with aliases, and names that are gone.
func askHosts(t *testing.T, address string) func(subscribe ...string) string {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	node, nonce := &corev3.Node{Id: "n"}, ""
	return func(subscribe ...string) string {
		t.Helper()
		err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: ads.VirtualHostType, ResponseNonce: nonce, ResourceNamesSubscribe: subscribe})
		if err != nil {
			t.Fatal(err)
		}
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		nonce = r.Nonce
		var out []string
		for _, res := range r.Resources {
			out = append(out, fmt.Sprint(res.Name, res.Aliases))
		}
		for _, name := range r.RemovedResources {
			out = append(out, "-"+name)
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
}

// A virtual host that is asked for by a domain comes under its own name, with what was
// asked for beside it, also where it has come before; who asks for the whole table gets all.
func TestVirtualHostsOnDemand(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.yaml": host("web", "www.shop", "1") + "---\n" + host("all", "*.shop", "1"), "b.yaml": host("other", "*", "1")})
	s, log := serveFolder(t, dir)
	ask := askHosts(t, s.Addresses()[0])
	for _, one := range []struct{ name, want string }{
		{"shop/WWW.shop", "shop/web[shop/WWW.shop]"},
		{"shop/a.shop", "shop/all[shop/a.shop]"},
		{"shop/b.shop", "shop/all[shop/a.shop shop/b.shop]"},
		{"nowhere/a.shop", "-nowhere/a.shop"},
		{"shop", "shop/other[]"}, // the others have come
	} {
		if got := ask(one.name); got != one.want {
			t.Errorf("%s: got %s, want %s", one.name, got, one.want)
		}
	}
	write(t, dir, map[string]string{"a.yaml": host("web", "www.shop", "2")})
	log.await(t, "removed virtual host shop/all")
	all := map[string]bool{}
	for i := range 10_000 { // the change comes in stages: what is new first
		for _, x := range strings.Fields(ask(fmt.Sprint("shop/none", i))) {
			all[x] = true
		}
		if all["-shop/all"] && all["shop/web[shop/WWW.shop]"] {
			return
		}
	}
	t.Errorf("after a change came %v", all)
}

func TestWarningsOfDiscovery(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"x.yaml": host("web", "web", "1") + `---
{"@type": type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration, name: scope, route_configuration_name: nowhere, key: {fragments: [{string_key: a}]}}
---
{"@type": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig, name: unused, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 1}}
---
name: l
address: {socket_address: {address: 127.0.0.1, port_value: 80}}
filter_chains: [{filters: [{name: lost, config_discovery: {config_source: {ads: {}}, type_urls: [a]}}]}]
`})
	s := load(t, NewFolder(dir))
	all := strings.Join(s.Warnings, "\n")
	for _, want := range []string{
		`x.yaml:1: virtual host shop/web: name: it is not the name of routes`,
		`scoped routes scope: route_configuration_name: there are no routes "nowhere" here`,
		`extension config unused: no listener uses it`,
		`listener l: filter_chains[0].filters[0].config_discovery: there is no extension config "lost"`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q", want)
		}
	}
	if len(s.Warnings) != 4 {
		t.Errorf("warnings:\n%s", all)
	}
}
