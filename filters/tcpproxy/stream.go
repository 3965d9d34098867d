package tcpproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// stream is a tunnel that is a stream among others of a pooled connection (HTTP/2, RFC 9113,
// section 8.5), or the two bodies of a POST. It is a filter.Peer.
type stream struct {
	codec.ClientStream
	conn   *cluster.Conn
	cl     *cluster.Cluster
	ticket cluster.Ticket
	ended  bool // the peer has said that no more comes
	keep   func(header.Map)
}

// overStream reports whether tunnels to a cluster are streams. CONNECT over HTTP/1.1 takes
// the connection as a whole.
func (t *Tunnel) overStream(cl *cluster.Cluster) bool { return t.Post != "" || cl.Multiplexed() }

// openStream asks for a tunnel in a stream to h, for patience unless that is 0.
func (t *Tunnel) openStream(ctx context.Context, c *filter.Conn, cl *cluster.Cluster, h *cluster.Host, a *cluster.Attempt, patience time.Duration) (*stream, error) {
	ticket, err := cl.Admit(0)
	if err != nil {
		return nil, err
	}
	var late time.Time
	if patience > 0 {
		late = time.Now().Add(patience)
	}
	conn, err := cl.Acquire(ctx, h, a, late)
	if err != nil {
		ticket.Done()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = errSilent
		}
		return nil, err
	}
	up, err := conn.Open(ctx)
	if err != nil {
		ticket.Done()
		cl.Release(conn, false)
		return nil, err
	}
	s := &stream{ClientStream: up, conn: conn, cl: cl, ticket: ticket}
	if err := t.ask(ctx, c, s, late); err != nil {
		s.close(true)
		return nil, err
	}
	return s, nil
}

// ask sends the head of the request and awaits that of the response.
func (t *Tunnel) ask(ctx context.Context, c *filter.Conn, s *stream, late time.Time) error {
	stop := context.AfterFunc(ctx, s.Cut)
	defer stop()
	var m header.Map
	t.head(&m, c, s.conn.TLS != nil)
	if err := s.WriteHeaders(&m, false); err != nil {
		return err
	}
	if err := s.Flush(); err != nil {
		return err
	}
	_ = s.SetReadDeadline(late) // what fails here fails below
	for {
		m.Reset()
		next, err := s.ReadHeaders(&m)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errSilent
		}
		if err != nil {
			return fmt.Errorf("tunnel: %w", err)
		}
		switch code := m.StatusCode(); {
		case code < 200:
			continue
		case code != 200:
			return fmt.Errorf("tunnel: the answer is %d", code)
		}
		s.ended = next == codec.End
		if t.KeepResponse {
			c.State.Set(ResponseKey, responseOf(&m))
		}
		if t.KeepTrailers {
			s.keep = func(m header.Map) { c.State.Set(TrailersKey, responseOf(&m)) }
		}
		return s.SetReadDeadline(time.Time{})
	}
}

// head makes the head of the request.
func (t *Tunnel) head(m *header.Map, c *filter.Conn, secure bool) {
	m.AddID(header.Authority, string(t.Hostname.Append(nil, c.LogEntry())))
	m.AddID(header.Method, "CONNECT")
	if t.Post != "" {
		m.SetID(header.Method, "POST")
		m.AddID(header.Path, t.Post)
		scheme := "http"
		if secure {
			scheme = "https"
		}
		m.AddID(header.Scheme, scheme)
	}
	if t.Headers != nil {
		t.Headers.Apply(m, c)
	}
}

func responseOf(m *header.Map) TunnelResponse {
	r := TunnelResponse{}
	for name, value := range m.All() {
		r[strings.Clone(name)] = strings.Clone(value)
	}
	return r
}

// ReadBuf implements filter.Peer.
func (s *stream) ReadBuf(b *buffer.Buf) (int, error) {
	if s.ended {
		return 0, io.EOF
	}
	before := b.Len()
	next, err := s.ReadData(b)
	n := b.Len() - before
	switch {
	case err != nil:
		return n, err
	case next == codec.Data:
		return n, nil
	case next == codec.Trailers:
		var m header.Map
		if err := s.ReadTrailers(&m); err != nil {
			return n, err
		}
		if s.keep != nil {
			s.keep(m)
		}
	}
	s.ended = true
	return n, io.EOF
}

// WriteBuf implements filter.Peer.
func (s *stream) WriteBuf(b *buffer.Buf) error {
	if b.Len() == 0 {
		return nil
	}
	return s.write(b, false)
}

// CloseWrite implements filter.Peer.
func (s *stream) CloseWrite() error { return s.write(&buffer.Buf{}, true) }

func (s *stream) write(b *buffer.Buf, end bool) error {
	if err := s.WriteData(b, end); err != nil {
		return err
	}
	return s.Flush()
}

// Cut implements filter.Peer.
func (s *stream) Cut() {
	s.Reset(codec.ResetCancel)
	s.Interrupt()
	s.StopWriting()
}

// close gives the stream and its connection back, with a reset if they are of no use.
func (s *stream) close(reset bool) {
	if reset {
		s.Reset(codec.ResetCancel)
	}
	read, written := s.WireBytes()
	s.conn.CountBytes(read.Header+read.Body, written.Header+written.Body)
	s.ticket.Done()
	if s.Release() {
		s.cl.Release(s.conn, true)
		return
	}
	s.cl.Abandon(s.conn)
}
