// Package h1 speaks HTTP/1.1 and, where allowed, HTTP/1.0 on both sides of the
// proxy: NewServer takes over a client's connection, NewClient one to an upstream.
//
// The wire format is in pure functions over byte slices (ParseRequestLine,
// ParseStatusLine, ParseField, the chunk decoder); around them a receiving and a
// sending half per connection move views of slabs, and the connections put the
// two together. What Envoy refuses is refused with Envoy's status and details;
// where RFC 9112 leaves two readings of where a message ends, the message is
// refused and the connection is closed.
//
// Policy is not here: which upgrades are allowed, timeouts of streams, date and
// server fields, the bodies of error replies are the engine's.
package h1

import (
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
)

// The defaults of Options, which are Envoy's.
const (
	DefaultMaxHeadersKB    = 60
	DefaultMaxHeadersCount = 100
)

// Options is what both sides of the proxy may choose. The zero value is Envoy's default.
type Options struct {
	MaxHeadersKB       int  // a head or trailer section beyond it is refused with 431; 0: 60 (max_request_headers_kb)
	MaxHeadersCount    int  // fields in one; 0: 100 (common_http_protocol_options.max_headers_count)
	AllowChunkedLength bool // drop Content-Length beside "chunked" instead of refusing (http_protocol_options.allow_chunked_length)
	EnableTrailers     bool // pass trailers on; otherwise they are read and dropped (http_protocol_options.enable_trailers)
	ProperCase         bool // write Header-Names-Like-This (header_key_format.proper_case_words)
	// PreserveCase lets what is read be written with the same letters elsewhere
	// (header_key_format.stateful_formatter with preserve_case).
	PreserveCase bool
	ReasonPhrase bool // with PreserveCase: of responses that are read (forward_reason_phrase)
	ProperOwn    bool // with PreserveCase: names that were not read are as with ProperCase (formatter_type_on_envoy_headers)
}

func (o *Options) headLimit() int {
	if o.MaxHeadersKB > 0 {
		return o.MaxHeadersKB << 10
	}
	return DefaultMaxHeadersKB << 10
}

func (o *Options) countLimit() int {
	if o.MaxHeadersCount > 0 {
		return o.MaxHeadersCount
	}
	return DefaultMaxHeadersCount
}

// ServerOptions configures the server side. The zero value is Envoy's default.
type ServerOptions struct {
	Options
	AcceptHTTP10         bool          // otherwise a 1.0 request is refused with 426 (accept_http_10)
	DefaultHostForHTTP10 string        // ":authority" of a 1.0 request without Host (default_host_for_http_10)
	RefuseAbsoluteURL    bool          // take "http://host/path" for a path (allow_absolute_url: false)
	AllowCustomMethods   bool          // methods beyond the registered ones (allow_custom_methods)
	Underscores          Underscores   // fields with "_" in the name (headers_with_underscores_action)
	Scheme               string        // ":scheme" where the request line has none; "": the field is left out
	IdleTimeout          time.Duration // for Accept to see the first byte of a request; 0: none (idle_timeout)
	HeadersTimeout       time.Duration // from the first byte to the end of the head; 0: none (request_headers_timeout)
	Stats                *Stats        // nil counts nothing
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
}

// The response_code_details of refused messages, as Envoy spells them.
const (
	detailsCodec          = "http1.codec_error"
	detailsTooManyHeaders = "http1.too_many_headers"
	detailsHeadersTooBig  = "http1.headers_too_large"
	detailsInvalidChars   = "http1.invalid_characters"
	detailsConnection     = "http1.connection_header_rejected"
	detailsURL            = "http1.invalid_url"
	detailsScheme         = "http1.invalid_scheme"
	detailsTE             = "http1.invalid_transfer_encoding"
	detailsBody           = "http1.body_disallowed"
	detailsTENotAllowed   = "http1.transfer_encoding_not_allowed"
	detailsCLNotAllowed   = "http1.content_length_not_allowed"
	detailsCLAndTE        = "http1.content_length_and_chunked_not_allowed"
	detailsFragment       = "path_normalization_failed"
	detailsVersion        = "low_version"
	detailsUnderscore     = "http1.unexpected_underscore"
	detailsNoHost         = "missing_host_header"
	detailsAuthority      = "http.invalid_authority"
)

// refuse makes the error for a message that is answered with code, then closed.
func refuse(code int, details, reason string) error {
	return &codec.ProtocolError{Code: code, Details: details, Reason: reason}
}

// malformed is refuse for what no more specific details exist.
func malformed(reason string) error { return refuse(400, detailsCodec, reason) }

// malformedBy is malformed for the character c, with the details that Envoy has for
// control characters.
func malformedBy(c byte, reason string) error {
	if c < ' ' && c != '\t' && c != '\r' && c != '\n' || c == 0x7f {
		return refuse(400, detailsInvalidChars, reason)
	}
	return malformed(reason)
}
