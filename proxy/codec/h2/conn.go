package h2

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// conn is what both sides of a connection have in common.
type conn struct {
	sock   *netio.Conn
	opt    *Options
	lim    limits
	stats  *Stats
	server bool

	// Of the goroutine that reads.
	in      buffer.Buf
	dec     *hpack.Decoder
	head    head   // the header section that is being decoded
	block   []byte // of a header section in several frames
	blockOf FrameHeader
	inBlock bool // block is under way
	frames  int  // CONTINUATIONs of it
	selfDep bool // its HEADERS frame makes the stream depend on itself
	ready   bool // the peer's first SETTINGS have come
	flood   flood

	underscores Underscores
	resetBurst  float64 // RST_STREAM frames; 0: any number
	resetRate   float64

	mu        sync.Mutex // guards everything below, and what streams say they share
	streams   map[uint32]*stream
	err       error // why the connection carries nothing more; nil while it does
	closed    bool  // Close was called
	lastSeen  uint32
	open      int // streams in the map
	held      int // streams that were not released
	starved   []*stream
	resets    ring
	lingering []lingering // in the order of their ends

	out       queue
	writing   buffer.Buf // of who flushes, without the lock
	flushing  bool
	room      sync.Cond // writers wait for room in out
	enc       *encoder
	encBuf    []byte
	sendWin   int64
	recvWin   int64
	consumed  int64 // credit of the connection that was not given back yet
	peer      peerSettings
	timer     *time.Timer
	timerAt   time.Time
	keepalive keepalive

	rxReset, txReset *stats.Counter // see ClientOptions

	newStream func(h FrameHeader) *connError // c.head is that of a new stream
	changed   func()                         // settings, or what the peer will take; without the lock
	onTick    func(now time.Time) time.Time  // the timer; returns when to come again; with the lock; or nil
	acked     func(data uint64)              // PING was answered; with the lock
	goneAway  bool                           // the peer sent GOAWAY
	lastOurs  uint32                         // the highest stream of ours that it takes
}

// peerSettings is what the peer has said in SETTINGS.
type peerSettings struct {
	window     int64
	frame      int
	streams    uint32
	connect    bool
	tableLimit uint32
}

func (c *conn) begin(sock *netio.Conn, o *Options, headersKB int) {
	c.sock, c.opt, c.stats = sock, o, o.Stats
	if c.stats == nil {
		c.stats = &Stats{}
	}
	c.lim = o.limits(headersKB)
	c.dec = hpack.NewDecoder(minTableSize, c.onField) // until the peer knows of another size
	c.dec.SetAllowedMaxDynamicTableSize(max(c.lim.table, minTableSize))
	c.dec.SetMaxStringLength(c.lim.field)
	c.enc = newEncoder(min(c.lim.table, maxOurTableSize))
	c.room.L = &c.mu
	c.streams = map[uint32]*stream{}
	c.sendWin, c.recvWin = initialWindow, c.lim.connWindow
	c.peer = peerSettings{window: initialWindow, frame: maxFrameSize, streams: maxWindow, tableLimit: minTableSize}
	c.lastOurs = maxStreamID
	if o.Stall > 0 && sock.StallLimit() == 0 {
		sock.LimitStall(o.Stall)
	}
}

// step handles the next frame if it is at hand.
func (c *conn) step() (bool, error) {
	p, ok := c.in.Peek(frameHeaderLen)
	if !ok {
		return false, nil
	}
	h := ParseFrameHeader(p)
	if h.Length > maxFrameSize {
		return false, c.end(frameSize("frame is larger than SETTINGS_MAX_FRAME_SIZE"))
	}
	n := frameHeaderLen + int(h.Length)
	if c.in.Len() < n {
		return false, nil
	}
	if ce := c.frame(h, n); ce != nil {
		return false, c.end(ce)
	}
	return true, nil
}

// frame handles the frame at the front of c.in, n bytes with its header, and consumes
// it.
func (c *conn) frame(h FrameHeader, n int) *connError {
	if !c.ready && (h.Type != FrameSettings || h.has(FlagAck)) {
		return protocol("first frame is not SETTINGS")
	}
	if c.inBlock && (h.Type != FrameContinuation || h.Stream != c.blockOf.Stream) {
		return protocol("header section is interrupted")
	}
	if ce := c.inbound(h); ce != nil {
		return ce
	}
	if h.Type == FrameData {
		c.in.Discard(frameHeaderLen)
		return c.onData(h)
	}
	p, _ := c.in.Peek(n)
	ce := c.control(h, p[frameHeaderLen:])
	c.in.Discard(n)
	return ce
}

// control handles frames other than DATA.
func (c *conn) control(h FrameHeader, p []byte) *connError {
	switch h.Type {
	case FrameHeaders:
		return c.onHeaders(h, p)
	case FrameContinuation:
		return c.onContinuation(h, p)
	case FramePriority:
		return c.onPriority(h, p)
	case FrameRSTStream:
		return c.onReset(h, p)
	case FrameSettings:
		return c.onSettings(h, p)
	case FramePing:
		return c.onPing(h, p)
	case FrameGoAway:
		return c.onGoAway(h, p)
	case FrameWindowUpdate:
		return c.onWindowUpdate(h, p)
	case FramePushPromise:
		return protocol("PUSH_PROMISE, which was not enabled")
	case frameMetadata:
		if len(p) == 0 {
			c.stats.MetadataEmptyFrames.Inc()
		}
	}
	return nil
}

// fill sends what has become due and waits for more bytes.
func (c *conn) fill() error {
	if err := c.beforeWait(); err != nil {
		return err
	}
	_, err := c.sock.ReadBuf(&c.in)
	c.heard()
	return err
}

// beforeWait sends what has become due.
func (c *conn) beforeWait() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.flushNow()
	}
	return c.err
}

// heard notes that the peer has sent something.
func (c *conn) heard() {
	if c.opt.Keepalive.listens() {
		c.mu.Lock()
		c.keepalive.heard = time.Now()
		c.mu.Unlock()
	}
}

// end ends the connection because of what the peer did: GOAWAY with the error, as far
// as the socket takes it, and everything else fails.
func (c *conn) end(ce *connError) error {
	c.in.Release()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.goAwayLocked(c.lastSeen, ce.code)
		c.failLocked(ce)
		c.lastFlush()
	}
	return c.protocolError(ce)
}

// protocolError is what the caller of Accept, or of reads, gets for ce.
func (c *conn) protocolError(ce *connError) error {
	return &codec.ProtocolError{Details: ce.details, Reason: ce.Error()}
}

// fail ends the connection without a word.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

// failLocked makes every stream fail that is not complete.
func (c *conn) failLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	for _, s := range c.streams {
		s.failLocked(c.streamError(err))
	}
	c.room.Broadcast()
	if c.timer != nil {
		c.timer.Stop()
	}
}

// streamError is what a stream gets when its connection has failed.
func (c *conn) streamError(err error) error {
	var ce *connError
	if errors.As(err, &ce) {
		return c.protocolError(ce)
	}
	return err
}

// ErrStalled is the end of a connection whose peer has read nothing for Options.Stall
// while something had to be written, and of a stream for which it has opened no window for
// so long. Writes of streams fail with an error that is os.ErrDeadlineExceeded as well.
var ErrStalled = errors.New("h2: peer takes nothing")

// ErrIdle is what Accept returns after SetIdleTimeout. It is os.ErrDeadlineExceeded, too.
var ErrIdle = fmt.Errorf("h2: no stream for too long: %w", os.ErrDeadlineExceeded)

var errWriteStalled = fmt.Errorf("%w: %w", ErrStalled, os.ErrDeadlineExceeded)

// writeError is what a write of a stream returns for err. A read that fails with
// os.ErrDeadlineExceeded may be repeated, so only writes may say so of an end.
func writeError(err error) error {
	if err == ErrStalled {
		return errWriteStalled
	}
	return err
}

// The ends of connections that we have ended.
var (
	errDeadline  = errors.New("h2: deadline of the socket has passed")
	errClosed    = errors.New("h2: connection closed")
	errKeepalive = errors.New("h2: PING was not answered in time")
)

// closeGrace is how long Close waits for the socket to take what is queued, a GOAWAY
// for one: a peer that reads needs none of it.
const closeGrace = 250 * time.Millisecond

// close ends the connection and its socket; what is queued leaves first, if the socket
// takes it. The goroutine that reads gives back what it has read.
func (c *conn) close() error {
	c.mu.Lock()
	c.lastFlush()
	c.failLocked(errClosed)
	c.closed = true
	if !c.flushing {
		c.out.release(c.stats)
	}
	c.mu.Unlock()
	return c.sock.Close()
}

// lastFlush writes what is queued, and waits for who is doing so. The lock is held.
func (c *conn) lastFlush() {
	if !c.flushing && c.out.buf.Len() == 0 {
		return
	}
	cut := time.AfterFunc(closeGrace, c.sock.Cut)
	defer cut.Stop()
	c.flushNow()
	for c.flushing {
		c.room.Wait()
	}
}

// unexpectedEOF is the error of a connection that ended under its streams.
func unexpectedEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// arm sees to it that expire runs at t, or before. The lock is held.
func (c *conn) arm(t time.Time) {
	if t.IsZero() || c.err != nil || !c.timerAt.IsZero() && !t.Before(c.timerAt) {
		return
	}
	c.timerAt = t
	d := time.Until(t)
	if c.timer == nil {
		c.timer = time.AfterFunc(d, c.expire)
		return
	}
	c.timer.Reset(d)
}

// expire wakes the streams whose deadline has passed. There is one timer for a
// connection, and it is only ever moved to an earlier time: a stream that sets a
// deadline, as every exchange does, costs a comparison.
func (c *conn) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.timerAt = time.Time{}
	now := time.Now()
	var next time.Time
	soonest := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, s := range c.streams {
		if s.readBy.After(now) {
			soonest(s.readBy)
		} else if !s.readBy.IsZero() {
			s.rd.Signal()
		}
		if s.stallBy.After(now) {
			soonest(s.stallBy)
		} else if !s.stallBy.IsZero() {
			s.wr.Signal()
		}
	}
	soonest(c.keepalive.tick(c, now))
	if c.onTick != nil {
		soonest(c.onTick(now))
	}
	soonest(c.endLingering(now))
	c.arm(next)
	c.flushNow()
}
