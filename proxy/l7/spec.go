package l7

import (
	"net/netip"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/codec/h2"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/trace"
)

// Spec is the configuration of a connection manager: plain, validated, immutable
// (envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager).
type Spec struct {
	StatPrefix string

	// Routes is the inline table; RDS the name of one that arrives over RDS; Scopes makes
	// the source of tables that depend on the request. One of them is set.
	Routes  filter.RouteTable
	RDS     string
	Scopes  func(env filter.Env) (filter.RouteSource, error)
	Filters []Filter

	ServerName   string // "envoy" unless set
	ServerHeader ServerHeader
	Via          string
	AddUserAgent bool // add_user_agent

	UseRemoteAddress      bool
	TrustedHops           uint32 // xff_num_trusted_hops
	SkipXFFAppend         bool
	AppendXForwardedPort  bool
	KeepExternalRequestID bool // preserve_external_request_id
	NoRequestID           bool // generate_request_id is false
	RequestIDInResponse   bool // always_set_request_id_in_response
	SuppressEnvoyHeaders  bool
	Proxy100Continue      bool
	ClientCert            ClientCertRule
	// ChooseClientCert returns the rule for a request (forward_client_cert_matcher). nil is
	// none but ClientCert, which is also that of requests for which it returns nil.
	ChooseClientCert func(*filter.Stream) *ClientCertRule
	IsInternal       func(addr netip.Addr) bool // internal_address_config; nil: nothing is internal

	// Early changes requests before anything else looks at them
	// (early_header_mutation_extensions).
	Early []func(s *filter.Stream)
	// Detect finds the client's address, without UseRemoteAddress; nil takes what
	// x-forwarded-for says (original_ip_detection_extensions). The first that knows decides.
	Detect []func(s *filter.Stream) Detection
	// Scheme replaces the scheme of requests; "" leaves it (scheme_to_overwrite).
	Scheme string
	// SchemeOfHost is match_upstream of the same message.
	SchemeOfHost bool
	// LocalReply is local_reply_config, nil is none.
	LocalReply *LocalReply

	// ProxyStatus is proxy_status_config, nil is none.
	ProxyStatus *ProxyStatus
	// KeepInvalid lets a connection go on after a request that was answered with 400, if
	// it is clear where the next one begins (stream_error_on_invalid_http_message).
	KeepInvalid bool

	NormalizePath  bool
	MergeSlashes   bool
	EscapedSlashes EscapedSlashes
	StripPort      StripPort
	StripDot       bool // strip_trailing_host_dot
	// ForwardProto says which x-forwarded-proto destination ports stand for where the
	// connection's destination was restored (forward_proto_config).
	ForwardProto map[uint16]string

	StreamIdleTimeout time.Duration // 5 min unless set, 0 is never
	// StreamFlushTimeout is how long a client of HTTP/2 may keep a response waiting for
	// room, if StreamFlushSet; otherwise it is how long the stream may be idle. 0 is for ever.
	StreamFlushTimeout time.Duration
	StreamFlushSet     bool

	RequestTimeout        time.Duration // 0 is never
	RequestHeadersTimeout time.Duration // 0 is never
	IdleTimeout           time.Duration // of the connection, 1 h unless set, 0 is never
	MaxConnDuration       time.Duration // 0 is no limit
	MaxConnJitter         float64       // up to that share of it is added, by chance
	SafeConnDuration      bool          // an old connection ends with a response only (http1_safe_max_connection_duration)
	MaxStreamDuration     time.Duration
	MaxRequests           uint32        // max_requests_per_connection, 0 is no limit
	DrainTimeout          time.Duration // 5 s unless set
	DrainJitter           float64       // up to that share of it is added, by chance
	DelayedClose          time.Duration // 1 s unless set

	MaxHeadersKB    uint32 // 60 unless set
	MaxHeadersCount uint32 // 100 unless set
	Underscores     Underscores
	Upgrades        []Upgrade
	Codec           Codec
	HTTP1           HTTP1
	HTTP2           h2.Options // without what other fields say
	Logs            []accesslog.Spec
	LogTimes        LogTimes
	// Tracing is nil if there is none. With it the two sides tell each other what routes call
	// their operations.
	Tracing   *trace.Config
	RequestID trace.RequestID // request_id_extension
}

// Filter is one entry of the HTTP filter chain.
type Filter struct {
	Name     string
	Factory  filter.HTTPFactory
	Disabled bool // unless a route switches it on
	// Discovered says that the configuration comes over ECDS; Factory is its default, or nil.
	Discovered bool
}

// Detection is what an extension says of the client's address.
type Detection struct {
	Addr    netip.Addr // the zero value does not know
	Trusted bool       // it may make the request internal
	Append  bool       // x-forwarded-for gets the peer
	// Reject answers the request with that code instead; 0 does not.
	Reject int
}

// ServerHeader is server_header_transformation.
type ServerHeader uint8

// The transformations.
const (
	Overwrite ServerHeader = iota
	AppendIfAbsent
	PassThrough
)

// EscapedSlashes is path_with_escaped_slashes_action.
type EscapedSlashes uint8

// The actions.
const (
	KeepUnchanged EscapedSlashes = iota
	RejectRequest
	UnescapeAndRedirect
	UnescapeAndForward
)

// Underscores is headers_with_underscores_action, what to do with a request field that
// has "_" in its name.
type Underscores uint8

// The actions.
const (
	AllowUnderscores Underscores = iota
	RejectUnderscores
	DropUnderscores
)

// StripPort is strip_port_mode.
type StripPort uint8

// The modes.
const (
	KeepPort StripPort = iota
	StripMatchingPort
	StripAnyPort
)

// Upgrade allows an upgrade type, such as "websocket" or "CONNECT".
type Upgrade struct {
	Type    string // lower case
	Enabled bool
	// Filters serve the upgrade in place of the connection manager's; nil are those.
	Filters []Filter
}

// HTTP1 is http_protocol_options.
type HTTP1 struct {
	AcceptHTTP10       bool
	DefaultHost        string // default_host_for_http_10
	AllowAbsoluteURL   bool   // true unless set
	EnableTrailers     bool
	AllowChunkedLength bool
	AllowCustomMethods bool
	ProperCase         bool
	PreserveCase       bool // names of requests are sent on as they were written
	ProperOwn          bool // with PreserveCase: other names as with ProperCase
}
