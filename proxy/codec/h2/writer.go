package h2

import (
	"encoding/binary"
	"errors"
	"runtime"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// maxQueued is how many bytes wait to be written at most before those who write wait
// for room: what the peer does not read stays with whoever produces it.
const maxQueued = 64 << 10

// maxQueuedHeads is with how many bytes that wait to be written a host gets no more requests.
// Bodies wait long before, so these are heads, of more streams than a host reads in time if
// it is still so after headPatience.
const (
	maxQueuedHeads = 1 << 20
	headPatience   = time.Second
)

// copyData is up to which size the payload of a DATA frame is copied behind its
// header: one piece more for the system call costs about as much.
const copyData = 1 << 10

// queue is the frames that wait to be written. The connection's lock guards it.
type queue struct {
	buf     buffer.Buf
	frames  uint32 // in buf
	control uint32 // of them PING, SETTINGS and RST_STREAM
	busy    uint32 // frames that are being written
	busyCtl uint32
}

// add counts a frame, and ends the connection if that is one too many.
func (c *conn) add(control bool) {
	q := &c.out
	q.frames++
	c.stats.OutboundFrames.Inc()
	if control {
		q.control++
		c.stats.OutboundControl.Inc()
	}
	switch {
	case c.err != nil:
	case q.control+q.busyCtl > c.lim.control:
		c.stats.OutboundControlFlood.Inc()
		c.failLocked(&connError{EnhanceYourCalm, "too many control frames wait to be written", detailsOutbound})
		c.sock.Cut()
	case q.frames+q.busy > c.lim.out:
		c.stats.OutboundFlood.Inc()
		c.failLocked(&connError{EnhanceYourCalm, "too many frames wait to be written", detailsOutbound})
		c.sock.Cut()
	}
}

func (q *queue) release(st *Stats) {
	q.buf.Release()
	q.settle(st, &q.frames, &q.control)
}

// settle counts frames that are gone.
func (q *queue) settle(st *Stats, frames, control *uint32) {
	st.OutboundFrames.Add(-int64(*frames))
	if *control > 0 {
		st.OutboundControl.Add(-int64(*control))
	}
	*frames, *control = 0, 0
}

// put appends a frame with a short payload.
func (c *conn) put(h FrameHeader, payload []byte, control bool) {
	if c.err != nil {
		return
	}
	h.Length = uint32(len(payload))
	var hdr [frameHeaderLen]byte
	c.out.buf.Append(AppendFrameHeader(hdr[:0], h))
	c.out.buf.Append(payload)
	c.add(control)
}

func (c *conn) putUint32(t FrameType, stream, v uint32, control bool) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], v)
	c.put(FrameHeader{Type: t, Stream: stream}, p[:], control)
}

// resetLocked queues a RST_STREAM.
func (c *conn) resetLocked(stream uint32, code ErrCode) {
	c.stats.TxReset.Inc()
	c.resets.add(stream)
	c.putUint32(FrameRSTStream, stream, uint32(code), true)
}

func (c *conn) goAwayLocked(last uint32, code ErrCode) {
	c.stats.GoawaySent.Inc()
	var p [8]byte
	binary.BigEndian.PutUint32(p[:], last)
	binary.BigEndian.PutUint32(p[4:], uint32(code))
	c.put(FrameHeader{Type: FrameGoAway}, p[:], false)
}

// flush sends what is queued, and what others queue meanwhile, unless somebody is
// doing so already. The lock is held, and given up while the socket is written to. What a
// socket that is full does not take is left to another goroutine: whoever writes to a
// stream can be called off, whatever the peer does to the connection.
func (c *conn) flush() {
	if c.flushing || c.out.buf.Len() == 0 {
		return
	}
	c.flushing = true
	if c.open > 1 && c.err == nil {
		// Others that are about to write, too, get the chance: their frames leave with ours.
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	if c.sock.Tries() {
		c.tryDrain()
	} else {
		c.drain()
	}
}

// drain is flush by who has set c.flushing.
func (c *conn) drain() {
	for c.take() && c.writeBatch() {
	}
	c.flushed()
}

// writeBatch waits until the batch is written, and reports whether it was.
func (c *conn) writeBatch() bool {
	c.mu.Unlock()
	err := c.sock.WriteBuf(&c.writing)
	c.mu.Lock()
	return c.wrote(err)
}

// take makes what is queued the next batch, and reports whether there is one.
func (c *conn) take() bool {
	q := &c.out
	c.writing.MoveAll(&q.buf)
	q.busy, q.frames = q.busy+q.frames, 0
	q.busyCtl, q.control = q.busyCtl+q.control, 0
	return c.writing.Len() > 0
}

// wrote is called when a batch was written, or not.
func (c *conn) wrote(err error) bool {
	c.out.settle(c.stats, &c.out.busy, &c.out.busyCtl)
	if err != nil {
		c.writing.Release()
		c.writeFailed(err)
		return false
	}
	c.room.Broadcast()
	return true
}

// flushed ends a flush.
func (c *conn) flushed() {
	c.flushing = false
	if c.closed || c.err != nil {
		c.out.release(c.stats)
	}
	c.room.Broadcast()
}

func (c *conn) writeFailed(err error) {
	if netio.IsTimeout(err) {
		c.stats.TxFlushTimeout.Inc()
		err = ErrStalled
	}
	c.failLocked(err)
	c.sock.Cut() // the goroutine that reads learns of it
}

// flushNow is flush by those who must not wait for the socket: the goroutine that reads,
// as the peer may wait for it, and who gives up a stream.
func (c *conn) flushNow() {
	if c.flushing || c.out.buf.Len() == 0 {
		return
	}
	c.flushing = true
	c.tryDrain()
}

// tryDrain is drain that leaves what the socket does not take to another goroutine.
func (c *conn) tryDrain() {
	for c.take() {
		c.mu.Unlock()
		err := c.sock.TryWriteBuf(&c.writing)
		c.mu.Lock()
		if errors.Is(err, netio.ErrWouldBlock) {
			go c.drainAlone()
			return
		}
		if !c.wrote(err) {
			break
		}
	}
	c.flushed()
}

// drainAlone goes on with what tryDrain has left, which may be in the socket's own hands.
func (c *conn) drainAlone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.writeBatch() {
		c.flushed()
		return
	}
	c.drain()
}

// waitRoom waits until the queue is short enough for more. The lock is held.
func (c *conn) waitRoom(s *stream) {
	for c.queueFull() && s.err == nil && c.err == nil && !s.stopped {
		if !c.flushing {
			c.flush()
			continue
		}
		c.room.Wait()
	}
}

// waitHeads waits for a while until there is room for a head, and reports whether there is
// none. The lock is held.
func (c *conn) waitHeads() (full bool) {
	if c.out.buf.Len() < maxQueuedHeads {
		return false
	}
	end := time.Now().Add(headPatience)
	wake := time.AfterFunc(headPatience, c.room.Broadcast)
	defer wake.Stop()
	for c.err == nil && c.out.buf.Len() >= maxQueuedHeads && time.Now().Before(end) {
		c.flush()
		if c.flushing {
			c.room.Wait()
		}
	}
	return c.out.buf.Len() >= maxQueuedHeads
}

// queueFull reports whether those who write must wait. Small frames are limited by number:
// what the peer can be blamed for (max_outbound_frames) must not be our own doing.
func (c *conn) queueFull() bool {
	q := &c.out
	return q.buf.Len() >= maxQueued || q.frames+q.busy > c.lim.out/2
}

// putBlock queues the header section in c.encBuf as a HEADERS frame and as many
// CONTINUATION frames as it takes. It returns the bytes on the wire.
func (c *conn) putBlock(stream uint32, end bool) int {
	p := c.encBuf
	h := FrameHeader{Type: FrameHeaders, Stream: stream}
	if end {
		h.Flags |= FlagEndStream
	}
	size := 0
	for first := true; first || len(p) > 0; first = false {
		n := min(len(p), c.peer.frame)
		if n == len(p) {
			h.Flags |= FlagEndHeaders
		}
		c.put(h, p[:n], false)
		size += frameHeaderLen + n
		p = p[n:]
		h = FrameHeader{Type: FrameContinuation, Stream: stream}
	}
	c.encBuf = c.encBuf[:0]
	return size
}
