// Package transport turns a raw connection into the one that carries a protocol: as it
// is, with a PROXY protocol header in front, or behind TLS.
package transport

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Socket takes over a raw connection and returns the one to use. On an error it has
// closed the raw one.
type Socket interface {
	// Server completes m by what it finds out, and counts in st, which is nil nowhere.
	Server(ctx context.Context, raw *netio.Conn, m *meta.Conn, st *TLSStats) (*netio.Conn, error)
	// Client is lent what is known of the peer for the call, and sets Peer.TLS.
	Client(ctx context.Context, raw *netio.Conn, to *Peer) (*netio.Conn, error)
	// Key tells apart sockets that may not share a connection pool.
	Key() string
}

// Bound is a Socket whose connections depend on whom they are made for, so that they
// may be shared only where the keys are equal.
type Bound interface {
	Socket
	// PoolKey returns what of a peer goes into a connection, "" for nothing. It is asked for
	// each request: the peer comes as a value, to stay off the heap.
	PoolKey(to Peer) string
}

// Peer is whom a connection is made to, and for whom. Everything in it is optional and
// nothing in it is changed any more, except by the socket.
type Peer struct {
	Hostname string // of the host, for a server name that is made from it
	HostTLVs []TLV  // of the host, for PROXY protocol
	// Source and Dest are the addresses of the downstream connection, as listener filters
	// may have corrected them.
	Source, Dest meta.Addr
	TLVs         []TLV // that came with it in PROXY protocol
	Options      Options
	ALPN         []string  // what will be spoken, to be offered where configuration names nothing (RFC 7301)
	Stats        *TLSStats // of the cluster; nil counts nowhere
	TLS          *meta.TLS // what a handshake has found out
	// From is where the connection comes from, nil for anywhere; who dials obeys it.
	From *meta.Source
	// State is what of downstream's filter state an internal listener is given.
	State []meta.Object
}

// Internal is the transport socket internal_upstream: connections to internal listeners
// carry metadata of the host and of the cluster. Whoever dials passes it.
type Internal struct {
	Socket
	Passthrough []Passthrough
}

// Key implements Socket.
func (s *Internal) Key() string {
	return "internal " + fmt.Sprint(s.Passthrough) + " " + s.Socket.Key()
}

// PoolKey implements Bound, for the socket inside.
func (s *Internal) PoolKey(to Peer) string {
	if b, ok := s.Socket.(Bound); ok {
		return b.PoolKey(to)
	}
	return ""
}

// Passthrough is one namespace of metadata that is passed on.
type Passthrough struct {
	Namespace string
	Cluster   bool // of the cluster, otherwise of the host
}

// Options are what filters ask of the connection (filter state), in place of what
// configuration says.
type Options struct {
	ServerName string   // envoy.network.upstream_server_name
	ALPN       []string // envoy.network.application_protocols
	SANs       []string // envoy.network.upstream_subject_alt_names
	TLVs       []TLV    // in place of the client's; nil leaves those (tcp_proxy's proxy_protocol_tlvs)
}

// Keys of filter state by which filters say what they ask of a connection.
const (
	ServerNameKey = "envoy.network.upstream_server_name"
	ALPNKey       = "envoy.network.application_protocols"
	SANsKey       = "envoy.network.upstream_subject_alt_names"
)

// FromState takes what filter state says. Objects are texts, lists with commas between
// the items; what is none of that says nothing.
func (o *Options) FromState(of interface{ FilterState(key string) any }) {
	if text, ok := textOf(of.FilterState(ServerNameKey)); ok {
		o.ServerName = text
	}
	if text, ok := textOf(of.FilterState(ALPNKey)); ok {
		o.ALPN = splitList(text)
	}
	if text, ok := textOf(of.FilterState(SANsKey)); ok {
		o.SANs = splitList(text)
	}
}

func textOf(object any) (string, bool) {
	switch o := object.(type) {
	case string:
		return o, o != ""
	case fmt.Stringer:
		text := o.String()
		return text, text != ""
	}
	return "", false
}

func splitList(text string) (out []string) {
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			out = append(out, one)
		}
	}
	return out
}

// TLV is one extension of a PROXY protocol header of version 2.
type TLV struct {
	Type  byte
	Value []byte
}

// Broken makes no connection: nobody knows any more how it would have to be protected.
type Broken struct{ Err error }

// Server implements Socket.
func (b Broken) Server(_ context.Context, raw *netio.Conn, _ *meta.Conn, _ *TLSStats) (*netio.Conn, error) {
	_ = raw.Close() // refused
	return nil, b.Err
}

// Client implements Socket.
func (b Broken) Client(_ context.Context, raw *netio.Conn, _ *Peer) (*netio.Conn, error) {
	_ = raw.Close() // refused
	return nil, b.Err
}

// Key implements Socket.
func (b Broken) Key() string { return "broken" }

// ErrGone is a peer that ended the connection in the middle of a handshake.
var ErrGone = errors.New("the peer has closed the connection")

// Raw returns its argument: plain text.
type Raw struct{}

// Server implements Socket.
func (Raw) Server(_ context.Context, raw *netio.Conn, _ *meta.Conn, _ *TLSStats) (*netio.Conn, error) {
	return raw, nil
}

// Client implements Socket.
func (Raw) Client(_ context.Context, raw *netio.Conn, _ *Peer) (*netio.Conn, error) { return raw, nil }

// Key implements Socket.
func (Raw) Key() string { return "raw" }
