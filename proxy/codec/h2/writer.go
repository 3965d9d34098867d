package h2

import (
	"encoding/binary"
	"errors"
	"runtime"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// maxQueued is how many bytes wait to be written at most before those who write wait
// for room: what the peer does not read stays with whoever produces it.
const maxQueued = 64 << 10

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
// doing so already. The lock is held, and given up while the socket is written to.
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
	c.drain()
}

// drain is flush by who has set c.flushing.
func (c *conn) drain() {
	for {
		if !c.take() {
			break
		}
		c.mu.Unlock()
		err := c.sock.WriteBuf(&c.writing)
		c.mu.Lock()
		if !c.wrote(err) {
			break
		}
	}
	c.flushed()
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
}

func (c *conn) writeFailed(err error) {
	if isTimeout(err) {
		c.stats.TxFlushTimeout.Inc()
	}
	c.failLocked(err)
	c.sock.Cut() // the goroutine that reads learns of it
}

// flushFromReader is flush by the goroutine that reads, which must not wait for a peer
// that waits for it: what the socket does not take is left to another goroutine.
func (c *conn) flushFromReader() {
	if c.flushing {
		return
	}
	c.flushing = true
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

func (c *conn) drainAlone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
}

// waitRoom waits until the queue is short enough for more. The lock is held.
func (c *conn) waitRoom() {
	for c.out.buf.Len() >= maxQueued && c.err == nil {
		if !c.flushing {
			c.flush()
			continue
		}
		c.room.Wait()
	}
}

// encoderOut is where the HPACK encoder writes.
type encoderOut conn

func (e *encoderOut) Write(p []byte) (int, error) {
	e.encBuf = append(e.encBuf, p...)
	return len(p), nil
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
