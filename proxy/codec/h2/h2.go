// Package h2 speaks HTTP/2 (RFC 9113, with HPACK, RFC 7541, and extended CONNECT,
// RFC 8441) on both sides of the proxy: NewServer takes over a client's connection,
// NewClient one to an upstream.
//
// A connection is one goroutine that reads: the one that calls ServerConn.Accept, or
// one of the ClientConn's own. It decodes heads, moves the views of bodies into their
// streams and wakes whoever waits there. There is no goroutine that writes: frames are
// appended to one queue under the connection's lock, and whoever finds nobody writing
// sends everything that is ready by then in one system call. Flow control is back
// pressure: a body gives credit when it is read, and a write blocks while there is none.
//
// The wire format is in pure functions (frame.go); what a peer may make us spend is
// bounded in flood.go.
package h2

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// The defaults of Options, which are Envoy's.
const (
	DefaultHpackTableSize                 = 4096
	DefaultMaxConcurrentStreams           = 1024
	DefaultInitialStreamWindow            = 16 << 20
	DefaultInitialConnectionWindow        = 24 << 20
	DefaultMaxHeadersKB                   = 60
	DefaultMaxResponseHeadersKB           = 80
	DefaultMaxHeadersCount                = 100
	DefaultMaxHeaderFieldKB               = 64
	DefaultMaxOutboundFrames              = 10000
	DefaultMaxOutboundControl             = 1000
	DefaultMaxEmptyFrames                 = 1
	DefaultMaxPriorityPerStream           = 100
	DefaultMaxWindowUpdatesPerData        = 10
	DefaultStreamResetBurst               = 1000
	DefaultStreamResetRate                = 33
	DefaultDrainTimeout                   = 5 * time.Second
	DefaultKeepaliveJitter                = 15
	maxInformational                      = 32
	maxFrameSize                          = 16 << 10 // what we take, and write at most
	initialWindow                         = 65535    // RFC 9113 6.9.2
	maxWindow                             = 1<<31 - 1
	maxStreamID                    uint32 = 1<<31 - 1
)

// Options is what both sides of the proxy may choose (Http2ProtocolOptions, except
// where said otherwise). The zero value is Envoy's default. Limits that may be 0 are
// pointers, of which nil is the default.
type Options struct {
	HpackTableSize          *uint32       // bytes, of our decoder's and encoder's dynamic table (hpack_table_size)
	MaxConcurrentStreams    uint32        // that the peer may open; for a client, that we open (max_concurrent_streams)
	InitialStreamWindow     uint32        // bytes (initial_stream_window_size)
	InitialConnectionWindow uint32        // bytes (initial_connection_window_size)
	AllowConnect            bool          // extended CONNECT (allow_connect)
	MaxHeadersKB            int           // of a head or trailer section, decoded (max_request_headers_kb, max_response_headers_kb)
	MaxHeadersCount         int           // fields in one (common_http_protocol_options.max_headers_count)
	MaxHeaderFieldKB        int           // of one name or value (max_header_field_size_kb)
	MaxOutboundFrames       uint32        // that wait to be written (max_outbound_frames)
	MaxOutboundControl      uint32        // the same for PING, SETTINGS and RST_STREAM (max_outbound_control_frames)
	MaxEmptyFrames          *uint32       // in a row (max_consecutive_inbound_frames_with_empty_payload)
	MaxPriorityPerStream    *uint32       // max_inbound_priority_frames_per_stream
	MaxWindowUpdatesPerData *uint32       // max_inbound_window_update_frames_per_data_frame_sent
	StreamErrors            bool          // a message that breaks the rules ends its stream only, not the connection (override_stream_error_on_invalid_http_message)
	CustomSettings          []Setting     // sent with ours (custom_settings_parameters)
	Keepalive               Keepalive     // connection_keepalive
	Stall                   time.Duration // how long a write waits for the peer to open its window, or to read unless the socket has a limit; 0: for ever
	Stats                   *Stats        // where to count; nil: nowhere
}

// Keepalive is KeepaliveSettings. The zero value sends no PINGs.
type Keepalive struct {
	Interval time.Duration // between PINGs; 0: none
	Timeout  time.Duration // for the answer, or for any other frame; 0: for ever
	Jitter   *float64      // per cent of Interval that is added at random; nil: 15
	Idle     time.Duration // a new stream sends a PING first when nothing has come for so long; 0: not (connection_idle_interval)
}

// ServerOptions configures the server side. The zero value is Envoy's default.
type ServerOptions struct {
	Options
	Underscores      Underscores   // fields with "_" in the name (headers_with_underscores_action)
	HeadTimeout      time.Duration // from the beginning of a header section to its end, or the connection ends with ErrSlowHead; 0: none
	DrainTimeout     time.Duration // between the two GOAWAYs of Drain; 0: 5 s (drain_timeout)
	StreamResetBurst uint64        // RST_STREAM frames at once; 0: 1000 (stream_reset_burst)
	StreamResetRate  uint64        // and per second; 0: 33 (stream_reset_rate)
}

// Underscores is what to do with a request field that has "_" in its name.
type Underscores uint8

// The values of headers_with_underscores_action.
const (
	AllowUnderscores Underscores = iota
	RejectUnderscores
	DropUnderscores
)

// ClientOptions configures the client side. The zero value is Envoy's default.
type ClientOptions struct {
	Options
	RxReset *stats.Counter // counts streams that hosts have reset, but for refused ones; nil: nobody counts
	TxReset *stats.Counter // and those that we have
}

// The response_code_details of refused messages, as Envoy spells them.
const (
	detailsHeader     = "http2.invalid.header.field"
	detailsMessaging  = "http2.violation.of.messaging.rule"
	detailsUnknown    = "http2.unknown.nghttp2.error"
	detailsTooMany    = "http2.too_many_headers"
	detailsTooLarge   = "http2.header_list_size_too_large"
	detailsUnderscore = "http2.unexpected_underscore"
	detailsEmptyFlood = "http2.inbound_empty_frames_flood"
	detailsOutbound   = "http2.outbound_frames_flood"
)

// limits is Options with the defaults in place.
type limits struct {
	table                    uint32
	streams                  uint32
	streamWindow, connWindow int64
	headBytes, headCount     int
	field                    int
	out, control             uint32
	empty, priority, updates uint64
}

func pick[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func pickPtr(v *uint32, def uint32) uint32 {
	if v == nil {
		return def
	}
	return *v
}

func (o *Options) limits(headersKB int) limits {
	return limits{
		table:        pickPtr(o.HpackTableSize, DefaultHpackTableSize),
		streams:      pick(o.MaxConcurrentStreams, DefaultMaxConcurrentStreams),
		streamWindow: int64(min(max(pick(o.InitialStreamWindow, DefaultInitialStreamWindow), initialWindow), maxWindow)),
		connWindow:   int64(min(max(pick(o.InitialConnectionWindow, DefaultInitialConnectionWindow), initialWindow), maxWindow)),
		headBytes:    pick(o.MaxHeadersKB, headersKB) << 10,
		headCount:    pick(o.MaxHeadersCount, DefaultMaxHeadersCount),
		field:        pick(o.MaxHeaderFieldKB, DefaultMaxHeaderFieldKB) << 10,
		out:          pick(o.MaxOutboundFrames, DefaultMaxOutboundFrames),
		control:      pick(o.MaxOutboundControl, DefaultMaxOutboundControl),
		empty:        uint64(pickPtr(o.MaxEmptyFrames, DefaultMaxEmptyFrames)),
		priority:     uint64(pickPtr(o.MaxPriorityPerStream, DefaultMaxPriorityPerStream)),
		updates:      uint64(pickPtr(o.MaxWindowUpdatesPerData, DefaultMaxWindowUpdatesPerData)),
	}
}

// malformed makes the error of a message that breaks the rules of HTTP: its stream is
// reset, nobody answers it.
func malformed(details, reason string) *codec.ProtocolError {
	return &codec.ProtocolError{Details: details, Reason: reason}
}
