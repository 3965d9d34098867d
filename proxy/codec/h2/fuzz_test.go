package h2

import (
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/mecha-mesh/mecha/proxy/netio"
)

// script is a peer that has said everything already, as soon as it may.
type script struct {
	net.Conn
	in    []byte
	piece int // bytes in a read
	may   <-chan struct{}
	mu    sync.Mutex
	wrote int
	cut   bool
}

func (s *script) Read(p []byte) (int, error) {
	<-s.may
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.in[:min(len(s.in), s.piece)])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return 0, net.ErrClosed
	}
	s.wrote += len(p)
	return len(p), nil
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	return nil
}

func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// frames makes frames of what a fuzzer says: the first byte of each says which, the next
// ones about what.
type frames struct {
	code   []byte
	out    []byte
	enc    *hpack.Encoder
	block  blockBuf
	next   uint32 // stream that is opened next
	server bool   // responses are written, not requests
}

func (f *frames) byte() byte {
	if len(f.code) == 0 {
		return 0
	}
	b := f.code[0]
	f.code = f.code[1:]
	return b
}

func (f *frames) bytes(n int) []byte {
	n = min(n, len(f.code))
	p := f.code[:n]
	f.code = f.code[n:]
	return p
}

// stream is 0, one that is open, or one that is not.
func (f *frames) stream() uint32 { return uint32(f.byte()) % (f.next + 4) }

func (f *frames) put(t FrameType, flags uint8, stream uint32, p []byte) {
	f.out = AppendFrameHeader(f.out, FrameHeader{Length: uint32(len(p)), Type: t, Flags: flags, Stream: stream})
	f.out = append(f.out, p...)
}

// fuzzFields is what heads are made of: good ones, bad ones, and such as only belong
// somewhere else.
var fuzzFields = [][2]string{
	{":method", "POST"}, {":method", "HEAD"}, {":method", "CONNECT"}, {":protocol", "websocket"}, {":path", "*"}, {":path", ""},
	{":status", "200"}, {":status", "100"}, {":status", "101"}, {":status", "204"}, {":status", "x"}, {"content-length", "5"},
	{"content-length", "0"}, {"content-length", "-1"}, {"te", "trailers"}, {"te", "gzip"}, {"connection", "close"}, {"Upper", "x"},
	{"", "x"}, {"x", ""}, {"x", " y"}, {"x", "a\nb"}, {"cookie", "a=b"}, {"cookie", "c=d"}, {"host", "b"}, {"host", ""}, {"x_y", "z"},
	{"transfer-encoding", "chunked"}, {"expect", "100-continue"}, {":authority", "b"}, {":unknown", "x"}, {"trailer", "x"},
}

func (f *frames) head(trailers bool) []byte {
	f.block = f.block[:0]
	add := func(name, value string) { _ = f.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) }
	switch kind := f.byte(); {
	case trailers || kind%8 == 7:
	case f.server:
		add(":status", "200")
	default:
		add(":method", "GET")
		add(":scheme", "http")
		add(":path", "/")
		add(":authority", "a")
	}
	for n := f.byte() % 4; n > 0; n-- {
		p := fuzzFields[int(f.byte())%len(fuzzFields)]
		add(p[0], p[1])
	}
	return f.block
}

func (f *frames) step() {
	var p [8]byte
	switch op := f.byte(); op % 14 {
	case 0, 1, 2:
		id := f.next
		f.next += 2
		f.put(FrameHeaders, f.byte()&FlagEndStream|FlagEndHeaders, id, f.head(false))
	case 3:
		f.put(FrameHeaders, FlagEndStream|FlagEndHeaders, f.stream(), f.head(true))
	case 4, 5:
		id, n := f.stream(), int(f.byte())*int(f.byte())%maxFrameSize
		f.put(FrameData, f.byte()&(FlagEndStream|FlagPadded), id, make([]byte, n))
	case 6:
		f.put(FrameRSTStream, 0, f.stream(), append(p[:0], 0, 0, 0, f.byte()))
	case 7:
		id, shift := f.stream(), f.byte()%31
		f.put(FrameWindowUpdate, 0, id, binary.BigEndian.AppendUint32(p[:0], uint32(f.byte())<<shift))
	case 8:
		set := binary.BigEndian.AppendUint16(p[:0], uint16(f.byte()%10))
		shift := f.byte() % 32
		f.put(FrameSettings, f.byte()&FlagAck, 0, binary.BigEndian.AppendUint32(set, uint32(f.byte())<<shift))
	case 9:
		f.put(FramePing, f.byte()&FlagAck, 0, p[:])
	case 10:
		f.put(FrameGoAway, 0, 0, binary.BigEndian.AppendUint32(p[:4], uint32(f.byte())))
	case 11:
		id := f.stream()
		h := f.head(false)
		cut := int(f.byte()) % (len(h) + 1)
		f.put(FrameHeaders, f.byte()&FlagEndStream, id, h[:cut])
		f.put(FrameContinuation, f.byte()&FlagEndHeaders, id, h[cut:])
	case 12:
		id := f.next
		f.put(FrameHeaders, f.byte()&(FlagEndStream|FlagPadded|FlagPriority)|FlagEndHeaders, id, f.bytes(int(f.byte())))
		f.next += 2
	default:
		t, flags, id := FrameType(f.byte()), f.byte(), f.stream()
		f.put(t, flags, id, f.bytes(int(f.byte())))
	}
}

// play makes the bytes of a peer.
func play(code []byte, preface string, server bool) []byte {
	f := &frames{code: code, out: []byte(preface), next: 1, server: server}
	f.enc = hpack.NewEncoder(&f.block)
	f.put(FrameSettings, 0, 0, nil)
	for len(f.code) > 0 && len(f.out) < 1<<20 {
		f.step()
	}
	return f.out
}

func now() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// seeds are for both sides.
func seeds(f *testing.F) {
	f.Add(byte(200), []byte{})
	f.Add(byte(7), []byte{0, 1, 0, 0, 4, 1, 5, 5, 1, 3, 1, 0, 0})
	f.Add(byte(50), []byte{0, 0, 0, 2, 0, 11, 4, 1, 9, 9, 0, 4, 1, 100, 100, 1, 7, 1, 0, 5, 7, 0, 31, 255})
	f.Add(byte(90), []byte{8, 4, 0, 0, 0, 0, 1, 0, 0, 8, 4, 16, 0, 200, 6, 1, 8, 9, 0, 10, 3, 11, 1, 0, 0, 5, 1, 4})
	f.Add(byte(255), []byte{12, 0, 5, 0x82, 0x86, 0x84, 0x41, 0x01, 13, 0x4d, 0, 1, 0, 13, 2, 0, 1, 5, 0, 0, 0, 0, 1})
}

// FuzzServer: whatever a client sends, nothing panics, and nothing stays behind.
func FuzzServer(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, piece byte, code []byte) {
		st := &Stats{}
		o := ServerOptions{Underscores: Underscores(piece % 3), Options: Options{Stats: st, StreamErrors: piece%2 == 0,
			AllowConnect: piece%5 == 0, InitialStreamWindow: 65535 << (piece % 4), MaxConcurrentStreams: 20}}
		c := &script{in: play(code, clientPreface, false), piece: int(piece)*int(piece) + 1, may: now()}
		s := NewServer(netio.NewConn(c), o)
		_ = acceptAll(s, echo)
		settled(t, &s.conn, st)
	})
}

// FuzzClient: the same for what a server sends.
func FuzzClient(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, piece byte, code []byte) {
		st := &Stats{}
		may := make(chan struct{})
		c := &script{in: play(code, "", true), piece: int(piece)*int(piece) + 1, may: may}
		s := NewClient(netio.NewConn(c), ClientOptions{Options: Options{Stats: st, StreamErrors: piece%2 == 0}})
		var all sync.WaitGroup
		var open []func()
		for i := range 4 {
			cs, err := s.Open(noContext)
			if err != nil {
				break // it may not be read yet, but it may have ended
			}
			q := get(":method", []string{"GET", "POST", "GET", "HEAD"}[i])
			if err := cs.WriteHeaders(q, i != 1); err != nil {
				cs.Release()
				break
			}
			open = append(open, func() {
				defer cs.Release()
				if i == 1 {
					_ = cs.WriteData(bufOf(string(make([]byte, 100_000))), true)
				}
				_, _ = read(cs)
			})
		}
		close(may)
		for _, h := range open {
			all.Go(h)
		}
		all.Wait()
		_ = s.Close()
		settled(t, &s.conn, st)
	})
}

// settled checks that a connection that is over holds nothing.
func settled(t *testing.T, c *conn, st *Stats) {
	t.Helper()
	for busy := true; busy; runtime.Gosched() {
		c.mu.Lock()
		busy = c.flushing
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in.Len()+c.out.buf.Len()+c.writing.Len() != 0 || c.held != 0 || c.open != 0 || len(c.streams)+len(c.starved) != 0 {
		t.Errorf("left: %d bytes read, %d+%d queued, %d held, %d open, %d and %d listed", c.in.Len(), c.out.buf.Len(), c.writing.Len(),
			c.held, c.open, len(c.streams), len(c.starved))
	}
	for name, v := range map[string]int64{"streams_active": st.StreamsActive.Value(), "pending_send_bytes": st.PendingSendBytes.Value(),
		"deferred_stream_close": st.DeferredStreamClose.Value(), "outbound_frames_active": st.OutboundFrames.Value(),
		"outbound_control_frames_active": st.OutboundControl.Value()} {
		if v != 0 {
			t.Errorf("%s is %d", name, v)
		}
	}
}
