package wasm

import (
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/wasm/v3"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/filter/fromproto"
	"github.com/mecha-mesh/mecha/proxy/wasm"
)

// parse decodes envoy.extensions.filters.http.wasm.v3.Wasm.
func parse(raw []byte, p *filter.Parser) (*wasm.Config, error) {
	var pb wasmv3.Wasm
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	c, err := fromproto.WasmPlugin(pb.Config, p)
	return c, filter.At("config", err)
}

// parseNetwork decodes envoy.extensions.filters.network.wasm.v3.Wasm.
func parseNetwork(raw []byte, p *filter.Parser) (*wasm.Config, error) {
	var pb networkv3.Wasm
	if err := fromproto.Unmarshal(raw, &pb); err != nil {
		return nil, err
	}
	c, err := fromproto.WasmPlugin(pb.Config, p)
	return c, filter.At("config", err)
}
