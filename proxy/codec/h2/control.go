package h2

import (
	"encoding/binary"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// onHeaders takes a HEADERS frame (RFC 9113 6.2).
func (c *conn) onHeaders(h FrameHeader, p []byte) *connError {
	if h.Stream == 0 {
		return protocol("HEADERS on stream 0")
	}
	p, ce := unpad(p, h)
	if ce != nil {
		return ce
	}
	self := false
	if h.has(FlagPriority) {
		if len(p) < 5 {
			return frameSize("HEADERS is too short for its priority")
		}
		self = binary.BigEndian.Uint32(p)&maxStreamID == h.Stream
		p = p[5:]
	}
	c.selfDep = self
	if h.has(FlagEndHeaders) {
		return c.section(h, p)
	}
	c.block, c.blockOf, c.inBlock, c.frames = append(c.block[:0], p...), h, true, 0
	return c.checkBlock()
}

// onContinuation takes a CONTINUATION frame (RFC 9113 6.10).
func (c *conn) onContinuation(h FrameHeader, p []byte) *connError {
	if !c.inBlock {
		return protocol("CONTINUATION of nothing")
	}
	c.frames++
	c.block = append(c.block, p...)
	if ce := c.checkBlock(); ce != nil || !h.has(FlagEndHeaders) {
		return ce
	}
	c.inBlock = false
	ce := c.section(c.blockOf, c.block)
	c.block = nil // rare, and large
	return ce
}

// minContinuations is how many CONTINUATION frames a header section may always have.
const minContinuations = 8

// checkBlock bounds a header section that is not complete. HPACK makes nothing longer
// but for a few bytes in each field, so what exceeds the limit for a head in this form
// exceeds it decoded.
func (c *conn) checkBlock() *connError {
	most := c.lim.headBytes + 8*c.lim.headCount
	if len(c.block) <= most && c.frames <= max(minContinuations, 2*most/maxFrameSize) {
		return nil
	}
	c.stats.HeaderOverflow.Inc()
	return &connError{EnhanceYourCalm, "header section is too long, or has too many frames", detailsTooLarge}
}

// section decodes a whole header section and hands it to its stream.
func (c *conn) section(h FrameHeader, p []byte) *connError {
	c.mu.Lock()
	s := c.streams[h.Stream]
	kind, ce := c.kindOf(h, s)
	c.mu.Unlock()
	if ce != nil {
		return ce
	}
	c.head.begin(kind)
	c.dec.SetEmitEnabled(true)
	_, err := c.dec.Write(p)
	if err == nil {
		err = c.dec.Close()
	}
	if err != nil {
		return &connError{CompressionError, err.Error(), detailsUnknown}
	}
	c.head.end(c.opt.AllowConnect)
	if over := c.head.over; over != "" {
		c.stats.HeaderOverflow.Inc()
		c.head.bad = malformed(over, "header section is too large or has too many fields")
	} else if c.head.bad != nil {
		c.stats.MessagingError.Inc()
	}
	if c.selfDep && c.head.bad == nil {
		c.head.bad = malformed(detailsUnknown, "stream depends on itself")
	}
	switch {
	case kind == ignoredSection:
		c.stats.HeadersNoStream.Inc()
		return nil
	case s == nil:
		return c.newStream(h)
	}
	return c.deliver(h)
}

// kindOf tells what a header section is. The lock is held.
func (c *conn) kindOf(h FrameHeader, s *stream) (headKind, *connError) {
	switch {
	case s != nil && s.remoteEnd:
		return ignoredSection, c.punish(s, StreamClosed, malformed(detailsUnknown, "HEADERS after the end of the stream"))
	case s != nil && (c.server || s.final):
		return trailerSection, nil
	case s != nil:
		return responseHead, nil
	case !c.server && (h.Stream%2 == 0 || h.Stream > c.lastSeen), c.server && h.Stream%2 == 0:
		return 0, protocol("HEADERS on a stream that the peer must not open")
	case c.server && h.Stream > c.lastSeen:
		return requestHead, nil
	case !c.server || c.late(h, 0, 0) || c.resets.has(h.Stream):
		return ignoredSection, nil
	}
	return 0, &connError{StreamClosed, "HEADERS on a closed stream", detailsUnknown}
}

// deliver gives the section that was just decoded to a stream that is there.
func (c *conn) deliver(h FrameHeader) *connError {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[h.Stream]
	if s == nil {
		return nil // it was given up meanwhile
	}
	s.wireIn.Header += int64(frameHeaderLen + h.Length)
	if bad := c.head.bad; bad != nil {
		return c.badMessage(s, bad)
	}
	if c.head.kind == trailerSection {
		return c.deliverTrailers(s, h)
	}
	status := statusOf(c.head.value(header.Status))
	info := status < 200
	if info && (h.has(FlagEndStream) || status == 101 || len(s.marks) >= maxInformational) {
		return c.badMessage(s, malformed(detailsMessaging, "informational response that ends the stream, is 101, or is one too many"))
	}
	s.addHead(&c.head)
	if !info {
		s.final = true
		s.expect(c.head.length, status)
	}
	if h.has(FlagEndStream) {
		return c.endRemote(s)
	}
	s.rd.Signal()
	return nil
}

func (c *conn) deliverTrailers(s *stream, h FrameHeader) *connError {
	if !h.has(FlagEndStream) {
		return c.badMessage(s, malformed(detailsMessaging, "trailers that do not end the stream"))
	}
	c.stats.Trailers.Inc()
	s.trailers = append(s.trailers[:0], c.head.fields...)
	s.hasTrailers = len(s.trailers) > 0
	return c.endRemote(s)
}

// endRemote takes the end of what the peer sends on a stream. The lock is held.
func (c *conn) endRemote(s *stream) *connError {
	if s.left > 0 {
		c.stats.MessagingError.Inc()
		return c.badMessage(s, malformed(detailsMessaging, "body is shorter than content-length"))
	}
	s.remoteEnd = true
	s.rd.Signal()
	if s.localEnd {
		c.closeStream(s)
	}
	return nil
}

// badMessage ends a stream whose message breaks the rules, or the connection if that is
// how it is configured. The lock is held.
func (c *conn) badMessage(s *stream, bad *codec.ProtocolError) *connError {
	ce := c.punish(s, ProtocolError, bad)
	if c.opt.StreamErrors || bad.Details == detailsTooMany || bad.Details == detailsTooLarge {
		return ce
	}
	return &connError{ProtocolError, bad.Reason, bad.Details}
}

// punish resets a stream for what the peer has done to it. That costs us as much as if it
// had reset the stream itself, and comes out of the same budget. The goroutine that reads
// calls it, with the lock held.
func (c *conn) punish(s *stream, code ErrCode, err error) *connError {
	c.resetStream(s, code, err)
	return c.resetBudget()
}

// resetStream sends RST_STREAM and makes the stream fail. The lock is held.
func (c *conn) resetStream(s *stream, code ErrCode, err error) {
	c.resetLocked(s.id, code)
	if c.txReset != nil {
		c.txReset.Inc()
	}
	s.failLocked(err)
	c.closeStream(s)
}

// onPriority checks a PRIORITY frame (RFC 9113 6.3), which says nothing to us.
func (c *conn) onPriority(h FrameHeader, p []byte) *connError {
	switch {
	case h.Stream == 0:
		return protocol("PRIORITY on stream 0")
	case len(p) != 5:
		return frameSize("PRIORITY is not of 5 bytes")
	case binary.BigEndian.Uint32(p)&maxStreamID == h.Stream:
		return protocol("stream depends on itself")
	}
	return nil
}

// onReset takes a RST_STREAM frame (RFC 9113 6.4).
func (c *conn) onReset(h FrameHeader, p []byte) *connError {
	switch {
	case h.Stream == 0:
		return protocol("RST_STREAM on stream 0")
	case len(p) != 4:
		return frameSize("RST_STREAM is not of 4 bytes")
	}
	if ce := c.resetBudget(); ce != nil {
		return ce
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[h.Stream]
	if s == nil {
		if c.idle(h.Stream) {
			return protocol("RST_STREAM on an idle stream")
		}
		c.late(h, 0, 0)
		return nil
	}
	c.stats.RxReset.Inc()
	code := ErrCode(binary.BigEndian.Uint32(p))
	s.wireIn.Header += frameHeaderLen + 4
	if code == RefusedStream {
		c.stats.StreamRefused.Inc()
	}
	if code == NoError && s.remoteEnd {
		// The message is complete; the peer only does not want the rest of ours (RFC 9113 8.1).
		s.unwanted = true
		s.localEnd = true
		s.wr.Signal()
	} else {
		if c.rxReset != nil && code != RefusedStream {
			c.rxReset.Inc()
		}
		s.failLocked(&ResetError{Code: code})
	}
	c.closeStream(s)
	return nil
}

// idle reports whether a stream was never opened. The lock is held.
func (c *conn) idle(id uint32) bool { return id > c.lastSeen || id%2 == 0 }

// onPing takes a PING frame (RFC 9113 6.7).
func (c *conn) onPing(h FrameHeader, p []byte) *connError {
	switch {
	case h.Stream != 0:
		return protocol("PING on a stream")
	case len(p) != 8:
		return frameSize("PING is not of 8 bytes")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.has(FlagAck) {
		c.acked(binary.BigEndian.Uint64(p))
		return nil
	}
	c.put(FrameHeader{Type: FramePing, Flags: FlagAck}, p, true)
	return nil
}

// onGoAway takes a GOAWAY frame (RFC 9113 6.8).
func (c *conn) onGoAway(h FrameHeader, p []byte) *connError {
	switch {
	case h.Stream != 0:
		return protocol("GOAWAY on a stream")
	case len(p) < 8:
		return frameSize("GOAWAY is too short")
	}
	if c.server {
		return nil // the client opens no more streams; those that it has go on
	}
	last := binary.BigEndian.Uint32(p) & maxStreamID
	c.mu.Lock()
	if c.goneAway && last >= c.lastOurs {
		c.mu.Unlock()
		return nil // it says nothing new
	}
	c.goneAway = true
	c.lastOurs = min(c.lastOurs, last)
	for id, s := range c.streams {
		if id > c.lastOurs {
			s.failLocked(errNotLookedAt)
			c.closeStream(s)
		}
	}
	c.mu.Unlock()
	c.changed()
	return nil
}

// onWindowUpdate takes a WINDOW_UPDATE frame (RFC 9113 6.9).
func (c *conn) onWindowUpdate(h FrameHeader, p []byte) *connError {
	if len(p) != 4 {
		return frameSize("WINDOW_UPDATE is not of 4 bytes")
	}
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.Stream == 0 {
		if n == 0 {
			return protocol("WINDOW_UPDATE of nothing")
		}
		if c.sendWin += n; c.sendWin > maxWindow {
			return &connError{FlowControlError, "window of the connection is too large", detailsUnknown}
		}
		c.wakeStarved()
		return nil
	}
	s := c.streams[h.Stream]
	switch {
	case s == nil && c.idle(h.Stream):
		return protocol("WINDOW_UPDATE on an idle stream")
	case s == nil:
		c.lateWindow(h.Stream, n)
		return nil
	}
	if code, bad := badIncrement(s.sendWin, n); bad != "" {
		return c.punish(s, code, malformed(detailsUnknown, bad))
	}
	s.sendWin += n
	s.wr.Signal()
	return nil
}

// badIncrement says what is wrong with n more for the window of a stream, "" if nothing is.
func badIncrement(window, n int64) (code ErrCode, bad string) {
	switch {
	case n == 0:
		return ProtocolError, "WINDOW_UPDATE of nothing"
	case window+n > maxWindow:
		return FlowControlError, "window of the stream is too large"
	}
	return NoError, ""
}

// resetBudget counts a stream that was reset by the peer, or because of it: one who opens
// streams only to give them up makes us work for nothing (rapid reset).
func (c *conn) resetBudget() *connError {
	if c.resetBurst == 0 || c.flood.resets.take(time.Now(), c.resetBurst, c.resetRate) {
		return nil
	}
	return &connError{EnhanceYourCalm, "too many RST_STREAM frames", detailsUnknown}
}
