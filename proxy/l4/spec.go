// Package l4 accepts connections and runs them: bound and virtual listeners,
// listener filters, the choice of a filter chain, network filters, the relay of
// bytes, draining and live changes.
//
// What the bytes mean is not here: see package l7 and the filters.
package l4

import (
	"io/fs"
	"net/netip"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/match/tree"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/transport"
)

// Spec is a listener's configuration: plain, validated, immutable
// (envoy.config.listener.v3.Listener).
type Spec struct {
	Name      string
	Addresses []Address // address, then additional_addresses; at least one
	// StatPrefix is stat_prefix, "" for the first address.
	StatPrefix string
	// Unbound is bind_to_port: false: connections come only from listeners with
	// UseOriginalDst.
	Unbound        bool
	UseOriginalDst bool
	// Internal is internal_listener: connections come only from clusters of this process,
	// and its only address is its name (meta.InternalAddr).
	Internal    bool
	Transparent bool
	Freebind    bool
	// ReusePort is enable_reuse_port: other processes may bind the same addresses, and
	// Sockets sockets are bound to each; otherwise there is one. More than one pays only
	// where a single accept loop is the limit.
	ReusePort bool
	Sockets   int
	Backlog   int // tcp_backlog_size, 0 is the kernel's largest
	Direction Direction

	Filters []ListenerFilter
	// UDP makes it a UDP listener, which has no chains and no listener filters but its own.
	UDP *UDP
	// FilterTimeout is listener_filters_timeout: 15 s unless set; 0 after parsing is none.
	FilterTimeout     time.Duration
	ContinueOnTimeout bool // continue_on_listener_filters_timeout

	Chains  []*Chain
	Default *Chain // default_filter_chain, may be nil
	// Matcher is filter_chain_matcher: it leads to the name of a chain, in place of the
	// matches of the chains. nil is none.
	Matcher *tree.Tree[*filter.Conn, string]

	// StuckTimeout is how long what a connection sends may wait for a client that does not
	// take it (per_connection_buffer_high_watermark_timeout), 0 is for ever.
	StuckTimeout time.Duration
	BufferLimit  int // per_connection_buffer_limit_bytes, 1 MiB unless set
	// MaxConnections limits this listener, unless the runtime key
	// envoy.resource_limits.listener.NAME.connection_limit does; 0 is no limit.
	MaxConnections int64
	// FastOpen is tcp_fast_open_queue_length, nil is not set.
	FastOpen *int
	// Multipath is enable_mptcp.
	Multipath bool
	// DrainModifyOnly is drain_type MODIFY_ONLY: the listener does not drain because the
	// process is said to be unhealthy.
	DrainModifyOnly bool
	// Metadata reads filter_metadata, for access logs; nil if there is none.
	Metadata func() meta.Fields
	// IgnoreGlobalLimit is ignore_global_conn_limit.
	IgnoreGlobalLimit bool
	// Logs are written when a connection has ended, those that matched no chain included.
	Logs []accesslog.Spec
	Hash uint64 // of the serialised resource: equal means unchanged
}

// Address is where a listener listens.
type Address struct {
	Addr      meta.Addr
	DualStack bool        // ipv4_compat
	Mode      fs.FileMode // of a unix socket, 0 leaves the umask's
	KeepAlive netio.KeepAlive
	Options   SocketOptions
}

// SocketOptions is socket_options, by when they are set: STATE_PREBIND, or STATE_BOUND
// and STATE_LISTENING, between which there is no difference here.
type SocketOptions struct{ BeforeBind, Listening []netio.SocketOption }

// Direction is traffic_direction.
type Direction uint8

// The directions.
const (
	Unspecified Direction = iota
	Inbound
	Outbound
)

// String returns the name in Envoy's enum.
func (d Direction) String() string { return [...]string{"UNSPECIFIED", "INBOUND", "OUTBOUND"}[d] }

// ListenerFilter is one listener filter of a listener.
type ListenerFilter struct {
	Name    string
	Factory filter.ListenerFactory
	// Discovered says that the configuration comes over ECDS; Factory is its default, or nil.
	Discovered bool
	// Disabled is filter_disabled; nil is never.
	Disabled *Predicate
}

// Predicate is a ListenerFilterChainMatchPredicate: exactly one of its fields is set.
type Predicate struct {
	Any bool
	Not *Predicate
	And []Predicate
	Or  []Predicate
	// PortFrom and PortTo are destination_port_range, the end excluded.
	PortFrom, PortTo int
}

// Match tells whether p holds for a connection.
func (p *Predicate) Match(m *meta.Conn) bool {
	switch {
	case p == nil:
		return false
	case p.Any:
		return true
	case p.Not != nil:
		return !p.Not.Match(m)
	case p.And != nil:
		for i := range p.And {
			if !p.And[i].Match(m) {
				return false
			}
		}
		return true
	case p.Or != nil:
		for i := range p.Or {
			if p.Or[i].Match(m) {
				return true
			}
		}
		return false
	}
	port := int(m.Local.Port())
	return m.Local.AddrPort.IsValid() && p.PortFrom <= port && port < p.PortTo
}

// Chain is one filter chain (FilterChain).
type Chain struct {
	Name    string
	Match   Match
	Filters []NetworkFilter
	// Socket is the transport socket, nil for plain text.
	Socket transport.Socket
	// ConnectTimeout is transport_socket_connect_timeout, 0 is none.
	ConnectTimeout time.Duration
	// Hash is of the serialised chain and of what of its listener it depends on: a chain
	// with the same hash goes on unchanged when its listener changes.
	Hash uint64
	// Metadata reads filter_metadata, for access logs; nil if there is none.
	Metadata func() meta.Fields
}

// NetworkFilter is one network filter of a chain, the last one terminal.
type NetworkFilter struct {
	Name    string
	Factory filter.NetworkFactory
	// Discovered says that the configuration comes over ECDS; Factory is its default, or nil.
	Discovered bool
}

// Match is what a chain asks of a connection (FilterChainMatch); an empty field asks
// nothing.
type Match struct {
	DestinationPort      uint16
	PrefixRanges         []netip.Prefix
	ServerNames          []string // exact, or "*.suffix"
	TransportProtocol    string
	ApplicationProtocols []string
	DirectSourceRanges   []netip.Prefix
	SourceType           SourceType
	SourceRanges         []netip.Prefix
	SourcePorts          []uint16
}

// SourceType is FilterChainMatch.source_type.
type SourceType uint8

// The source types.
const (
	AnySource SourceType = iota
	SameIPOrLoopback
	External
)
