package wasm_test

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	pluginv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mecha-mesh/mecha/filters/wasm"
	"github.com/mecha-mesh/mecha/proxy/filter"
)

// TestRefusedByName: what this build does not do is not taken for done.
func TestRefusedByName(t *testing.T) {
	remote := &pluginv3.PluginConfig_VmConfig{VmConfig: &pluginv3.VmConfig{Code: &corev3.AsyncDataSource{
		Specifier: &corev3.AsyncDataSource_Remote{Remote: &corev3.RemoteDataSource{}},
	}}}
	for path, pb := range map[string]*pluginv3.PluginConfig{
		"config.allow_on_headers_stop_iteration": {AllowOnHeadersStopIteration: wrapperspb.Bool(true)},
		"config.vm_config.code.remote.http_uri":  {Vm: remote},
	} {
		raw, err := proto.Marshal(&wasmv3.Wasm{Config: pb})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = wasm.Spec.Parse(raw, &filter.Parser{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error is %v", path, err)
		}
	}
}
