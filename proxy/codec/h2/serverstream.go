package h2

import (
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// ServerStream is a request and its response.
type ServerStream struct {
	stream
	conn *ServerConn
	bad  *codec.ProtocolError // why the request was refused; the client knows
	read bool                 // the head was taken
	head bool                 // HEAD was asked for
}

// take keeps the head of the request and translates it: the authority is in one place,
// and an extended CONNECT is an upgrade (RFC 8441).
func (s *ServerStream) take(h *head) {
	s.fields = append(s.fields[:0], h.fields...)
	s.left = h.length
	var protocol, host string
	connect := false
	for i := range s.fields {
		switch f := &s.fields[i]; f.ID {
		case header.Method:
			s.head, connect = f.Value == "HEAD", f.Value == "CONNECT"
		case header.Protocol:
			protocol = f.Value
		case header.Host:
			host = f.Value
		}
	}
	if h.pseudo&hasHost != 0 {
		s.settleHost(host, h.pseudo&hasAuthority != 0)
	}
	if connect {
		s.settleConnect(protocol)
	}
}

// settleHost takes Host out of the fields. It is ":authority" where that is missing.
func (s *ServerStream) settleHost(host string, known bool) {
	for i := range s.fields {
		if f := &s.fields[i]; f.ID == header.Host {
			if !known {
				*f = header.Field{Name: ":authority", Value: host, ID: header.Authority}
				return
			}
			s.fields = append(s.fields[:i], s.fields[i+1:]...)
			return
		}
	}
}

// bytestream is the one protocol of extended CONNECT that is not an upgrade.
const bytestream = "bytestream"

// settleConnect translates a CONNECT, which has no body whatever it says.
func (s *ServerStream) settleConnect(protocol string) {
	s.left = -1
	s.upgrade = "connect"
	kept := s.fields[:0]
	for _, f := range s.fields {
		switch {
		case f.ID == header.Protocol, f.ID == header.ContentLength:
			continue
		case f.ID == header.Method && protocol != "" && protocol != bytestream:
			f.Value = "GET"
		}
		kept = append(kept, f)
	}
	s.fields = kept
	if protocol != "" && protocol != bytestream {
		s.upgrade = protocol
		s.fields = append(s.fields,
			header.Field{Name: "upgrade", Value: protocol, ID: header.Upgrade},
			header.Field{Name: "connection", Value: "upgrade", ID: header.Connection})
	}
}

// ReadHeaders implements codec.Stream. It does not wait. A *codec.ProtocolError says why
// the request was refused; the client was told already. A request for an upgrade has no
// body: what follows are raw bytes, if the response says so.
func (s *ServerStream) ReadHeaders(m *header.Map) (codec.Next, error) {
	switch {
	case s.bad != nil:
		return codec.End, s.bad
	case s.read:
		return codec.End, errNoHeads
	}
	s.read = true
	fill(m, s.fields)
	if !m.Has(header.Authority) {
		m.AddID(header.Authority, "")
	}
	if s.upgrade != "" {
		return codec.End, nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.next(), nil
}

// WriteHeaders implements codec.Stream.
func (s *ServerStream) WriteHeaders(m *header.Map, end bool) error {
	return writeError(s.writeHeaders(m, end))
}

func (s *ServerStream) writeHeaders(m *header.Map, end bool) error {
	text := m.Value(header.Status)
	status := statusOf(text)
	if status == 0 || status == 101 && (s.upgrade == "" || s.upgrade == "connect") {
		return errBadStatus
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.headed:
		return errTwoHeads
	}
	if err := c.encodeResponse(m, text); err != nil {
		return err
	}
	info := status < 200 && status != 101
	s.wireOut.Header += int64(c.putBlock(s.id, end && !info))
	if info {
		c.flush()
		return s.err
	}
	s.headed = true
	s.bodiless = s.head || status == 204 || status == 304
	s.upgraded = s.upgrade != "" && (status == 101 || s.upgrade == "connect" && status < 300)
	if end {
		s.endLocal()
		c.flush()
		return s.err
	}
	c.waitRoom(&s.stream)
	return s.err
}

// WriteTrailers implements codec.Stream.
func (s *ServerStream) WriteTrailers(m *header.Map) error { return writeError(s.writeTrailers(m)) }

func (s *stream) writeTrailers(m *header.Map) error {
	if m.Len() == 0 || s.bodiless {
		return s.writeData(nil, true)
	}
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.unwanted {
		return nil
	}
	if err := s.writable(); err != nil {
		return err
	}
	if err := checkFields(m); err != nil {
		return err
	}
	c.encodeFields(m)
	s.wireOut.Body += int64(c.putBlock(s.id, true))
	s.endLocal()
	c.flush()
	return s.err
}

// Release implements codec.ServerStream. A response that is not complete resets the
// stream; one that is, while the request is not, lets the client end it, for a while.
func (s *ServerStream) Release() bool {
	c, conn := s.c, s.conn
	c.mu.Lock()
	if !s.gone {
		switch {
		case !s.localEnd:
			s.giveUp(InternalError)
		case !c.linger(&s.stream):
			s.giveUp(NoError)
		}
	}
	s.release()
	if c.held == 0 {
		conn.startIdle()
		conn.checkIdle()
	}
	c.flushNow()
	ok := c.err == nil
	c.mu.Unlock()
	s.reset()
	s.conn, s.bad, s.read, s.head = nil, nil, false, false
	pools.server.Put(s)
	return ok
}

var _ codec.ServerStream = (*ServerStream)(nil)
