package router

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/capsule"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// udpStream is a UDP socket towards a host in the shape of a stream whose bodies are
// capsules (CONNECT-UDP, RFC 9298), so that the engine can relay it. What the host or the
// kernel does not take is lost, as datagrams are: writes never wait.
type udpStream struct {
	headless
	sock *netio.UDPSocket

	in   netio.UDPReader
	out  netio.UDPSender
	find capsule.Reader
	room []byte // for one capsule

	ended       atomic.Bool // the client sends no more
	interrupted atomic.Bool
}

var _ codec.ClientStream = (*udpStream)(nil)

// longAgo is a deadline that is over.
var longAgo = time.Unix(1, 0)

// openUDP makes a socket towards a host. Its datagrams are read with memory of the pool.
func openUDP(cl *cluster.Cluster, h *cluster.Host, pool *netio.UDPPool) (*udpStream, error) {
	sock, err := cl.DialUDP(h, netip.Addr{})
	if err != nil {
		return nil, &cluster.ConnectError{Host: h.Addr, Err: err}
	}
	u := &udpStream{sock: sock}
	u.in.Init(sock, pool)
	return u, nil
}

// ReadData implements codec.Stream: it appends what the host has sent, in capsules. When
// the client has ended its side there is nobody to answer, and that is the end.
func (u *udpStream) ReadData(b *buffer.Buf) (codec.Next, error) {
	for {
		batch, err := u.in.Read()
		switch {
		case u.ended.Load():
			return codec.End, nil
		case u.interrupted.Load():
			return codec.Data, netio.ErrInterrupted
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return codec.Data, err
		case err != nil: // a datagram sent before has not arrived
			continue
		}
		for i := range batch {
			u.room = capsule.AppendDatagram(u.room[:0], batch[i].Data)
			u.read += int64(len(u.room))
			b.Append(u.room)
		}
		u.in.Release()
		if len(batch) > 0 {
			return codec.Data, nil
		}
	}
}

// BufferedData implements codec.Stream.
func (u *udpStream) BufferedData() bool { return false }

// WriteData implements codec.Stream: it sends the datagrams that have come whole.
func (u *udpStream) WriteData(b *buffer.Buf, end bool) error {
	u.find.Feed(b)
	for {
		p, ok, err := u.find.Next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		u.written += int64(len(p))
		u.out.Add(p, nil)
		_, _, _, _ = u.out.Flush(u.sock) // at once: what is lent dies with the next one; a datagram may be lost
	}
	if end {
		u.end()
	}
	return nil
}

// WriteTrailers implements codec.Stream.
func (u *udpStream) WriteTrailers(*header.Map) error {
	u.end()
	return nil
}

// end wakes the reader for the last time.
func (u *udpStream) end() {
	u.ended.Store(true)
	_ = u.sock.SetReadDeadline(longAgo) // fails when it is closed, and then nobody reads
}

// SetReadDeadline implements codec.Stream.
func (u *udpStream) SetReadDeadline(t time.Time) error {
	err := u.sock.SetReadDeadline(t)
	if u.ended.Load() || u.interrupted.Load() {
		err = u.sock.SetReadDeadline(longAgo)
	}
	return err
}

// Interrupt implements codec.Stream.
func (u *udpStream) Interrupt() {
	u.interrupted.Store(true)
	_ = u.sock.SetReadDeadline(longAgo) // as in end
}

// StopWriting implements codec.ClientStream: no write waits.
func (u *udpStream) StopWriting() {}

// Reset implements codec.Stream.
func (u *udpStream) Reset(codec.Reset) { u.Interrupt() }

// Release implements codec.ClientStream: the socket ends with its stream.
func (u *udpStream) Release() bool {
	u.in.Release()
	u.find.Release()
	_ = u.sock.Close() // what was sent has left
	return false
}
