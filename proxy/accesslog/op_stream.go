package accesslog

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/meta"
)

// defineStream knows the operators about what became of a stream or session.
func defineStream(name string) (definition, bool) {
	switch name {
	case "PROTOCOL":
		return ofStream(func(s *meta.Stream) string { return protocol(s.Protocol) }), true
	case "UPSTREAM_PROTOCOL":
		return ofStream(func(s *meta.Stream) string { return protocol(s.UpstreamProtocol) }), true
	case "RESPONSE_CODE_DETAILS":
		return definition{args: mayArgs, build: details}, true
	case "RESPONSE_FLAGS":
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) { return appendFlags(dst, e, false), true }}, true
	case "RESPONSE_FLAGS_LONG":
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) { return appendFlags(dst, e, true), true }}, true
	case "ROUTE_NAME":
		return ofStream(func(s *meta.Stream) string { return s.RouteName }), true
	case "UPSTREAM_CLUSTER":
		return ofStream(func(s *meta.Stream) string {
			if s.ClusterStatName != "" {
				return s.ClusterStatName
			}
			return s.Cluster
		}), true
	case "UPSTREAM_CLUSTER_RAW":
		return ofStream(func(s *meta.Stream) string { return s.Cluster }), true
	case "UPSTREAM_TRANSPORT_FAILURE_REASON":
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
			if e.Stream == nil {
				return dst, false
			}
			return appendWords(dst, e.Stream.UpstreamFailure), e.Stream.UpstreamFailure != ""
		}}, true
	case "DOWNSTREAM_TRANSPORT_FAILURE_REASON":
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
			reason := e.conn().TransportFailure
			return appendWords(dst, reason), reason != ""
		}}, true
	case "CONNECTION_TERMINATION_DETAILS":
		return ofConn(func(c *meta.Conn) string { return c.Termination }), true
	case "FILTER_CHAIN_NAME":
		return ofConn(func(c *meta.Conn) string { return c.FilterChain }), true
	case "ACCESS_LOG_TYPE":
		return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) { return append(dst, e.Type.String()...), true }}, true
	case "CUSTOM_FLAGS":
		return definition{plain: constant("", true)}, true
	case "CONNECTION_ID":
		return definition{kind: number, plain: func(dst []byte, e *Entry) ([]byte, bool) {
			if e.Conn == nil {
				return dst, false
			}
			return strconv.AppendUint(dst, e.Conn.ID, 10), true
		}}, true
	case "VIRTUAL_CLUSTER_NAME":
		return ofStream(func(s *meta.Stream) string { return s.VirtualCluster }), true
	// What nothing here finds out: how a connection ended.
	case "UPSTREAM_LOCAL_CLOSE_REASON", "DOWNSTREAM_LOCAL_CLOSE_REASON",
		"UPSTREAM_DETECTED_CLOSE_TYPE", "DOWNSTREAM_DETECTED_CLOSE_TYPE":
		return definition{}, true
	}
	if get := streamNumber(name); get != nil {
		return definition{kind: number, plain: func(dst []byte, e *Entry) ([]byte, bool) {
			var n int64
			if e.Stream != nil {
				n = get(e.Stream)
			}
			return strconv.AppendInt(dst, n, 10), true
		}}, true
	}
	return definition{}, false
}

// streamNumber returns the accessor of an operator that always has a number.
func streamNumber(name string) func(*meta.Stream) int64 {
	switch name {
	case "RESPONSE_CODE":
		return func(s *meta.Stream) int64 { return int64(s.Code) }
	case "UPSTREAM_REQUEST_ATTEMPT_COUNT":
		return func(s *meta.Stream) int64 { return int64(s.Attempts) }
	case "UPSTREAM_CONNECTION_ID":
		return func(s *meta.Stream) int64 { return int64(s.UpstreamConn) }
	case "BYTES_RECEIVED":
		return func(s *meta.Stream) int64 { return s.BytesReceived }
	case "BYTES_SENT":
		return func(s *meta.Stream) int64 { return s.BytesSent }
	// Bytes on the wire: the framing of chunked bodies is not counted.
	case "DOWNSTREAM_WIRE_BYTES_RECEIVED":
		return func(s *meta.Stream) int64 { return s.HeaderReceived + s.BytesReceived }
	case "DOWNSTREAM_WIRE_BYTES_SENT":
		return func(s *meta.Stream) int64 { return s.HeaderSent + s.BytesSent }
	case "DOWNSTREAM_HEADER_BYTES_RECEIVED", "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED":
		return func(s *meta.Stream) int64 { return s.HeaderReceived }
	case "DOWNSTREAM_HEADER_BYTES_SENT", "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT":
		return func(s *meta.Stream) int64 { return s.HeaderSent }
	case "UPSTREAM_WIRE_BYTES_RECEIVED":
		return func(s *meta.Stream) int64 { return s.UpstreamReceived }
	case "UPSTREAM_WIRE_BYTES_SENT":
		return func(s *meta.Stream) int64 { return s.UpstreamSent }
	// Not measured: headers to and from upstream, and what QUIC sends again.
	case "UPSTREAM_HEADER_BYTES_RECEIVED", "UPSTREAM_HEADER_BYTES_SENT",
		"UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT",
		"BYTES_RETRANSMITTED", "PACKETS_RETRANSMITTED":
		return func(*meta.Stream) int64 { return 0 }
	}
	return nil
}

// ofStream makes an operator of a text that is missing when empty.
func ofStream(get func(*meta.Stream) string) definition {
	return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
		if e.Stream == nil {
			return dst, false
		}
		v := get(e.Stream)
		return append(dst, v...), v != ""
	}}
}

func ofConn(get func(*meta.Conn) string) definition {
	return definition{plain: func(dst []byte, e *Entry) ([]byte, bool) {
		if e.Conn == nil {
			return dst, false
		}
		v := get(e.Conn)
		return append(dst, v...), v != ""
	}}
}

func protocol(p meta.Protocol) string {
	if p == meta.Unknown {
		return ""
	}
	return p.String()
}

// details prints white space as "_" unless it is allowed.
func details(args string) (appendFunc, error) {
	allow := args == "ALLOW_WHITESPACES"
	if args != "" && !allow {
		return nil, fmt.Errorf("%q is not ALLOW_WHITESPACES", args)
	}
	return func(dst []byte, e *Entry) ([]byte, bool) {
		if e.Stream != nil && e.Stream.Cleared {
			return dst, true
		}
		if e.Stream == nil || e.Stream.Details == "" {
			return dst, false
		}
		if allow {
			return append(dst, e.Stream.Details...), true
		}
		return appendWords(dst, e.Stream.Details), true
	}, nil
}

// appendWords appends a text with "_" for white space.
func appendWords(dst []byte, text string) []byte {
	start := len(dst)
	dst = append(dst, text...)
	for i := start; i < len(dst); i++ {
		if strings.IndexByte(" \t\n\v\f\r", dst[i]) >= 0 {
			dst[i] = '_'
		}
	}
	return dst
}

func appendFlags(dst []byte, e *Entry, long bool) []byte {
	if e.Stream == nil || e.Stream.Flags == 0 {
		return append(dst, '-')
	}
	start := len(dst)
	for rest := e.Stream.Flags; rest != 0; rest &= rest - 1 {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		name := &flagNames[bits.TrailingZeros32(uint32(rest))]
		if long {
			dst = append(dst, name.long...)
		} else {
			dst = append(dst, name.short...)
		}
	}
	return dst
}

// flagNames holds the names of each single flag, because making them allocates.
var flagNames = func() (names [32]struct{ short, long string }) {
	for i := range names {
		names[i].short, names[i].long = meta.Flag(1<<i).String(), meta.Flag(1<<i).Long()
	}
	return names
}()
