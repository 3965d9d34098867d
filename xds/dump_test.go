package xds

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/xds/ads"
)

const tlsCluster = `{"name": "web", "connect_timeout": "1s", "transport_socket": {"name": "tls", "typed_config": {
	"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": "web.example",
	"common_tls_context": {"tls_certificates": [{"certificate_chain": {"inline_string": "public"},
		"private_key": {"inline_string": "SECRET"}, "password": {"inline_bytes": "U0VDUkVU"}}]}}}}`

// The same in a TypedStruct, as some control planes send their messages.
const structCluster = `{"name": "st", "transport_socket": {"name": "tls", "typed_config": {
	"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
	"value": {"sni": "st.example", "common_tls_context": {"tls_certificates": [{"private_key": {"inline_string": "SECRET"}}]}}}}}`

const inlineListener = `{"name": "l2", "filter_chains": [{"filters": [{"name": "hcm", "typed_config": {
	"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
	"stat_prefix": "l2", "route_config": {"name": "inl", "virtual_hosts": [{"name": "v", "domains": ["*"]}]}}}]}]}`

func packed(t *testing.T, text string, msg proto.Message) *anypb.Any {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), msg); err != nil {
		t.Fatal(err)
	}
	a, err := anypb.New(msg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// filled is a manager that has accepted and refused a few resources.
func filled(t *testing.T) *Manager {
	t.Helper()
	m := &Manager{inUse: Inventory{types: map[string]map[string]*Record{}}}
	web := packed(t, tlsCluster, &clusterv3.Cluster{})
	m.inUse.note(ads.ClusterType, &ads.Resource{Name: "web", Version: "3", Body: web}, nil)
	m.inUse.note(ads.ClusterType, &ads.Resource{Name: "web", Version: "4", Body: web}, errors.New("no good"))
	m.inUse.note(ads.ClusterType, &ads.Resource{Name: "st", Body: packed(t, structCluster, &clusterv3.Cluster{})}, nil)
	m.inUse.types[ads.ClusterType]["st"].Static = true
	m.inUse.note(ads.ListenerType, &ads.Resource{Name: "l2", Version: "5", Body: packed(t, inlineListener, &listenerv3.Listener{})}, nil)
	return m
}

func boot(t *testing.T) *bootstrapv3.Bootstrap {
	b := &bootstrapv3.Bootstrap{}
	packed(t, `{"node": {"id": "n1", "cluster": "c1"}, "static_resources": {"clusters": [`+tlsCluster+`]}}`, b)
	return b
}

func TestDump(t *testing.T) {
	m, b := filled(t), boot(t)
	loaded := time.Unix(1700000000, 0)
	out, err := m.Dump(b, DumpOptions{IncludeEDS: true, Loaded: loaded})
	if err != nil {
		t.Fatal(err)
	}
	text := string(out)
	if strings.Contains(text, "SECRET") || strings.Contains(text, "U0VDUkVU") {
		t.Errorf("shows a secret:\n%s", text)
	}
	var shown struct {
		Configs []map[string]any `json:"configs"`
	}
	if err := json.Unmarshal(out, &shown); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, c := range shown.Configs {
		types = append(types, strings.TrimPrefix(c["@type"].(string), "type.googleapis.com/envoy.admin.v3."))
	}
	if got := strings.Join(types, " "); got != "BootstrapConfigDump ClustersConfigDump EndpointsConfigDump ListenersConfigDump ScopedRoutesConfigDump RoutesConfigDump SecretsConfigDump EcdsConfigDump" {
		t.Errorf("sections %s", got)
	}
	flat := strings.Join(strings.Fields(text), " ")
	for _, want := range []string{
		`"last_updated": "2023-11-14T22:13:20Z"`, `"certificate_chain": { "inline_string": "public" }`, `"private_key": { "inline_string": "[redacted]" }`,
		`"password": { "inline_bytes": "W3JlZGFjdGVkXQ==" }`, `"sni": "st.example"`, `"details": "no good", "version_info": "4"`,
		`"version_info": "3", "static_clusters"`, `"static_route_configs": [ { "route_config": { "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "inl"`,
	} {
		if !strings.Contains(strings.ReplaceAll(flat, ":  ", ": "), want) {
			t.Errorf("lacks %s:\n%s", want, flat)
		}
	}
	if b.StaticResources.Clusters[0].TransportSocket == nil || !strings.Contains(protojson.Format(b), "SECRET") {
		t.Error("the bootstrap itself was changed")
	}
}

// The questions and answers are those of Envoy 1.40.
func TestDumpQuestions(t *testing.T) {
	m, b := filled(t), boot(t)
	for _, c := range []struct {
		o    DumpOptions
		want string // all of the answer without white space, or the error
	}{
		{DumpOptions{Resource: "foo"}, "404 foo not found in config dump"},
		{DumpOptions{Resource: "bootstrap", Mask: "node.id"}, "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field"},
		{DumpOptions{Mask: "xyz"}, "FieldMask xyz could not be successfully applied to any configs."},
		{DumpOptions{Resource: "static_clusters", Mask: "nope"}, `FieldMask paths: "nope" could not be successfully used.`},
		{DumpOptions{Resource: "static_clusters", Mask: "cluster.transport_socket.typed_config.x"}, `FieldMask paths: "cluster.transport_socket.typed_config.x" could not be successfully used.`},
		{DumpOptions{NameRegex: "("}, "INVALID_ARGUMENT: Error while parsing name_regex from (: error parsing regexp: missing closing ): `(`"},
		{DumpOptions{Resource: "static_clusters", Mask: "cluster.name"},
			`{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster","cluster":{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"st"}}]}`},
		{DumpOptions{Mask: "bootstrap.node.id"},
			`{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.BootstrapConfigDump","bootstrap":{"node":{"id":"n1"}}}]}`},
		{DumpOptions{Resource: "dynamic_listeners", Mask: "name", NameRegex: "l2"},
			`{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener","name":"l2"}]}`},
		{DumpOptions{Resource: "dynamic_listeners", Mask: "name", NameRegex: "^x"}, `{}`},
		{DumpOptions{Resource: "dynamic_listeners", Mask: "warming_state.version_info", WarmingListeners: []string{"l2"}},
			`{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener","warming_state":{"version_info":"5"}}]}`},
	} {
		out, err := m.Dump(b, c.o)
		got := strings.Join(strings.Fields(string(out)), "")
		if e, ok := errors.AsType[*DumpError](err); ok {
			if got = e.Text; e.NotFound {
				got = "404 " + got
			}
		}
		if got != c.want {
			t.Errorf("%+v: got\n%s\nwant\n%s", c.o, got, c.want)
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add("cluster.name,last_updated", "static_clusters")
	f.Add("bootstrap.node..id,,a", "")
	f.Fuzz(func(t *testing.T, mask, resource string) {
		m := &Manager{inUse: Inventory{types: map[string]map[string]*Record{}}}
		m.inUse.note(ads.ClusterType, &ads.Resource{Name: "st", Body: packed(t, structCluster, &clusterv3.Cluster{})}, nil)
		out, err := m.Dump(&bootstrapv3.Bootstrap{}, DumpOptions{Mask: mask, Resource: resource})
		if _, asked := errors.AsType[*DumpError](err); err != nil && !asked {
			t.Fatal(err)
		}
		if strings.Contains(string(out), "SECRET") {
			t.Error("shows a secret")
		}
	})
}
