// Package codec says what an HTTP connection and an HTTP stream are, whatever the
// version on the wire. The wire formats are in its subfolders.
package codec

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// Next says what follows the part of a message that was just read.
type Next uint8

// What can follow.
const (
	End      Next = iota // nothing: the message is complete
	Data                 // body bytes, or trailers after them
	Trailers             // trailers
)

// Stream is one HTTP exchange, seen from either side: a server stream reads the
// request and writes the response, a client stream the other way round. Reads
// block until there is something; writes block while the peer takes nothing. One
// goroutine may read while another writes.
//
// Pseudo-headers carry the start line: ":method", ":path", ":authority", ":scheme"
// in requests, ":status" in responses, for HTTP/1 too. Names are lower case.
// Hop-by-hop fields of the connection (Connection and what it nominates,
// Keep-Alive, Proxy-Connection, Transfer-Encoding) are the codec's and do not
// appear in maps, nor may they be written, with one exception: an upgrade shows
// "connection: upgrade" and "upgrade".
type Stream interface {
	// ReadHeaders fills m, which is empty, with views that are valid until Release.
	// On a client stream it returns informational (1xx) responses one by one as they
	// come; ":status" 101 ends the exchange of messages: what follows are raw bytes.
	ReadHeaders(m *header.Map) (Next, error)
	// ReadData appends body bytes to b: at least one, unless what it returns is not Data.
	ReadData(b *buffer.Buf) (Next, error)
	// BufferedData reports whether ReadData has bytes, or the end, without waiting.
	BufferedData() bool
	// ReadTrailers fills m after Trailers was returned.
	ReadTrailers(m *header.Map) error

	// WriteHeaders writes a head. Bytes may stay in the stream until more is written,
	// Flush is called or the message ends, so that a head and its body leave together. A
	// request without a body may stay until ReadHeaders: it leaves with the wait for its
	// response, for which there must be a read deadline.
	// On a server stream heads with an informational ":status" may come before the final one.
	WriteHeaders(m *header.Map, end bool) error
	// WriteData writes body bytes, coalesced as for WriteHeaders. It consumes b.
	WriteData(b *buffer.Buf, end bool) error
	// WriteTrailers writes trailers and ends the message.
	WriteTrailers(m *header.Map) error
	// Flush sends what is held back.
	Flush() error

	// Upgraded reports that raw bytes follow in both directions (after 101, or 200 to CONNECT).
	Upgraded() bool
	// Raw returns the socket, if the rest of the body in that direction travels on it
	// as it is (HTTP/1 with known length, until close, or upgraded) so that the kernel
	// may splice it. See RawSide.
	Raw() (RawStream, bool)

	// Protocol of the connection, for the access log.
	Protocol() meta.Protocol
	// SetReadDeadline bounds the reads of this stream; the zero time is no bound.
	// A read that runs into it fails with os.ErrDeadlineExceeded and may be repeated.
	SetReadDeadline(t time.Time) error
	// Interrupt makes a read blocked in another goroutine return netio.ErrInterrupted.
	Interrupt()
	// Reset gives the exchange up: for HTTP/1 the connection is closed at Release, for
	// HTTP/2 the stream is reset at once, and reads and writes that wait fail. It may be
	// called while they do.
	Reset(why Reset)
	// WireBytes returns the bytes of this exchange on the wire so far: heads and bodies.
	WireBytes() (read, written Wire)
}

// Wire counts bytes of one direction.
type Wire struct{ Header, Body int64 }

// RawStream is a stream's access to its socket.
type RawStream interface {
	// ReadSide returns the socket and how many bytes may be read from it: -1 is until
	// EOF. Bytes that the codec has buffered are read by ReadData first. After n bytes
	// were taken, DoneRead(n, eof) tells the codec.
	ReadSide() (c *netio.Conn, n int64, ok bool)
	DoneRead(n int64, eof bool)
	// WriteSide flushes and returns the socket and how many bytes it expects: -1 is any
	// number. After n bytes were put, DoneWrite(n) tells the codec.
	WriteSide() (c *netio.Conn, n int64, ok bool)
	DoneWrite(n int64)
}

// ServerConn is the server side of a connection.
type ServerConn interface {
	// Accept waits for the next stream. It returns io.EOF when the client has gone in
	// good order, ErrDraining when the connection was drained and is idle. Where a
	// connection carries several streams (HTTP/2), Accept is also what reads for those
	// under way: it is called again at once, and each stream is served on another
	// goroutine. A stream whose request was refused comes too: its ReadHeaders says why,
	// and what it is answered goes nowhere.
	Accept() (ServerStream, error)
	// Drain lets the streams under way end and accepts no more: "connection: close", GOAWAY.
	// It may be called from any goroutine.
	Drain()
	// Close closes the connection at once.
	Close() error
}

// ServerStream is a stream that a client began.
type ServerStream interface {
	Stream
	// Release ends the exchange after both sides are done with it, gives back what it
	// holds (header views are dead from here on) and reports whether the connection
	// can carry another one.
	Release() (reusable bool)
}

// ClientConn is the client side of a connection.
type ClientConn interface {
	// Open begins a stream. An HTTP/1 connection has room for one at a time.
	Open(ctx context.Context) (ClientStream, error)
	// Free returns how many more streams may be opened now.
	Free() int
	// Used reports whether the connection has carried an exchange before: what then
	// fails before a response byte may be retried elsewhere.
	Used() bool
	// Alive reports, without waiting, whether an idle connection still looks usable.
	Alive() bool
	Close() error
}

// Multiplexed is a ClientConn that carries many streams at once (HTTP/2). Its methods may
// be called from any goroutine, Open included. A goroutine of the connection reads it, idle
// or not, so that Alive knows its end at once.
type Multiplexed interface {
	ClientConn
	// Limit returns how many streams may be open at once, those that are counted in: what
	// was configured, or less if the peer says so (SETTINGS_MAX_CONCURRENT_STREAMS). It is
	// 0 while the peer wants none, and for good when Draining.
	Limit() int
	// Draining reports that no further stream will ever be opened: the peer has said so
	// (GOAWAY), stream numbers are used up, or the connection has ended, which Alive tells.
	Draining() bool
	// Watch has changed called, with no lock of the connection held, after Limit or
	// Draining has changed and after the connection has ended. It is called once, before the
	// first Open; changed is called at once if the connection has ended by then. It runs on
	// a goroutine of the connection: it must neither wait nor close the connection.
	Watch(changed func())
}

// ClientStream is a stream that we began.
type ClientStream interface {
	Stream
	// StopWriting makes a write that is blocked in another goroutine fail, and those to come.
	// What can still be done with the stream is to read from it, unless the connection
	// carries nothing else (HTTP/1), and to release it.
	StopWriting()
	// Release ends the exchange, gives back what it holds and reports whether the
	// connection can carry another one. If not, the caller closes the connection.
	Release() (reusable bool)
}

// EndHolder is a ClientStream that can save a system call. HoldEnd tells it, before
// the request is written, that whoever writes the end of it will then read the
// response, on the same goroutine: the last bytes may wait for that read, or for
// Flush. An error of that write is one of the read then. Nor do writes wait for the
// socket meanwhile: see Patient. HoldEnd(false) takes it back.
type EndHolder interface{ HoldEnd(on bool) }

// BodyPeeker is a ServerStream that can look into its socket without waiting.
type BodyPeeker interface {
	// PeekBody is BufferedData after reading what has arrived of the body.
	PeekBody() bool
	// WholeBody reports whether the rest of the body is at hand then, if it is at most
	// limit bytes.
	WholeBody(limit int) bool
}

// Tunneler is a ServerStream that can tell, without waiting, whether the client of a
// CONNECT has sent bytes for the tunnel although it was not granted yet.
type Tunneler interface{ EarlyData() bool }

// Patient is a Stream that can tell whether a write would have to wait: for a peer that reads
// nothing, or opens no window (HTTP/2).
type Patient interface {
	// Fits reports whether n more bytes of the body, and an end, can be written without that.
	// It is for who also reads: where the answer is no, another goroutine has to write.
	Fits(n int) bool
}

// Shared is a ServerStream whose connection carries others, too (HTTP/2): the client may
// give it up alone.
type Shared interface {
	// OnGone has f called when the client has given the stream up, or the connection has
	// ended, before the exchange was complete; at once if that has happened. It may be
	// called for a Reset of our own as well, and not after Release. Locks of the connection
	// are held meanwhile: f must neither wait nor use the stream.
	OnGone(f func())
	// Gone is what OnGone tells, and why; nil while the client waits.
	Gone() error
	// LimitStall makes writes fail with os.ErrDeadlineExceeded when the client has taken
	// nothing of what they write for d; 0 is never.
	LimitStall(d time.Duration)
}

// Reset is why a stream is given up.
type Reset uint8

// The reasons.
const (
	ResetCancel Reset = iota
	ResetInternal
	ResetRefused
	ResetProtocol
)

// ErrDraining is what Accept returns for an idle connection after Drain.
var ErrDraining = errors.New("codec: connection is draining")

// ErrClosedBeforeResponse is what ReadHeaders of a client stream returns when the
// connection ended before the first byte of a response.
var ErrClosedBeforeResponse = errors.New("codec: connection closed before a response")

// ErrReset is what reads and writes of a stream return when the peer has given it up
// (RST_STREAM), for whatever reason.
var ErrReset = errors.New("codec: stream reset by the peer")

// ErrRefused is what ReadHeaders of a client stream returns when the peer says that it has
// not looked at the request (REFUSED_STREAM).
var ErrRefused = errors.New("codec: stream refused")

// ErrFull is what Open returns when the connection takes no stream that was promised: its
// peer has meanwhile lowered how many it allows, or is leaving. Nothing was sent, so the
// request may go to another connection.
var ErrFull = errors.New("codec: connection has no room for another stream")

// ProtocolError is a message that breaks the rules of HTTP.
type ProtocolError struct {
	Code    int    // what a server answers before it closes: 400, 413, 414, 431, 426, 501, 505; 0 is close without an answer
	Details string // response_code_details, such as "http1.codec_error" or "http1.invalid_url"
	Reason  string // for the log and the access log
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("%s: %s", e.Details, e.Reason)
}
