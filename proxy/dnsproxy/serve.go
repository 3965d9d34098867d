package dnsproxy

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// maxQuery bounds a query over UDP; one with all the options that there are is far
// below.
const maxQuery = 4096

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// serveUDP answers what is known at once and hands the rest to goroutines.
func (s *Server) serveUDP(c *net.UDPConn) {
	b := make([]byte, maxQuery)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			if !s.pause() {
				return
			}
			continue
		}
		s.stats.UDP.Inc()
		send := func(answer []byte) {
			if answer != nil {
				_, _ = c.WriteToUDPAddrPort(answer, from) // a client that has gone
			}
		}
		q, a := s.known(b[:n], unmapped(from))
		if q == nil || a != nil {
			send(pack(q, a, true))
			continue
		}
		select {
		case s.lookups <- struct{}{}:
			s.wg.Go(func() {
				defer func() { <-s.lookups }()
				send(pack(q, s.lookup(s.ctx, q, false), true))
			})
		default:
			s.stats.Overflow.Inc()
			send(pack(q, failure(q, dns.RcodeServerFailure), true))
		}
	}
}

// pause waits a moment after an error that may go away: trying again at once would spin.
// It reports whether the server goes on.
func (s *Server) pause() bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

func (s *Server) serveTCP(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			if !s.pause() { // too many files are open, most likely
				return
			}
			continue
		}
		select {
		case s.conns <- struct{}{}:
			s.wg.Go(func() {
				s.stats.Connections.Inc()
				defer func() { s.stats.Connections.Dec(); <-s.conns }()
				s.serveConn(c)
			})
		default:
			s.stats.ConnOverflow.Inc()
			_ = c.Close()
		}
	}
}

// serveConn answers the queries of one connection one after another (RFC 7766).
func (s *Server) serveConn(c *net.TCPConn) {
	defer c.Close() //nolint:errcheck // nothing is pending
	defer context.AfterFunc(s.ctx, func() { _ = c.Close() })()
	from := unmapped(c.RemoteAddr().(*net.TCPAddr).AddrPort())
	for {
		if c.SetDeadline(time.Now().Add(clientIdle)) != nil {
			return
		}
		msg, err := readMessage(c)
		if err != nil {
			return
		}
		s.stats.TCP.Inc()
		q, a := s.known(msg, from)
		if q != nil && a == nil {
			select {
			case s.lookups <- struct{}{}:
				a = s.lookup(s.ctx, q, true)
				<-s.lookups
			default:
				s.stats.Overflow.Inc()
				a = failure(q, dns.RcodeServerFailure)
			}
		}
		answer := pack(q, a, false)
		if answer == nil || c.SetDeadline(time.Now().Add(clientIdle)) != nil || writeMessage(c, answer) != nil {
			return
		}
	}
}

// readMessage reads a message with its length before it.
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeMessage(w io.Writer, msg []byte) error {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(msg)), uint16(len(msg)))
	_, err := w.Write(append(b, msg...))
	return err
}
