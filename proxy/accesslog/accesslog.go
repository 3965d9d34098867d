// Package accesslog writes one line for each HTTP stream and TCP session, as Envoy
// does: command operators ("%REQ(:METHOD)%") are compiled once, filters decide what
// is logged, files are written in batches by a goroutine of their own and never hold
// up a request. The same formats make header values and bodies of local replies.
//
// Conversion from proto is not here. What services are sent in place of lines is in grpclog
// and otlplog, and how it is sent in proxy/telemetry.
package accesslog

import (
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/why"
)

// Entry is what can be said about a stream or session. Everything in it is lent for
// the time of the call. Nil maps and a nil Stream or Conn mean "not there": what
// would be taken from them is missing.
type Entry struct {
	Conn     *meta.Conn
	Stream   *meta.Stream
	Request  *header.Map
	Response *header.Map
	Trailers *header.Map // of the response

	Type           Type
	StreamID       string         // %STREAM_ID%; "" takes x-request-id
	LocalReplyBody string         // %LOCAL_REPLY_BODY%
	HealthCheck    bool           // a health check request (not_health_check_filter)
	Traceable      bool           // sampled by a tracer (traceable_filter)
	Time           time.Time      // when the entry is made; zero asks the clock where it is needed
	Lookup         Lookup         // metadata and filter state; nil has none
	Metadata       *meta.Metadata // dynamic metadata (metadata_filter); nil has none
	Why            *why.Record    // what was decided (%WHY%, %PHASE%); nil: not known
}

// Lookup finds values that filters left: dynamic metadata, filter state.
type Lookup interface {
	// AppendValue appends the value that an operator names, such as
	// "DYNAMIC_METADATA" with the arguments "com.test:key", and reports whether there
	// is one. In JSON formats json is set, and what is appended is JSON.
	AppendValue(dst []byte, operator, arguments string, json bool) ([]byte, bool)
}

func (e *Entry) now() time.Time {
	if e.Time.IsZero() {
		return time.Now()
	}
	return e.Time
}

// Type is why an entry is made (%ACCESS_LOG_TYPE%).
type Type uint8

// The types, in the order of envoy.data.accesslog.v3.AccessLogType.
const (
	NotSet Type = iota
	TCPUpstreamConnected
	TCPPeriodic
	TCPConnectionEnd
	DownstreamStart
	DownstreamPeriodic
	DownstreamEnd
	UpstreamPoolReady
	UpstreamPeriodic
	UpstreamEnd
	DownstreamTunnelSuccessfullyEstablished
	UDPTunnelUpstreamConnected
	UDPPeriodic
	UDPSessionEnd
)

var typeNames = [...]string{
	"NotSet", "TcpUpstreamConnected", "TcpPeriodic", "TcpConnectionEnd", "DownstreamStart", "DownstreamPeriodic",
	"DownstreamEnd", "UpstreamPoolReady", "UpstreamPeriodic", "UpstreamEnd", "DownstreamTunnelSuccessfullyEstablished",
	"UdpTunnelUpstreamConnected", "UdpPeriodic", "UdpSessionEnd",
}

// String returns the name that %ACCESS_LOG_TYPE% prints.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return typeNames[0]
}

// DefaultFormat is what an access log without log_format prints.
const DefaultFormat = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ` +
	`%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ` +
	`%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ` +
	`"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"` + "\n"

// Sink takes finished lines. Write must not block and may be called by many
// goroutines at once; line is lent. *File is one.
type Sink interface{ Write(line []byte) }

// Logger is one access log. It is safe for concurrent use.
type Logger struct {
	filter Filter
	format *Format
	sink   Sink
	remote Recorder // in place of format and sink
}

// NewLogger returns a logger. A nil filter logs everything.
func NewLogger(filter Filter, format *Format, sink Sink) *Logger {
	return &Logger{filter: filter, format: format, sink: sink}
}

// Log writes the entry if the filter lets it pass. It does not allocate.
func (l *Logger) Log(e *Entry) {
	if l.filter != nil && !l.filter.Match(e) {
		return
	}
	if l.remote != nil {
		l.remote.Record(e)
		return
	}
	line := lines.Get().(*[]byte)
	*line = l.format.Append((*line)[:0], e)
	l.sink.Write(*line)
	if cap(*line) <= 64<<10 {
		lines.Put(line)
	}
}

// lines holds scratch memory for lines that are being put together.
var lines = sync.Pool{New: func() any { return new(make([]byte, 0, 1<<10)) }}
