package h2

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// ClientConn is the client side of a connection. It may be used by any number of
// goroutines.
type ClientConn struct {
	conn
	opt    ClientOptions
	nextID uint32 // the lock guards it
	used   bool   // and this
	notify atomic.Pointer[func()]
	over   chan struct{} // closed when nothing reads any more
}

// NewClient takes over c. From here on a goroutine reads it, until Close or the
// connection's end. Our preface leaves with the first stream, or when that goroutine is
// about to wait, whichever comes first.
func NewClient(c *netio.Conn, o ClientOptions) *ClientConn {
	s := &ClientConn{opt: o, nextID: 1, over: make(chan struct{})}
	s.begin(c, &s.opt.Options, DefaultMaxResponseHeadersKB)
	s.rxReset, s.txReset = o.RxReset, o.TxReset
	s.newStream, s.changed, s.acked = nil, s.tell, s.pong
	s.out.buf.AppendString(clientPreface)
	s.sendSettings(Setting{settingEnablePush, 0}, Setting{settingMaxStreams, s.lim.streams})
	s.mu.Lock()
	s.keepalive.start(&s.conn, time.Now())
	s.mu.Unlock()
	go s.loop()
	return s
}

// loop reads until the connection is over.
func (s *ClientConn) loop() {
	defer close(s.over)
	err := s.beforeWait()
	if err == nil {
		var bad error
		err = s.sock.ReadShared(&s.in, func() bool {
			s.heard()
			bad = s.serve()
			return bad == nil
		})
		err = cmp.Or(bad, err)
	}
	s.in.Release()
	s.fail(lost(err))
	s.tell()
}

// serve handles the frames that are at hand, and sends what came of them.
func (s *ClientConn) serve() error {
	for {
		switch more, err := s.step(); {
		case err != nil:
			return err
		case !more:
			return s.beforeWait()
		}
	}
}

// lost is the error of streams whose connection ended.
func lost(err error) error {
	if err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Watch implements codec.Multiplexed.
func (s *ClientConn) Watch(changed func()) {
	s.notify.Store(&changed)
	if s.Draining() {
		changed()
	}
}

func (s *ClientConn) tell() {
	if f := s.notify.Load(); f != nil {
		(*f)()
	}
}

var errNoStreams = errors.New("h2: the peer allows no streams")

// Open implements codec.ClientConn. It does not wait: codec.ErrFull says that there is no
// room, unless the peer allows no stream at all, so that another connection is no help. The stream takes its place among
// those that the peer allows at once, and its number when the head is written.
func (s *ClientConn) Open(ctx context.Context) (codec.ClientStream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free() <= 0 {
		if s.err != nil {
			return nil, s.streamError(s.err)
		}
		if s.peer.streams == 0 {
			return nil, errNoStreams
		}
		return nil, codec.ErrFull
	}
	st := pools.client.Get().(*ClientStream)
	st.stream.begin(&s.conn)
	st.conn = s
	s.held++
	return st, nil
}

// Free implements codec.ClientConn.
func (s *ClientConn) Free() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free()
}

func (s *ClientConn) free() int { return max(s.limit()-s.held, 0) }

// Limit implements codec.Multiplexed.
func (s *ClientConn) Limit() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit()
}

func (s *ClientConn) limit() int {
	if s.drains() {
		return 0
	}
	return int(min(s.peer.streams, s.lim.streams))
}

// drains reports that no stream will be opened any more.
func (s *ClientConn) drains() bool { return s.err != nil || s.goneAway || s.usedUp() }

func (s *ClientConn) usedUp() bool { return s.nextID > s.lastNumber() }

// lastNumber is up to where streams are opened. Numbers are given when heads are written,
// to at most as many streams as are open: so many are kept back.
func (s *ClientConn) lastNumber() uint32 {
	return maxStreamID - 2*min(s.lim.streams, maxStreamID/4)
}

// Used implements codec.ClientConn.
func (s *ClientConn) Used() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Alive implements codec.ClientConn.
func (s *ClientConn) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil
}

// Draining implements codec.Multiplexed.
func (s *ClientConn) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drains()
}

// ConnectAllowed reports whether the peer understands extended CONNECT, as far as it
// has said so yet (SETTINGS_ENABLE_CONNECT_PROTOCOL).
func (s *ClientConn) ConnectAllowed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peer.connect
}

func (s *ClientConn) pong(uint64) { s.keepalive.pong(&s.conn, time.Now()) }

// Close implements codec.ClientConn. Streams that are under way fail. It returns when
// nothing reads the connection any more.
func (s *ClientConn) Close() error {
	s.mu.Lock()
	if s.err == nil && !s.closed {
		s.goAwayLocked(0, NoError)
	}
	s.mu.Unlock()
	err := s.close()
	<-s.over
	return err
}

var _ codec.Multiplexed = (*ClientConn)(nil)
