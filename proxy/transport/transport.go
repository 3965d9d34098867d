// Package transport turns a raw connection into the one that carries a protocol:
// as it is, or behind TLS.
package transport

import (
	"context"

	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Socket takes over a raw connection and returns the one to use. On an error it has
// closed the raw one.
type Socket interface {
	Server(ctx context.Context, raw *netio.Conn, m *meta.Conn) (*netio.Conn, error)
	Client(ctx context.Context, raw *netio.Conn) (*netio.Conn, error)
	// Key tells apart sockets that may not share a connection pool.
	Key() string
}

// Raw returns its argument: plain text.
type Raw struct{}

// Server implements Socket.
func (Raw) Server(_ context.Context, raw *netio.Conn, _ *meta.Conn) (*netio.Conn, error) {
	return raw, nil
}

// Client implements Socket.
func (Raw) Client(_ context.Context, raw *netio.Conn) (*netio.Conn, error) { return raw, nil }

// Key implements Socket.
func (Raw) Key() string { return "raw" }
