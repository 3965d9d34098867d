package wasm

import (
	"context"

	"github.com/tetratelabs/wazero/api"
)

// hosted makes a host function out of one that knows its instance.
func hosted(sig string, f func(in *Instance, a []uint64) Status) hostFunction {
	return hostFunction{sig: sig, call: func(ctx context.Context, _ api.Module, stack []uint64) {
		in := ctx.(*Instance)
		if in.memory == nil { // the start function of the module
			stack[0] = uint64(StatusInternalFailure)
			return
		}
		stack[0] = uint64(f(in, stack))
	}}
}

// hostFunctions are the functions of the ABI by name.
func hostFunctions() map[string]hostFunction {
	return map[string]hostFunction{
		"proxy_log":                          hosted("iii", (*Instance).log),
		"proxy_get_log_level":                hosted("i", (*Instance).logLevel),
		"proxy_get_status":                   hosted("iii", (*Instance).status),
		"proxy_get_property":                 hosted("iiii", (*Instance).getProperty),
		"proxy_set_property":                 hosted("iiii", (*Instance).setProperty),
		"proxy_get_configuration":            hosted("ii", (*Instance).configuration),
		"proxy_set_tick_period_milliseconds": hosted("i", (*Instance).setTickPeriod),
		"proxy_get_current_time_nanoseconds": hosted("i", (*Instance).currentTime),
		"proxy_set_effective_context":        hosted("i", (*Instance).setEffectiveContext),
		"proxy_done":                         hosted("", (*Instance).done),
		"proxy_continue_request":             hosted("", (*Instance).continueRequest),
		"proxy_continue_response":            hosted("", (*Instance).continueResponse),
		"proxy_clear_route_cache":            hosted("", (*Instance).clearRouteCache),
		"proxy_continue_stream":              hosted("i", (*Instance).continueStream),
		"proxy_close_stream":                 hosted("i", (*Instance).closeStream),
		"proxy_send_local_response":          hosted("iiiiiiii", (*Instance).sendLocalResponse),
		"proxy_get_header_map_size":          hosted("ii", (*Instance).mapSize),
		"proxy_get_header_map_value":         hosted("iiiii", (*Instance).mapValue),
		"proxy_get_header_map_pairs":         hosted("iii", (*Instance).mapPairs),
		"proxy_set_header_map_pairs":         hosted("iii", (*Instance).setMapPairs),
		"proxy_add_header_map_value":         hosted("iiiii", (*Instance).addMapValue),
		"proxy_replace_header_map_value":     hosted("iiiii", (*Instance).replaceMapValue),
		"proxy_remove_header_map_value":      hosted("iii", (*Instance).removeMapValue),
		"proxy_get_buffer_bytes":             hosted("iiiii", (*Instance).bufferBytes),
		"proxy_get_buffer_status":            hosted("iii", (*Instance).bufferStatus),
		"proxy_set_buffer_bytes":             hosted("iiiii", (*Instance).setBufferBytes),
		"proxy_get_shared_data":              hosted("iiiii", (*Instance).getSharedData),
		"proxy_set_shared_data":              hosted("iiiii", (*Instance).setSharedData),
		"proxy_register_shared_queue":        hosted("iii", (*Instance).registerQueue),
		"proxy_resolve_shared_queue":         hosted("iiiii", (*Instance).resolveQueue),
		"proxy_dequeue_shared_queue":         hosted("iii", (*Instance).dequeue),
		"proxy_enqueue_shared_queue":         hosted("iii", (*Instance).enqueue),
		"proxy_define_metric":                hosted("iiii", (*Instance).defineMetric),
		"proxy_increment_metric":             hosted("il", (*Instance).incrementMetric),
		"proxy_record_metric":                hosted("il", (*Instance).recordMetric),
		"proxy_get_metric":                   hosted("ii", (*Instance).getMetric),
		"proxy_http_call":                    hosted("iiiiiiiiii", (*Instance).httpCall),
		"proxy_call_foreign_function":        hosted("iiiiii", (*Instance).callForeign),
		"proxy_grpc_call":                    hosted("iiiiiiiiiiii", (*Instance).grpcCall),
		"proxy_grpc_stream":                  hosted("iiiiiiiii", (*Instance).grpcStream),
		"proxy_grpc_send":                    hosted("iiii", (*Instance).grpcSend),
		"proxy_grpc_cancel":                  hosted("i", (*Instance).grpcCancel),
		"proxy_grpc_close":                   hosted("i", (*Instance).grpcClose),
	}
}
