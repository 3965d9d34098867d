package bootstrap

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	udpa "github.com/cncf/xds/go/udpa/type/v1"
	xdstype "github.com/cncf/xds/go/xds/type/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	internallistenerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// write puts text into a file of the test's directory.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLoadSidecar loads a bootstrap of the shape Istio's agent writes, with its
// oddities: blank lines from a template, a trailing comma, runtime keys and
// extensions nobody here knows.
func TestLoadSidecar(t *testing.T) {
	b, report, err := Load(LoadOptions{Path: "testdata/sidecar.json"})
	if err != nil {
		t.Fatal(err)
	}
	l := b.GetStaticResources().GetListeners()[0]
	m, _, err := Unwrap(l.GetFilterChains()[0].GetFilters()[0].GetTypedConfig(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := m.(*hcmv3.HttpConnectionManager).GetStatPrefix(); got != "stats" {
		t.Errorf("stat_prefix %q", got)
	}
	url, fields, ok := TypedStructOf(l.GetListenerFilters()[0].GetTypedConfig())
	if !ok || !strings.HasSuffix(url, ".ProxyProtocol") || !fields.GetFields()["allow_requests_without_proxy_protocol"].GetBoolValue() {
		t.Errorf("the unlinked listener filter became %q %v %v", url, fields, ok)
	}
	if report.UnknownTypes != 2 {
		t.Errorf("%d unknown types, want 2", report.UnknownTypes)
	}
	if _, ok, err := LogFormat(b); !ok || err != nil {
		t.Errorf("log format: %v %v", ok, err)
	}
}

func TestLoadMerges(t *testing.T) {
	path := write(t, "b.yaml", `
node: {id: a, cluster: c, metadata: {x: 1, y: 2}}
static_resources: {clusters: [{name: one}]}
admin: {profile_path: /p}
`)
	b, _, err := Load(LoadOptions{
		Path:    path,
		YAML:    `{"node": {"id": "b", "metadata": {"y": 3}}, "static_resources": {"clusters": {"name": "two"}},}`,
		Cluster: "cli", Zone: "z",
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := b.GetNode(); n.GetId() != "b" || n.GetCluster() != "cli" || n.GetLocality().GetZone() != "z" {
		t.Errorf("node %v", n)
	}
	if y := b.GetNode().GetMetadata().GetFields()["y"].GetNumberValue(); y != 3 {
		t.Errorf("metadata y is %v", y)
	}
	if _, ok := b.GetNode().GetMetadata().GetFields()["x"]; !ok {
		t.Error("the merge lost metadata x")
	}
	if c := b.GetStaticResources().GetClusters(); len(c) != 2 || c[1].GetName() != "two" {
		t.Errorf("clusters %v", c)
	}
	if b.GetAdmin().GetProfilePath() != "/p" {
		t.Error("the merge lost admin")
	}
}

// TestLoadMergesParts allows either part to lack what the other has.
func TestLoadMergesParts(t *testing.T) {
	path := write(t, "b.yaml", "stats_config: {stats_matcher: {}}")
	_, _, err := Load(LoadOptions{Path: path})
	if err == nil || !strings.Contains(err.Error(), "b.yaml:1: stats_config.stats_matcher: one of reject_all") {
		t.Errorf("alone: %v", err)
	}
	if _, _, err := Load(LoadOptions{Path: path, YAML: "stats_config: {stats_matcher: {reject_all: true}}"}); err != nil {
		t.Errorf("with the missing part: %v", err)
	}
	_, _, err = Load(LoadOptions{Path: path, YAML: "node: {id: 5}"})
	if want := `--config-yaml:1: node.id: expected string, got number 5 (write it as "5")`; err == nil || err.Error() != want {
		t.Errorf("mistake in the second part: %v", err)
	}
}

func TestLoadNothing(t *testing.T) {
	if _, _, err := Load(LoadOptions{}); err == nil || !strings.HasPrefix(err.Error(), "no configuration:") {
		t.Errorf("got %v", err)
	}
	_, _, err := Load(LoadOptions{Path: "/nonexistent/x.yaml"})
	if want := "/nonexistent/x.yaml: cannot read: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if _, _, err := Load(LoadOptions{Path: t.TempDir()}); err == nil || !strings.HasSuffix(err.Error(), "cannot read: is a directory") {
		t.Errorf("got %v", err)
	}
}

// TestLoadFIFO reads a pipe that can be opened, and read, only once.
func TestLoadFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bootstrap")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(path, []byte("node: {id: piped}\n"), 0) }()
	b, _, err := Load(LoadOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if b.GetNode().GetId() != "piped" {
		t.Errorf("node %v", b.GetNode())
	}
}

func TestUnknownFieldsAllowed(t *testing.T) {
	const text = "nodule: 1\nnode: {id: a, identity: b}\nstatic_resources: {clusters: [{name: c, type: FUTURE}]}\n"
	b, report, err := Load(LoadOptions{YAML: text, AllowUnknownFields: true})
	if err != nil {
		t.Fatal(err)
	}
	if report.UnknownFields != 3 || len(report.Warnings) != 3 {
		t.Fatalf("report %+v", report)
	}
	want := []string{
		"--config-yaml:1: nodule: unknown field of envoy.config.bootstrap.v3.Bootstrap, ignored",
		"--config-yaml:2: node.identity: unknown field of envoy.config.core.v3.Node, ignored",
		`--config-yaml:3: static_resources.clusters[0].type: unknown value "FUTURE" of envoy.config.cluster.v3.Cluster.DiscoveryType, ignored`,
	}
	for i, w := range report.Warnings {
		if w.String() != want[i] {
			t.Errorf("got  %s\nwant %s", w, want[i])
		}
	}
	if b.GetNode().GetId() != "a" {
		t.Error("what is known got lost")
	}
}

func TestDeprecatedFields(t *testing.T) {
	const text = "admin: {access_log_path: /dev/null}"
	_, report, err := Load(LoadOptions{YAML: text})
	if err != nil || report.Deprecated != 1 || len(report.Warnings) != 1 {
		t.Errorf("report %+v, %v", report, err)
	}
	_, report, err = Load(LoadOptions{YAML: text, IgnoreDeprecated: true})
	if err != nil || report.Deprecated != 1 || len(report.Warnings) != 0 {
		t.Errorf("report %+v, %v", report, err)
	}
}

// TestAliasBomb refuses a text whose aliases multiply.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i <= 12; i++ {
		prev := "*a" + string(rune('a'+i-1))
		if i == 1 {
			prev = "*a0"
		}
		b.WriteString("k" + string(rune('a'+i)) + ": &a" + string(rune('a'+i)) + " [" + strings.Repeat(prev+", ", 10) + "]\n")
	}
	_, _, err := Load(LoadOptions{YAML: b.String()})
	if err == nil || !strings.Contains(err.Error(), "aliases make this file too large") {
		t.Errorf("got %v", err)
	}
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestUnwrap(t *testing.T) {
	value, err := structpb.NewStruct(map[string]any{"buffer_size_kb": 64})
	if err != nil {
		t.Fatal(err)
	}
	const inner = "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
	for _, m := range []proto.Message{
		&udpa.TypedStruct{TypeUrl: inner, Value: value},
		&xdstype.TypedStruct{TypeUrl: inner, Value: value},
		&internallistenerv3.InternalListener{BufferSizeKb: wrapperspb.UInt32(64)},
	} {
		got, _, err := Unwrap(pack(t, m), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if kb := got.(*internallistenerv3.InternalListener).GetBufferSizeKb().GetValue(); kb != 64 {
			t.Errorf("%T: buffer_size_kb %d", m, kb)
		}
	}
}

func TestUnwrapRefuses(t *testing.T) {
	wrong, err := structpb.NewStruct(map[string]any{"suppress_envoy_headers": "sometimes", "novel": 1})
	if err != nil {
		t.Fatal(err)
	}
	const router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
	for _, c := range []struct {
		a    *anypb.Any
		want string
	}{
		{pack(t, &udpa.TypedStruct{TypeUrl: router, Value: wrong}), `listener web.suppress_envoy_headers: expected boolean, got "sometimes"`},
		{pack(t, &udpa.TypedStruct{TypeUrl: "type.googleapis.com/foo.Bar"}), "listener web: unknown type type.googleapis.com/foo.Bar: this build of mecha has no such extension"},
		{&anypb.Any{TypeUrl: "type.googleapis.com/foo.Baz"}, "listener web: unknown type type.googleapis.com/foo.Baz: this build of mecha has no such extension"},
		{&anypb.Any{}, `listener web: unknown type "": this build of mecha has no such extension`},
		{&anypb.Any{TypeUrl: router, Value: []byte{0xff}}, "listener web: the bytes are not a envoy.extensions"},
		{pack(t, &hcmv3.HttpConnectionManager{}), "listener web.stat_prefix: must not be empty"},
	} {
		_, _, err := Unwrap(c.a, Options{Path: "listener web", AllowUnknownFields: true})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestUnknownInBinary(t *testing.T) {
	c := &clusterv3.Cluster{Name: "c"}
	c.ProtoReflect().SetUnknown([]byte{0xfa, 0xff, 0x7f, 0x01, 'x'})
	b := &bootstrapv3.Bootstrap{StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{{Name: "a"}, c}}}
	found := Unknown(b, "")
	if len(found) != 1 || found[0].String() != "static_resources.clusters[1]: unknown fields of envoy.config.cluster.v3.Cluster (5 bytes)" {
		t.Errorf("found %v", found)
	}
}

func TestValidatePath(t *testing.T) {
	err := Validate(&clusterv3.Cluster{}, `cluster "x"`)
	if err == nil || err.Error() != `cluster "x".name: must not be empty` {
		t.Errorf("got %v", err)
	}
	if err := Validate(&routerv3.Router{}, ""); err != nil {
		t.Error(err)
	}
}

// TestKeptTypesAreStable gives equal bytes for equal files: a reload compares
// them.
func TestKeptTypesAreStable(t *testing.T) {
	const text = `{"bootstrap_extensions": [{"name": "a", "typed_config": {"@type": "type.googleapis.com/foo.Bar", "z": 1, "y": {"b": 1, "a": 2}, "x": [1]}}]}`
	var first []byte
	for range 20 {
		b, _, err := Load(LoadOptions{YAML: text})
		if err != nil {
			t.Fatal(err)
		}
		got := b.GetBootstrapExtensions()[0].GetTypedConfig().GetValue()
		if first == nil {
			first = got
		}
		if string(got) != string(first) {
			t.Fatal("two loads of one text differ")
		}
	}
}
