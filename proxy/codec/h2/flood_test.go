package h2

import (
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/netio"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// attack is what a hostile client does, and what it gets.
type attack struct {
	name  string
	opt   ServerOptions
	deaf  bool                          // it reads nothing
	step  func(p *peerOf, i int) error  // done over and over
	code  ErrCode                       // of the GOAWAY; a deaf one is cut off without
	stat  func(s *Stats) *stats.Counter // counts at least one; nil: none does
	serve func(codec.ServerStream)      // nil: answer
	limit int                           // steps after which the connection must be over; 0: 100,000
}

func odd(i int) uint32 { return uint32(2*i + 1) }

func window(v uint32) http2.Setting { return http2.Setting{ID: http2.SettingInitialWindowSize, Val: v} }

var attacks = []attack{{
	name: "rapid reset", code: EnhanceYourCalm, limit: 20_000,
	step: func(p *peerOf, i int) error {
		if err := p.request(odd(i), false); err != nil {
			return err
		}
		return p.fr.WriteRSTStream(odd(i), http2.ErrCodeCancel)
	},
	stat: func(s *Stats) *stats.Counter { return &s.RxReset },
}, {
	name: "made to reset", code: EnhanceYourCalm, limit: 20_000,
	step: func(p *peerOf, i int) error {
		if err := p.request(odd(i), false); err != nil {
			return err
		}
		return p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, odd(i), make([]byte, 4))
	},
	stat: func(s *Stats) *stats.Counter { return &s.TxReset },
}, {
	name: "malformed requests", code: EnhanceYourCalm, limit: 20_000, opt: ServerOptions{Options: Options{StreamErrors: true}},
	step: func(p *peerOf, i int) error { return p.request(odd(i), true, ":method", "GET") },
	stat: func(s *Stats) *stats.Counter { return &s.MessagingError },
}, {
	name: "CONTINUATION without end", code: EnhanceYourCalm, limit: 100,
	step: func(p *peerOf, i int) error {
		if i == 0 {
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block()})
		}
		return p.fr.WriteContinuation(1, false, make([]byte, 16))
	},
	stat: func(s *Stats) *stats.Counter { return &s.HeaderOverflow },
}, {
	name: "empty CONTINUATION", code: EnhanceYourCalm, limit: 10,
	step: func(p *peerOf, i int) error {
		if i == 0 {
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block()})
		}
		return p.fr.WriteContinuation(1, false, nil)
	},
	stat: func(s *Stats) *stats.Counter { return &s.EmptyFlood },
}, {
	name: "long CONTINUATION", code: EnhanceYourCalm, limit: 10,
	step: func(p *peerOf, i int) error {
		if i == 0 {
			return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block()})
		}
		return p.fr.WriteContinuation(1, false, make([]byte, 16<<10))
	},
	stat: func(s *Stats) *stats.Counter { return &s.HeaderOverflow },
}, {
	name: "empty DATA", code: EnhanceYourCalm, limit: 10,
	step: func(p *peerOf, i int) error {
		if i == 0 {
			return p.request(1, false)
		}
		return p.fr.WriteData(1, false, nil)
	},
	stat: func(s *Stats) *stats.Counter { return &s.EmptyFlood },
}, {
	name: "PRIORITY", code: EnhanceYourCalm, limit: 1000,
	step: func(p *peerOf, i int) error {
		return p.fr.WritePriority(odd(i), http2.PriorityParam{StreamDep: 0, Weight: 1})
	},
	stat: func(s *Stats) *stats.Counter { return &s.PriorityFlood },
}, {
	name: "WINDOW_UPDATE", code: EnhanceYourCalm, limit: 1000,
	step: func(p *peerOf, i int) error { return p.fr.WriteWindowUpdate(0, 1) },
	stat: func(s *Stats) *stats.Counter { return &s.WindowUpdateFlood },
}, {
	name: "WINDOW_UPDATE of a stream", code: EnhanceYourCalm, limit: 1000,
	step: func(p *peerOf, i int) error {
		if i == 0 {
			return p.request(1, false)
		}
		return p.fr.WriteWindowUpdate(1, 1)
	},
	stat: func(s *Stats) *stats.Counter { return &s.WindowUpdateFlood },
}, {
	name: "SETTINGS, unanswered", deaf: true,
	step: func(p *peerOf, i int) error { return p.fr.WriteSettings(window(uint32(i % 1000))) },
	stat: func(s *Stats) *stats.Counter { return &s.OutboundControlFlood },
}, {
	name: "PING, unanswered", deaf: true,
	step: func(p *peerOf, i int) error { return p.fr.WritePing(false, [8]byte{}) },
	stat: func(s *Stats) *stats.Counter { return &s.OutboundControlFlood },
}, {
	name: "too many parameters", code: EnhanceYourCalm, limit: 1,
	step: func(p *peerOf, i int) error {
		return p.fr.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, settingLen*(maxSettings+1)))
	},
}, {
	// Streams beyond the limit are refused with control frames, whose own limit must not come first.
	name: "responses that nobody reads", deaf: true,
	opt:  ServerOptions{Options: Options{MaxOutboundFrames: 2000, MaxOutboundControl: 4000}},
	step: func(p *peerOf, i int) error { return p.request(odd(i), true) },
	stat: func(s *Stats) *stats.Counter { return &s.OutboundFlood },
}, {
	name: "field that is too long", code: CompressionError, limit: 1,
	opt:  ServerOptions{Options: Options{MaxHeaderFieldKB: 1}},
	step: func(p *peerOf, i int) error { return p.request(1, true, "x", strings.Repeat("x", 2<<10)) },
}, {
	name: "garbage of HPACK", code: CompressionError, limit: 1,
	step: func(p *peerOf, i int) error {
		return p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true})
	},
}, {
	name: "more than the window", code: FlowControlError, limit: 5000,
	opt: ServerOptions{Options: Options{InitialConnectionWindow: 65535, InitialStreamWindow: 65535}},
	step: func(p *peerOf, i int) error {
		if i%2 == 0 {
			return p.request(odd(i/2), false)
		}
		return p.fr.WriteData(odd(i/2), false, make([]byte, 1000))
	},
	serve: func(st codec.ServerStream) { <-st.(*ServerStream).conn.gone() },
}}

// gone is closed when the connection has ended.
func (s *ServerConn) gone() <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.mu.Lock()
		defer s.mu.Unlock()
		for s.err == nil {
			s.room.Wait()
		}
	}()
	return over
}

// TestAttacks: what costs a client little ends its connection before it costs us much.
func TestAttacks(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) { a.run(t) })
	}
}

func (a attack) run(t *testing.T) {
	x, y := pair(t)
	st := &Stats{}
	a.opt.Stats = st
	s := NewServer(netio.NewConn(y), a.opt)
	h := a.serve
	if h == nil {
		h = answer
	}
	before := heap()
	var all sync.WaitGroup
	defer all.Wait()
	defer x.Close()
	all.Go(func() { _ = acceptAll(s, h) })
	p := newPeer(t, x)
	code := make(chan ErrCode, 1)
	if !a.deaf {
		all.Go(func() { code <- p.goAway() })
	}
	most := a.limit
	if most == 0 {
		most = 100_000
	}
	if err := a.flood(p, s, most); err == nil {
		var ended bool
		if !a.deaf {
			ended = <-code == a.code
		}
		if !ended {
			t.Fatalf("still there after %d steps", most)
		}
	} else if !a.deaf {
		if got := <-code; got != a.code {
			t.Errorf("error code %d, want %d", got, a.code)
		}
	}
	if a.stat != nil && a.stat(st).Value() == 0 {
		t.Error("was not counted")
	}
	if now := heap(); now > before+4<<20 {
		t.Errorf("%d KiB more in use", (now-before)>>10)
	}
}

// flood attacks until there is an error, or n times, and checks what it makes the server
// hold.
func (a attack) flood(p *peerOf, s *ServerConn, n int) error {
	for i := range n {
		if err := a.step(p, i); err != nil {
			return err
		}
		if i%64 > 0 {
			continue
		}
		s.mu.Lock()
		queued, held := s.out.buf.Len(), s.held
		s.mu.Unlock()
		if most := int(s.lim.streams) + heldBeyond; queued > 2*maxQueued || held > most {
			p.t.Fatalf("%d bytes queued, %d streams held after %d steps", queued, held, i)
		}
	}
	return nil
}
