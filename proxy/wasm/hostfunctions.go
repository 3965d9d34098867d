package wasm

import (
	"context"

	"github.com/tetratelabs/wazero/api"
)

// hosted makes a host function out of one that knows its instance.
func hosted(sig string, f func(in *Instance, a []uint64) Status) hostFunction {
	return hostFunction{sig: sig, call: func(ctx context.Context, _ api.Module, stack []uint64) {
		in := ctx.(*Instance)
		stack[0] = uint64(f(in, stack))
	}}
}

// hostFunctions are the functions of the ABI by name.
func hostFunctions() map[string]hostFunction {
	return map[string]hostFunction{
		"proxy_log":                      hosted("iii", (*Instance).log),
		"proxy_get_header_map_size":      hosted("ii", (*Instance).mapSize),
		"proxy_get_header_map_value":     hosted("iiiii", (*Instance).mapValue),
		"proxy_get_header_map_pairs":     hosted("iii", (*Instance).mapPairs),
		"proxy_set_header_map_pairs":     hosted("iii", (*Instance).setMapPairs),
		"proxy_add_header_map_value":     hosted("iiiii", (*Instance).addMapValue),
		"proxy_replace_header_map_value": hosted("iiiii", (*Instance).replaceMapValue),
		"proxy_remove_header_map_value":  hosted("iii", (*Instance).removeMapValue),
		"proxy_get_buffer_bytes":         hosted("iiiii", (*Instance).bufferBytes),
		"proxy_get_buffer_status":        hosted("iii", (*Instance).bufferStatus),
		"proxy_set_buffer_bytes":         hosted("iiiii", (*Instance).setBufferBytes),
	}
}
