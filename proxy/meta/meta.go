// Package meta is plain data about a connection and about a stream: what listener
// filters found out, what the access log prints, what policy decides on. It is
// data only; nothing here acts.
package meta

import (
	"net"
	"net/netip"
	"strings"
	"time"
)

// Addr is a socket address: an IP address and port, or the path of a unix socket
// (abstract ones begin with '@'). The zero value is no address.
type Addr struct {
	netip.AddrPort
	Path string
}

// IsUnix reports whether a is a unix socket.
func (a Addr) IsUnix() bool { return a.Path != "" && !a.IsInternal() }

// internal is what the paths of internal listeners begin with, as Envoy prints them.
const internal = "envoy://"

// InternalAddr is the address of an internal listener of this process, with the
// endpoint_id by which hosts there are told apart, "" for none.
func InternalAddr(listener, endpoint string) Addr {
	return Addr{Path: internal + listener + "/" + endpoint}
}

// IsInternal reports whether a is an internal listener of this process.
func (a Addr) IsInternal() bool { return strings.HasPrefix(a.Path, internal) }

// Internal returns the name of an internal listener, "" for any other address.
func (a Addr) Internal() (listener string) {
	if !a.IsInternal() {
		return ""
	}
	rest := a.Path[len(internal):]
	return rest[:max(0, strings.LastIndexByte(rest, '/'))]
}

// Known reports whether a is an address at all.
func (a Addr) Known() bool { return a.Path != "" || a.AddrPort.IsValid() }

// String returns "1.2.3.4:80", "[::1]:80" or the path, "" for no address.
func (a Addr) String() string {
	switch {
	case a.Path != "":
		return a.Path
	case a.AddrPort.IsValid():
		return a.AddrPort.String()
	}
	return ""
}

// AppendTo appends what String returns.
func (a Addr) AppendTo(dst []byte) []byte {
	switch {
	case a.Path != "":
		return append(dst, a.Path...)
	case a.AddrPort.IsValid():
		return a.AddrPort.AppendTo(dst)
	}
	return dst
}

// AddrOf converts an address of package net. IPv4 in IPv6 becomes IPv4.
func AddrOf(a net.Addr) Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		ap := a.AddrPort()
		return Addr{AddrPort: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
	case *net.UDPAddr:
		ap := a.AddrPort()
		return Addr{AddrPort: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
	case *net.UnixAddr:
		return Addr{Path: a.Name}
	}
	return Addr{}
}

// Conn is what is known about a downstream connection. The listener makes it, the
// listener filters complete it, and from then on it is only read, by all streams
// of the connection.
type Conn struct {
	ID     uint64 // unique in the process
	Start  time.Time
	Local  Addr // where it was sent to: the original destination once restored
	Remote Addr // the client, as PROXY protocol or x-forwarded-for may say
	Direct Addr // the peer of the socket

	OriginalDst       Addr     // destination before redirection
	LocalRestored     bool     // Local was replaced by OriginalDst
	TransportProtocol string   // "tls", "raw_buffer", "" before detection (FilterChainMatch.transport_protocol)
	ServerName        string   // SNI, lower case
	ALPN              []string // what the client offers, or what http_inspector saw
	PeerPresented     bool     // the client has shown a certificate,
	PeerValidated     bool     // and it was found valid
	TLS               *TLS     // nil for plain text
	Listener          string   // name of the listener
	FilterChain       string   // name of the matched chain
	// Configured is the metadata of both; nil if neither has any.
	Configured *Configured

	Proxied        *ProxyProtocol // what a PROXY protocol header said, nil without one
	UpstreamSource *Source        // where connections to upstream are to come from, nil for anywhere

	TransportFailure string // downstream_transport_failure_reason
	Termination      string // connection_termination_details
}

// Fields is filter_metadata by namespace; numbers are float64, as in JSON. It is read only.
type Fields = map[string]map[string]any

// Configured is the metadata that a listener and its chain were configured with. It is
// read from the resource when somebody asks for it first; nil functions have none.
type Configured struct{ Listener, FilterChain func() Fields }

// Source is where connections to upstream come from (original_src).
type Source struct {
	Addr netip.Addr // also one that the machine does not have
	Mark int        // SO_MARK, 0 is none
}

// FromSameHost reports whether the connection comes from a unix socket, from a loopback
// address, or from the address it is for. Of 127.0.0.0/8 only 127.0.0.1 counts, as in
// Envoy.
func (c *Conn) FromSameHost() bool {
	from := c.Remote.Addr().Unmap()
	return !from.IsValid() && !c.Remote.IsInternal() || from == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || from == netip.IPv6Loopback() || from == c.Local.Addr()
}

// Stream is what is known about one HTTP stream or TCP session while and after it
// ran. It belongs to the stream; hooks may set what concerns them.
type Stream struct {
	Start            time.Time
	Protocol         Protocol
	UpstreamProtocol Protocol
	Code             int    // final response code, 0 before
	Details          string // response_code_details, one of the strings of Envoy
	// Cleared tells that somebody has emptied Details: they are "" rather than not there.
	Cleared         bool
	Flags           Flag
	RouteName       string
	VirtualCluster  string // of the route's virtual host
	Operation       string // what the route or the other side calls it, where requests are traced
	Cluster         string // name
	ClusterStatName string // its alt_stat_name, or its name; "" if there is no such cluster
	Attempts        int    // upstream request attempts
	HealthCheck     bool   // it asks whether the proxy is well

	UpstreamHost     Addr   // chosen host
	UpstreamHostname string // name of the host as configured
	UpstreamLocal    Addr
	HostMetadata     map[string]map[string]any // of the chosen host, lent: read only
	ClusterMetadata  func() Fields             // nil: none
	UpstreamFailure  string                    // upstream_transport_failure_reason
	UpstreamConn     uint64                    // connection ID
	UpstreamTLS      *TLS                      // of that connection; nil for plain text

	BytesReceived, BytesSent       int64 // bodies; for TCP the bytes of the session
	UpstreamReceived, UpstreamSent int64
	HeaderReceived, HeaderSent     int64 // as on the wire, HTTP only

	// Phase times since Start; zero where the phase did not happen.
	RequestEnd      time.Duration // last byte of the request from downstream
	UpstreamStart   time.Duration // first byte of the request to upstream
	UpstreamEnd     time.Duration // last byte of the request to upstream
	ResponseStart   time.Duration // first byte of the response from upstream
	ResponseEnd     time.Duration // last byte of the response from upstream
	DownstreamStart time.Duration // first byte of the response to downstream
	End             time.Duration
	PoolReady       time.Duration // how long the pool took to give a connection
}

// Protocol of one side of a stream.
type Protocol uint8

// The protocols of %PROTOCOL%.
const (
	Unknown Protocol = iota
	HTTP10
	HTTP11
	HTTP2
	HTTP3
)

// String returns the name that %PROTOCOL% prints.
func (p Protocol) String() string {
	return [...]string{"-", "HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"}[p]
}
