package wasm

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/attributes"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cel"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// MapType is a header map that guests may ask for.
type MapType uint32

// The header maps.
const (
	RequestHeaders MapType = iota
	RequestTrailers
	ResponseHeaders
	ResponseTrailers
	GRPCInitialMetadata
	GRPCTrailingMetadata
	CallResponseHeaders
	CallResponseTrailers
)

// BufferType is a buffer that guests may ask for.
type BufferType uint32

// The buffers.
const (
	RequestBody BufferType = iota
	ResponseBody
	DownstreamData
	UpstreamData
	CallResponseBody
	GRPCMessage
	VMConfiguration
	PluginConfiguration
	CallData
)

// StreamType is a direction of a stream or a connection.
type StreamType uint32

// The directions.
const (
	Request StreamType = iota
	Response
	Downstream
	Upstream
)

// Subject is what a context of a guest is about: a stream, or a connection. Its methods are
// called while the guest runs on its behalf, with the instance locked.
type Subject interface {
	// Map returns the header map; nil: it is not there now. What is written to it is seen
	// where it is sent. writable is false where it was sent already.
	Map(t MapType) (m *header.Map, writable bool)
	// Changed tells that the guest has changed the map.
	Changed(t MapType)
	// Buffer returns the buffer; nil: it is not there now.
	Buffer(t BufferType) *buffer.Buf
	// Attributes are what properties are read of.
	Attributes() attributes.Source
	// Reply answers the stream; the reply is the subject's.
	Reply(r *filter.Reply) Status
	// Continue lets a direction that waits go on.
	Continue(t StreamType) Status
	// Close ends a direction.
	Close(t StreamType) Status
	// ClearRouteCache has the route looked up again.
	ClearRouteCache() Status
}

// Context is what the guest knows a stream or a root by.
type Context struct {
	id      uint32
	in      *Instance
	plugin  *Plugin
	root    *Context // nil of a root
	subject Subject  // nil of a root
	users   int      // of a root: plugins that are the same
	ending  bool     // the guest has put off the end until it calls proxy_done
	over    bool     // the guest has deleted it
	conn    bool     // it is about a connection: nothing is logged by proxy_on_log
	failed  bool     // the guest has failed on its behalf: it is not called any more

	declared    map[string]property     // by path
	expressions map[uint32]*cel.Program // by token, of a root
	expression  uint32                  // the newest token

	period time.Duration // of ticks, of a root
	timer  *time.Timer
}

// Instance is where the guest of the context runs.
func (c *Context) Instance() *Instance { return c.in }
