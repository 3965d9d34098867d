package filter

import (
	"context"
	"time"

	"github.com/mecha-mesh/mecha/proxy/accesslog"
	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Listener looks at the first bytes of a connection, before a filter chain is
// chosen, and records in the connection's meta.Conn what it learns. One value
// serves all connections of a listener.
type Listener interface {
	// Inspect returns nil to go on. Any error closes the connection and is counted.
	Inspect(p Peeker) error
}

// Peeker lends a listener filter what has arrived.
type Peeker interface {
	// Peek waits until there are n bytes and returns all that have arrived, at least
	// n, lent until the next call. Fewer than n come with io.EOF, or with
	// os.ErrDeadlineExceeded when the listener's inspection time is over.
	Peek(n int) ([]byte, error)
	// Discard drops the first n bytes: only for protocols that own a prefix.
	Discard(n int) error
	// Meta is the connection's; the filter may change it.
	Meta() *meta.Conn
	// Conn is the connection, for its filter state and dynamic metadata. It has no engine
	// that could be used yet.
	Conn() *Conn
	// Socket is the connection, for what the kernel knows of it. It is not to be read.
	Socket() *netio.Conn
}

// Network is a filter on the bytes of a connection: one value serves one connection
// at a time. It implements those of the hooks below that it needs.
//
// Hooks of one connection never run at the same time. An error closes the connection.
type Network interface {
	// Reset clears what belonged to one connection.
	Reset()
}

// The hooks of a network filter. Buffers are lent for the call.
type (
	// ConnOpener is called once, before any byte.
	ConnOpener interface{ OnConn(c *Conn) error }
	// ConnReader sees bytes from downstream.
	ConnReader interface {
		OnRead(c *Conn, b *buffer.Buf, end bool) error
	}
	// ConnWriter sees bytes to downstream.
	ConnWriter interface {
		OnWrite(c *Conn, b *buffer.Buf, end bool) error
	}
	// ConnCloser is called once, last; why is nil after an orderly end.
	ConnCloser interface{ OnClose(c *Conn, why error) }
)

// ConnTerminal ends a network chain: tcp_proxy, http_connection_manager.
type ConnTerminal interface {
	Network
	// Serve returns when the connection is over, or with Parked.
	Serve(c *Conn) error
}

// Conn is a downstream connection on its way through the network filters.
type Conn struct {
	Meta   *meta.Conn
	Log    meta.Stream // of the connection as a whole, for access logs
	State  State       // filter state: what filters tell each other
	Engine ConnEngine

	Metadata meta.Metadata // dynamic metadata
}

// FilterState returns the object under key in the filter state of the connection, nil if
// there is none.
func (c *Conn) FilterState(key string) any { return c.State.Get(key) }

// LogEntry describes the connection to access logs.
func (c *Conn) LogEntry() *accesslog.Entry {
	return &accesslog.Entry{Conn: c.Meta, Stream: &c.Log, Type: accesslog.TCPConnectionEnd, Lookup: c, Metadata: &c.Metadata}
}

// ConnEngine is what the proxy does for a connection. Package l4 implements it.
type ConnEngine interface {
	// Context ends when the connection is to end at once.
	Context() context.Context
	// Socket is the downstream connection, behind its transport socket. A terminal
	// filter in whose chain no other filter has data hooks (see Plain) reads and
	// writes it itself.
	Socket() *netio.Conn
	// Plain reports that no filter before the terminal one has data hooks.
	Plain() bool
	// Recv appends the next bytes from downstream that have passed all hooks.
	Recv(b *buffer.Buf) (end bool, err error)
	// Send passes bytes through the write hooks to downstream. It consumes b.
	Send(b *buffer.Buf, end bool) error
	// Relay moves bytes both ways between downstream and up until both directions have
	// ended or one has failed. It splices when Plain, if up is a *netio.Conn. A direction
	// that ends is passed on as a half-close. up stays the caller's to close, with a reset
	// if the result says so.
	Relay(up Peer, o RelayOptions) (RelayResult, error)
	// Draining is closed when the listener drains: finish what is under way.
	Draining() <-chan struct{}
	// OnDrain registers f to be called once when the listener drains, from another
	// goroutine; if it drains already, f has been called when OnDrain returns. stop
	// unregisters f.
	OnDrain(f func()) (stop func())
	// Ending reports whether the connection should end with what is being sent: it was
	// told to drain, or the listener drains gradually and chance wants it so, which it does
	// ever more often until the drain time is over. It is to be asked with each response.
	Ending() bool
	// Park gives the goroutine back while the connection idles: when the socket becomes
	// readable or the deadline passes, resume runs on a new goroutine. Serve returns
	// Parked right after it. ok is false where parking is not possible.
	Park(deadline time.Time, resume func(readable bool) error) (ok bool)
}

// Peer is the other side of a relay: a *netio.Conn, or what has the shape of one. One
// goroutine reads while another writes.
type Peer interface {
	// ReadBuf appends what has arrived to b, at least one byte. io.EOF is the orderly end,
	// with which bytes may come, too.
	ReadBuf(b *buffer.Buf) (int, error)
	// WriteBuf writes and consumes b.
	WriteBuf(b *buffer.Buf) error
	// CloseWrite says that no more follows.
	CloseWrite() error
	// Cut makes reads and writes fail, those under way too. Any goroutine may call it.
	Cut()
}

// RelayOptions say when a relay ends before both directions have.
type RelayOptions struct {
	Idle time.Duration // after so much silence; 0 is never
	// Drain ends it once the listener drains, when the next bytes have been moved.
	Drain bool
}

// RelayResult tells what Relay moved.
type RelayResult struct {
	Received, Sent int64 // bytes from and to downstream
	// Who ended it: "" orderly, otherwise downstream or upstream failed or was idle.
	Ended   Source
	Timeout bool
	Reset   bool // one side was reset: the other one is to be, too (downstream is, by the engine)
}

type parked struct{}

func (parked) Error() string { return "filter: connection is parked" }

// Parked is what Serve returns after Park.
var Parked error = parked{}
