package wasm

// callback is a function that guests export for the host to call.
type callback uint8

const (
	onContextCreate callback = iota
	onVMStart
	onConfigure
	onTick
	onQueueReady
	onForeignFunction
	onNewConnection
	onDownstreamData
	onDownstreamClose
	onUpstreamData
	onUpstreamClose
	onRequestHeaders
	onRequestBody
	onRequestTrailers
	onResponseHeaders
	onResponseBody
	onResponseTrailers
	onHTTPCallResponse
	onGRPCInitialMetadata
	onGRPCMessage
	onGRPCTrailingMetadata
	onGRPCClose
	onDone
	onLog
	onDelete
	callbacks // how many there are
)

// callbackNames are their names in the ABI, and how many parameters they have.
var callbackNames = [callbacks]struct {
	name   string
	params int
}{
	onContextCreate:        {"proxy_on_context_create", 2},
	onVMStart:              {"proxy_on_vm_start", 2},
	onConfigure:            {"proxy_on_configure", 2},
	onTick:                 {"proxy_on_tick", 1},
	onQueueReady:           {"proxy_on_queue_ready", 2},
	onForeignFunction:      {"proxy_on_foreign_function", 3},
	onNewConnection:        {"proxy_on_new_connection", 1},
	onDownstreamData:       {"proxy_on_downstream_data", 3},
	onDownstreamClose:      {"proxy_on_downstream_connection_close", 2},
	onUpstreamData:         {"proxy_on_upstream_data", 3},
	onUpstreamClose:        {"proxy_on_upstream_connection_close", 2},
	onRequestHeaders:       {"proxy_on_request_headers", 3},
	onRequestBody:          {"proxy_on_request_body", 3},
	onRequestTrailers:      {"proxy_on_request_trailers", 2},
	onResponseHeaders:      {"proxy_on_response_headers", 3},
	onResponseBody:         {"proxy_on_response_body", 3},
	onResponseTrailers:     {"proxy_on_response_trailers", 2},
	onHTTPCallResponse:     {"proxy_on_http_call_response", 5},
	onGRPCInitialMetadata:  {"proxy_on_grpc_receive_initial_metadata", 3},
	onGRPCMessage:          {"proxy_on_grpc_receive", 3},
	onGRPCTrailingMetadata: {"proxy_on_grpc_receive_trailing_metadata", 3},
	onGRPCClose:            {"proxy_on_grpc_close", 3},
	onDone:                 {"proxy_on_done", 1},
	onLog:                  {"proxy_on_log", 1},
	onDelete:               {"proxy_on_delete", 1},
}

// params010 is how many parameters ABI 0.1.0 gives callbacks that have another one since:
// the heads come without the end of the stream.
var params010 = map[callback]int{onRequestHeaders: 2, onResponseHeaders: 2}
