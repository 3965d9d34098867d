package h2

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/mecha-mesh/mecha/proxy/codec"
)

// early answers and does not read the request.
func early(st codec.ServerStream) {
	if st.WriteHeaders(reply("200"), false) == nil {
		_ = st.WriteData(bufOf("hello"), true)
	}
}

// quiet sends a PING and fails if a stream was reset, or the connection ended, before the
// answer.
func (p *peerOf) quiet() {
	p.t.Helper()
	if err := p.fr.WritePing(false, [8]byte{1}); err != nil {
		p.t.Fatal(err)
	}
	err := p.read(func(f http2.Frame) bool {
		switch f.Header().Type {
		case http2.FrameRSTStream, http2.FrameGoAway:
			p.t.Errorf("%v", f)
		}
		return f.Header().Type == http2.FramePing
	})
	if err != nil {
		p.t.Error(err)
	}
}

// lingers waits until n streams do.
func lingers(s *ServerConn, n int) {
	for ok := false; !ok; {
		s.mu.Lock()
		ok = s.held == 0 && len(s.lingering) == n
		s.mu.Unlock()
	}
}

// TestEarlyResponse: a client whose response was complete before its request may end that
// by itself, in every way in which a request ends.
func TestEarlyResponse(t *testing.T) {
	a, b := pair(t)
	s := serve(t, b, ServerOptions{}, early)
	p := newPeer(t, a)
	for i, end := range []func(id uint32) error{
		func(id uint32) error { return p.fr.WriteData(id, true, []byte("body")) },
		func(id uint32) error { return p.request(id, true, "x-trailer", "x") },
		func(id uint32) error { return p.fr.WriteRSTStream(id, http2.ErrCodeNo) },
	} {
		id := odd(i)
		if err := p.request(id, false); err != nil {
			t.Fatal(err)
		}
		p.answered(id)
		lingers(s, 1)
		if err := p.fr.WriteData(id, false, []byte("body")); err != nil {
			t.Fatal(err)
		}
		p.quiet()
		if err := end(id); err != nil {
			t.Fatal(err)
		}
		p.quiet()
		lingers(s, 0)
	}
}

// TestEarlyResponseChecksWindows: a WINDOW_UPDATE is wrong (RFC 9113 6.9) whether it comes
// before the response is complete or after.
func TestEarlyResponseChecksWindows(t *testing.T) {
	a, b := pair(t)
	s := serve(t, b, ServerOptions{}, early)
	p := newPeer(t, a)
	for i, c := range []struct {
		increments []uint32
		want       ErrCode
	}{
		{[]uint32{0}, ProtocolError},
		{[]uint32{1000, maxWindow}, FlowControlError},
	} {
		id := odd(i)
		if err := p.request(id, false); err != nil {
			t.Fatal(err)
		}
		p.answered(id)
		lingers(s, 1)
		p.fr.AllowIllegalWrites = true
		for _, n := range c.increments {
			if err := p.fr.WriteWindowUpdate(id, n); err != nil {
				t.Fatal(err)
			}
		}
		if got := p.resetOf(id); got != c.want {
			t.Errorf("increments %d: error code %d, want %d", c.increments, got, c.want)
		}
		lingers(s, 0)
	}
}

// TestEarlyResponseChecksLength: a body is as long as content-length says (RFC 9113 8.1.1),
// whenever the rest of it comes.
func TestEarlyResponseChecksLength(t *testing.T) {
	a, b := pair(t)
	s := serve(t, b, ServerOptions{}, early)
	p := newPeer(t, a)
	for i, c := range []struct {
		pieces []string // the last one ends the stream
		good   bool
	}{
		{[]string{"abc", "def"}, true},
		{[]string{"abc", "de"}, false},
		{[]string{"abc", "defg"}, false},
		{[]string{"abcdefg", ""}, false},
	} {
		id := odd(i)
		if err := p.request(id, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x", "content-length", "6"); err != nil {
			t.Fatal(err)
		}
		p.answered(id)
		lingers(s, 1)
		for j, piece := range c.pieces {
			if err := p.fr.WriteData(id, j == len(c.pieces)-1, []byte(piece)); err != nil {
				t.Fatal(err)
			}
		}
		if c.good {
			p.quiet()
		} else if code := p.resetOf(id); code != ProtocolError {
			t.Errorf("%q: error code %d", c.pieces, code)
		}
		lingers(s, 0)
	}
}

// TestEarlyResponseIsBounded: one that does not end its request is told to, when it has
// used up its window, when time is up, and at once if there are too many like it.
func TestEarlyResponseIsBounded(t *testing.T) {
	a, b := pair(t)
	s := serve(t, b, ServerOptions{Options: Options{InitialStreamWindow: 65535, MaxConcurrentStreams: 1000}}, early)
	p := newPeer(t, a)
	if err := p.request(1, false); err != nil {
		t.Fatal(err)
	}
	p.answered(1)
	lingers(s, 1)
	for left := initialWindow; left > 0; {
		n := min(left, maxFrameSize)
		if err := p.fr.WriteData(1, false, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		left -= n
	}
	if code := p.resetOf(1); code != NoError {
		t.Errorf("error code %d", code)
	}
	const more = 100
	for i := range more {
		if err := p.request(odd(1+i), false); err != nil {
			t.Fatal(err)
		}
	}
	resets := map[uint32]bool{}
	err := p.read(func(f http2.Frame) bool {
		if r, ok := f.(*http2.RSTStreamFrame); ok && r.ErrCode == http2.ErrCodeNo {
			resets[r.StreamID] = true
		}
		return len(resets) == more
	})
	if err != nil {
		t.Errorf("%d streams were ended, then %v", len(resets), err)
	}
	p.quiet()
	lingers(s, 0)
}
