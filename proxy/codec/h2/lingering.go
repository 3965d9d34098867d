package h2

import (
	"slices"
	"time"
)

// A response that is complete before its request has come to us in full leaves a stream
// that nobody serves. RST_STREAM with NO_ERROR may end it (RFC 9113 8.1), but there are
// clients that lose the response then, though they were about to end by themselves. So what
// still comes is thrown away for a while, and gets no new window.
const (
	lingerFor    = time.Second
	maxLingering = 64 // on a connection; beyond, they are reset at once
)

// lingering is a stream of which only the end of the request is missing.
type lingering struct {
	id    uint32
	left  int64 // of the window that the client has
	room  int64 // of ours, which nothing needs any more
	body  int64 // what is missing of it by content-length; -1: not known
	until time.Time
}

// linger takes over a stream whose response is complete. It reports false if there are too
// many, or nothing more may come. The lock is held.
func (c *conn) linger(s *stream) bool {
	if c.err != nil || s.recvWin <= 0 || len(c.lingering) >= maxLingering {
		return false
	}
	until := time.Now().Add(lingerFor)
	c.lingering = append(c.lingering, lingering{s.id, s.recvWin, s.sendWin, s.left, until})
	c.closeStream(s)
	c.arm(until)
	return true
}

// late takes a frame for a stream that may be lingering, of which size bytes count for the
// window and n are of the body, and reports whether it is. The lock is held.
func (c *conn) late(h FrameHeader, size, n int) bool {
	for i := range c.lingering {
		l := &c.lingering[i]
		if l.id != h.Stream {
			continue
		}
		l.left -= int64(size)
		end := h.has(FlagEndStream)
		switch {
		case h.Type == FrameRSTStream:
		case h.Type == FrameHeaders && !end:
			c.resetLocked(l.id, ProtocolError)
		case l.left < 0:
			c.resetLocked(l.id, FlowControlError)
		case l.body >= 0 && (int64(n) > l.body || end && int64(n) < l.body):
			c.stats.MessagingError.Inc()
			c.resetLocked(l.id, ProtocolError)
		case end:
		case l.left == 0:
			c.resetLocked(l.id, NoError)
		default:
			if l.body >= 0 {
				l.body -= int64(n)
			}
			return true
		}
		c.lingering = slices.Delete(c.lingering, i, i+1)
		return true
	}
	return false
}

// lateWindow takes a WINDOW_UPDATE for a stream that may be lingering: what is wrong with one
// is wrong there, too. The lock is held.
func (c *conn) lateWindow(id uint32, n int64) {
	i := slices.IndexFunc(c.lingering, func(l lingering) bool { return l.id == id })
	if i < 0 {
		return
	}
	if code, bad := badIncrement(c.lingering[i].room, n); bad != "" {
		c.resetLocked(id, code)
		c.lingering = slices.Delete(c.lingering, i, i+1)
		return
	}
	c.lingering[i].room += n
}

// endLingering resets those whose time is up and returns when that of the next one is. The
// lock is held.
func (c *conn) endLingering(now time.Time) time.Time {
	n := 0
	for n < len(c.lingering) && !c.lingering[n].until.After(now) {
		c.resetLocked(c.lingering[n].id, NoError)
		n++
	}
	c.lingering = append(c.lingering[:0], c.lingering[n:]...)
	if len(c.lingering) == 0 {
		return time.Time{}
	}
	return c.lingering[0].until
}
