package h2

import (
	"errors"
	"io"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// ClientStream is a request and its response.
type ClientStream struct {
	stream
	conn    *ClientConn
	began   bool // a head of the response was read
	connect bool
}

// WriteHeaders implements codec.Stream. An upgrade and a CONNECT have no end before
// their tunnel has one.
func (s *ClientStream) WriteHeaders(m *header.Map, end bool) error {
	return writeError(s.writeHeaders(m, end))
}

func (s *ClientStream) writeHeaders(m *header.Map, end bool) error {
	c, conn := s.c, s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	full := c.waitHeads()
	switch {
	case s.headed:
		return errTwoHeads
	case s.err != nil:
		return s.err
	case c.err != nil:
		return c.streamError(c.err)
	case conn.goneAway, full:
		return errNotLookedAt
	}
	upgrade, err := c.encodeRequest(m)
	if err != nil {
		return err
	}
	method := m.Value(header.Method)
	s.upgrade, s.connect = upgrade, method == "CONNECT"
	s.noBody = method == "HEAD"
	end = end && upgrade == "" && !s.connect
	s.id = conn.nextID
	conn.nextID += 2
	if conn.usedUp() && conn.nextID-2 <= conn.lastNumber() {
		go conn.tell()
	}
	c.lastSeen = s.id
	c.flood.opened++
	s.sendWin = c.peer.window
	c.streams[s.id] = &s.stream
	c.open++
	c.stats.StreamsActive.Inc()
	s.headed = true
	conn.probe()
	s.wireOut.Header += int64(c.putBlock(s.id, end))
	if end {
		s.endLocal()
	}
	if end || c.queueFull() {
		c.flush() // it does not wait: Fits tells whether a body would
	}
	return s.err
}

// StopWriting implements codec.ClientStream.
func (s *ClientStream) StopWriting() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.stopped = true
	s.wr.Signal()
	s.c.room.Broadcast()
}

// probe sends a PING ahead of a stream on a connection on which nothing has come for a
// while (connection_idle_interval).
func (s *ClientConn) probe() {
	if s.opt.Keepalive.Idle <= 0 {
		return
	}
	if t := time.Now(); t.Sub(s.keepalive.heard) >= s.opt.Keepalive.Idle {
		s.keepalive.ping(&s.conn, t)
		s.arm(s.keepalive.deadAt)
	}
}

// ReadHeaders implements codec.Stream. codec.ErrClosedBeforeResponse says that the
// connection ended before the response began, codec.ErrRefused that the peer has not
// looked at the request.
func (s *ClientStream) ReadHeaders(m *header.Map) (codec.Next, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	fields, err := s.takeHead()
	if err != nil {
		if !s.began && errors.Is(err, io.ErrUnexpectedEOF) {
			err = codec.ErrClosedBeforeResponse
		}
		return codec.End, err
	}
	s.began = true
	fill(m, fields)
	status := m.StatusCode()
	switch {
	case status < 200:
		return codec.Data, nil
	case s.upgrade != "" && status == 200:
		s.upgraded = true
		m.SetID(header.Status, "101")
		m.SetID(header.Upgrade, s.upgrade)
		m.SetID(header.Connection, "upgrade")
	case s.connect && status < 300:
		s.upgraded = true
		m.DelID(header.ContentLength)
	}
	if s.upgraded {
		s.left = -1
		return codec.Data, nil
	}
	return s.next(), nil
}

// WriteTrailers implements codec.Stream.
func (s *ClientStream) WriteTrailers(m *header.Map) error { return writeError(s.writeTrailers(m)) }

// Release implements codec.ClientStream. An exchange that is not complete is reset. The
// result is whether the connection can carry another stream, now or later.
func (s *ClientStream) Release() bool {
	c, conn := s.c, s.conn
	c.mu.Lock()
	if !s.gone && s.id != 0 {
		if s.remoteEnd {
			s.giveUp(NoError)
		} else {
			s.giveUp(Cancel)
		}
	}
	conn.used = conn.used || s.began
	s.release()
	c.flushNow()
	ok := c.err == nil && !conn.goneAway
	c.mu.Unlock()
	s.stream.reset()
	s.conn, s.began, s.connect = nil, false, false
	pools.client.Put(s)
	return ok
}

var _ codec.ClientStream = (*ClientStream)(nil)
