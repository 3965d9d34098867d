package h2

import (
	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// copyIn is up to which size the payload of a DATA frame that arrives is copied. A view
// keeps its whole slab: one who sends a byte at a time must not make us keep thousands
// for each. As much of the beginning of a body is kept in memory of the stream's own, a
// few bytes of which need no slab at all; keepSmall is what a stream keeps of it for the
// next one.
const (
	copyIn    = 4 << 10
	keepSmall = 1 << 10
)

// onData takes a DATA frame (RFC 9113 6.1), whose payload is at the front of c.in.
func (c *conn) onData(h FrameHeader) *connError {
	if h.Stream == 0 {
		return protocol("DATA on stream 0")
	}
	size := int(h.Length)
	n := size
	pad := 0
	if h.has(FlagPadded) {
		p, ok := c.in.Peek(1)
		if n == 0 || !ok {
			return frameSize("padded frame without a length of padding")
		}
		pad = int(p[0])
		if pad >= n {
			return protocol("padding is longer than the frame")
		}
		c.in.Discard(1)
		n -= 1 + pad
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ce := c.body(h, size, n)
	c.in.Discard(pad)
	return ce
}

// body takes n bytes of a body in a frame whose payload has size. The lock is held.
func (c *conn) body(h FrameHeader, size, n int) *connError {
	if c.recvWin -= int64(size); c.recvWin < 0 {
		return &connError{FlowControlError, "more DATA than the window of the connection", detailsUnknown}
	}
	s := c.streams[h.Stream]
	if s == nil || s.remoteEnd {
		c.in.Discard(n)
		c.credit(int64(size))
		switch {
		case s != nil:
			return c.punish(s, StreamClosed, malformed(detailsUnknown, "DATA after the end of the stream"))
		case c.late(h, size, n):
		case c.idle(h.Stream):
			return protocol("DATA on an idle stream")
		case !c.resets.has(h.Stream):
			c.resetLocked(h.Stream, StreamClosed)
			return c.resetBudget()
		}
		return nil
	}
	s.wireIn.Body += int64(frameHeaderLen + size)
	s.recvWin -= int64(size)
	var bad string
	switch {
	case s.recvWin < 0:
		c.in.Discard(n)
		c.credit(int64(size))
		return c.punish(s, FlowControlError, malformed(detailsUnknown, "more DATA than the window of the stream"))
	case !s.final:
		bad = "DATA before HEADERS"
	case s.noBody && n > 0:
		bad = "DATA in a message that has no body"
	case s.left >= 0 && int64(n) > s.left:
		bad = "body is longer than content-length"
	}
	if bad != "" {
		c.in.Discard(n)
		c.credit(int64(size))
		c.stats.MessagingError.Inc()
		return c.badMessage(s, malformed(detailsMessaging, bad))
	}
	if s.left >= 0 {
		s.left -= int64(n)
	}
	if n < size {
		c.creditStream(s, int64(size-n))
	}
	if n > 0 {
		c.keep(s, n)
		s.rd.Signal()
	}
	if h.has(FlagEndStream) {
		return c.endRemote(s)
	}
	return nil
}

// keep moves n bytes from what was read to the stream.
func (c *conn) keep(s *stream, n int) {
	if n > copyIn {
		s.in.Move(&c.in, n)
		return
	}
	small := s.in.Len() == 0 && len(s.small)+n <= copyIn
	for left := n; left > 0; {
		p := c.in.First()
		p = p[:min(len(p), left)]
		if small {
			s.small = append(s.small, p...)
		} else {
			s.in.Append(p)
		}
		c.in.Discard(len(p))
		left -= len(p)
	}
}

// credit gives back n bytes of the window of the connection, in large pieces.
func (c *conn) credit(n int64) {
	if c.consumed += n; c.consumed >= c.lim.connWindow/2 {
		c.recvWin += c.consumed
		c.putUint32(FrameWindowUpdate, 0, uint32(c.consumed), false)
		c.consumed = 0
	}
}

// creditStream is credit for a stream and its connection.
func (c *conn) creditStream(s *stream, n int64) {
	c.credit(n)
	if s.remoteEnd || s.gone {
		return
	}
	if s.consumed += n; s.consumed >= c.lim.streamWindow/2 {
		s.recvWin += s.consumed
		c.putUint32(FrameWindowUpdate, s.id, uint32(s.consumed), false)
		s.consumed = 0
	}
}

// putData queues a DATA frame with the first n bytes of b.
func (c *conn) putData(s *stream, b *buffer.Buf, n int, end bool) {
	h := FrameHeader{Type: FrameData, Stream: s.id, Length: uint32(n)}
	if end {
		h.Flags = FlagEndStream
	}
	var hdr [frameHeaderLen]byte
	out := &c.out.buf
	out.Append(AppendFrameHeader(hdr[:0], h))
	if n > 0 {
		if n <= copyData {
			for left := n; left > 0; {
				p := b.First()
				p = p[:min(len(p), left)]
				out.Append(p)
				b.Discard(len(p))
				left -= len(p)
			}
		} else {
			out.Move(b, n)
		}
	}
	c.sendWin -= int64(n)
	s.sendWin -= int64(n)
	s.wireOut.Body += int64(frameHeaderLen + n)
	c.flood.sent++
	c.add(false)
}

// wakeStarved wakes the stream that waits for the connection's window for longest. The
// lock is held.
func (c *conn) wakeStarved() {
	if c.sendWin <= 0 || len(c.starved) == 0 {
		return
	}
	s := c.starved[0]
	c.unstarve(s)
	s.wr.Signal()
}

func (c *conn) unstarve(s *stream) {
	if !s.starved {
		return
	}
	s.starved = false
	for i, x := range c.starved {
		if x == s {
			c.starved = append(c.starved[:i], c.starved[i+1:]...)
			return
		}
	}
}
