package h2

import "github.com/mecha-mesh/mecha/proxy/stats"

// Stats are the statistics of HTTP/2 connections, http2.* in the scope of a listener's
// connection manager or of a cluster. The caller binds them.
type Stats struct {
	DroppedUnderscores   stats.Counter `stat:"dropped_headers_with_underscores" help:"Header fields dropped because of an underscore in the name"`
	GoawaySent           stats.Counter `stat:"goaway_sent" help:"GOAWAY frames sent"`
	GoawayGracefulSent   stats.Counter `stat:"goaway_graceful_sent" help:"First GOAWAY frames of a drain in two steps"`
	HeaderOverflow       stats.Counter `stat:"header_overflow" help:"Streams or connections reset because of too large or too many header fields"`
	HeadersNoStream      stats.Counter `stat:"headers_cb_no_stream" help:"HEADERS frames for streams that are gone"`
	EmptyFlood           stats.Counter `stat:"inbound_empty_frames_flood" help:"Connections closed because of empty frames in a row"`
	PriorityFlood        stats.Counter `stat:"inbound_priority_frames_flood" help:"Connections closed because of too many PRIORITY frames"`
	WindowUpdateFlood    stats.Counter `stat:"inbound_window_update_frames_flood" help:"Connections closed because of too many WINDOW_UPDATE frames"`
	KeepaliveTimeout     stats.Counter `stat:"keepalive_timeout" help:"Connections closed because a PING was not answered"`
	MetadataEmptyFrames  stats.Counter `stat:"metadata_empty_frames" help:"Empty METADATA frames"`
	OutboundControlFlood stats.Counter `stat:"outbound_control_flood" help:"Connections closed because of too many control frames waiting to be written"`
	OutboundFlood        stats.Counter `stat:"outbound_flood" help:"Connections closed because of too many frames waiting to be written"`
	RejectedUnderscores  stats.Counter `stat:"requests_rejected_with_underscores_in_headers" help:"Requests rejected because of an underscore in the name of a header field"`
	MessagingError       stats.Counter `stat:"rx_messaging_error" help:"Messages received that break the rules of HTTP"`
	RxReset              stats.Counter `stat:"rx_reset" help:"RST_STREAM frames received"`
	StreamRefused        stats.Counter `stat:"stream_refused_errors" help:"Streams that the peer refused"`
	Trailers             stats.Counter `stat:"trailers" help:"Trailers received"`
	TxFlushTimeout       stats.Counter `stat:"tx_flush_timeout" help:"Streams whose peer opened no window for too long"`
	TxReset              stats.Counter `stat:"tx_reset" help:"RST_STREAM frames sent"`
	StreamsActive        stats.Gauge   `stat:"streams_active" help:"Streams that are open"`
	PendingSendBytes     stats.Gauge   `stat:"pending_send_bytes" help:"Body bytes that wait for the peer's window"`
	DeferredStreamClose  stats.Gauge   `stat:"deferred_stream_close" help:"Streams that are closed on the wire while something of them is unread"`
	OutboundFrames       stats.Gauge   `stat:"outbound_frames_active" help:"Frames that wait to be written"`
	OutboundControl      stats.Gauge   `stat:"outbound_control_frames_active" help:"Control frames that wait to be written"`
}
