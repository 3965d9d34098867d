package h2

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// resetOf reads until the stream is reset and returns the code.
func (p *peerOf) resetOf(id uint32) ErrCode {
	p.t.Helper()
	code := ErrCode(0xffff)
	err := p.read(func(f http2.Frame) bool {
		r, ok := f.(*http2.RSTStreamFrame)
		if ok && r.StreamID == id {
			code = ErrCode(r.ErrCode)
			return true
		}
		return false
	})
	if err != nil {
		p.t.Errorf("stream %d was not reset: %v", id, err)
	}
	return code
}

// answered reads until the end of the stream.
func (p *peerOf) answered(id uint32) {
	p.t.Helper()
	err := p.read(func(f http2.Frame) bool {
		return f.Header().StreamID == id && f.Header().Flags.Has(http2.FlagDataEndStream)
	})
	if err != nil {
		p.t.Errorf("stream %d was not answered: %v", id, err)
	}
}

// TestHeaderBomb: a small header section that becomes a large one resets its stream, the
// connection goes on with the tables of both sides in step.
func TestHeaderBomb(t *testing.T) {
	a, b := pair(t)
	st := &Stats{}
	serve(t, b, ServerOptions{Options: Options{Stats: st, MaxHeadersCount: 1000}}, answer)
	p := newPeer(t, a)
	pairs := []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x"}
	for range 100 {
		pairs = append(pairs, "bomb", strings.Repeat("b", 3900)) // one byte each after the first
	}
	if err := p.request(1, true, pairs...); err != nil {
		t.Fatal(err)
	}
	if code := p.resetOf(1); code != ProtocolError {
		t.Errorf("error code %d", code)
	}
	if err := p.request(3, true, pairs[:12]...); err != nil {
		t.Fatal(err)
	}
	p.answered(3)
	if n := st.HeaderOverflow.Value(); n != 1 {
		t.Errorf("header_overflow is %d", n)
	}
}

// TestTooManyStreams: what is over max_concurrent_streams is refused, the others go on.
func TestTooManyStreams(t *testing.T) {
	a, b := pair(t)
	st := &Stats{}
	hold := make(chan struct{})
	serve(t, b, ServerOptions{Options: Options{Stats: st, MaxConcurrentStreams: 2}}, func(st codec.ServerStream) {
		<-hold
		answer(st)
	})
	p := newPeer(t, a)
	for i := range 3 {
		if err := p.request(odd(i), true); err != nil {
			t.Fatal(err)
		}
	}
	if code := p.resetOf(5); code != RefusedStream {
		t.Errorf("error code %d", code)
	}
	close(hold)
	p.answered(3)
	if n := st.StreamRefused.Value(); n != 1 {
		t.Errorf("stream_refused_errors is %d", n)
	}
}

// TestLateTrailers: frames that were on their way when we reset their stream are no error,
// however many streams we have reset since.
func TestLateTrailers(t *testing.T) {
	a, b := pair(t)
	const streams = 200
	released := make(chan struct{}, streams)
	serve(t, b, ServerOptions{}, func(st codec.ServerStream) {
		st.Reset(codec.ResetCancel)
		released <- struct{}{}
	})
	p := newPeer(t, a)
	for i := range streams {
		if err := p.request(odd(i), false); err != nil {
			t.Fatal(err)
		}
	}
	for range streams {
		<-released
	}
	for i := range streams {
		if err := p.fr.WriteData(odd(i), false, []byte("late")); err != nil {
			t.Fatal(err)
		}
		if err := p.request(odd(i), true, "trailer", "late"); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.fr.WritePing(false, [8]byte{1}); err != nil {
		t.Fatal(err)
	}
	err := p.read(func(f http2.Frame) bool {
		if g, ok := f.(*http2.GoAwayFrame); ok {
			t.Errorf("GOAWAY: %v", g.ErrCode)
			return true
		}
		return f.Header().Type == http2.FramePing
	})
	if err != nil {
		t.Error(err)
	}
}

// TestNoWindow: a client that opens no window for a stream loses it after Stall; the rest
// of the connection goes on.
func TestNoWindow(t *testing.T) {
	a, b := pair(t)
	st := &Stats{}
	wrote := make(chan error, 8)
	serve(t, b, ServerOptions{Options: Options{Stats: st, Stall: 20 * time.Millisecond}}, func(st codec.ServerStream) {
		err := st.WriteHeaders(reply("200"), false)
		if err == nil {
			err = st.WriteData(bufOf("body"), true)
		}
		wrote <- err
	})
	p := newPeer(t, a)
	if err := p.fr.WriteSettings(window(0)); err != nil {
		t.Fatal(err)
	}
	if err := p.request(1, true); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
	if code := p.resetOf(1); code != InternalError {
		t.Errorf("error code %d", code)
	}
	if err := p.fr.WriteSettings(window(100)); err != nil {
		t.Fatal(err)
	}
	if err := p.request(3, true); err != nil {
		t.Fatal(err)
	}
	p.answered(3)
	if n := st.TxFlushTimeout.Value(); n != 1 {
		t.Errorf("tx_flush_timeout is %d", n)
	}
}

// TestKeepaliveTimeout: a peer that does not answer PINGs loses the connection.
func TestKeepaliveTimeout(t *testing.T) {
	a, b := pair(t)
	st := &Stats{}
	s := NewServer(netio.NewConn(b), ServerOptions{Options: Options{Stats: st,
		Keepalive: Keepalive{Interval: 10 * time.Millisecond, Timeout: 10 * time.Millisecond}}})
	newPeer(t, a)
	if err := acceptAll(s, answer); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("Accept: %v", err)
	}
	if n := st.KeepaliveTimeout.Value(); n != 1 {
		t.Errorf("keepalive_timeout is %d", n)
	}
}

// TestHalfAPreface: a client that never says all of it is idle like any other.
func TestHalfAPreface(t *testing.T) {
	a, b := pair(t)
	s := NewServer(netio.NewConn(b), ServerOptions{})
	defer s.Close()
	if _, err := io.WriteString(a, clientPreface[:10]); err != nil {
		t.Fatal(err)
	}
	s.SetIdleTimeout(10 * time.Millisecond)
	if _, err := s.Accept(); !errors.Is(err, ErrIdle) {
		t.Errorf("Accept: %v", err)
	}
}

// TestSmallFrames: a body in tiny pieces to a client that is slow does not count as a
// flood.
func TestSmallFrames(t *testing.T) {
	a, b := pair(t)
	st := &Stats{}
	const pieces = 20_000
	serve(t, b, ServerOptions{Options: Options{Stats: st, MaxOutboundFrames: 100}}, func(st codec.ServerStream) {
		err := st.WriteHeaders(reply("200"), false)
		for range pieces {
			if err == nil {
				err = st.WriteData(bufOf("x"), false)
			}
		}
		if err == nil {
			err = st.WriteData(nil, true)
		}
		if err != nil {
			t.Error(err)
		}
	})
	p := newPeer(t, a)
	if err := p.request(1, true); err != nil {
		t.Fatal(err)
	}
	p.answered(1)
	if n := st.OutboundFlood.Value(); n != 0 {
		t.Errorf("outbound_flood is %d", n)
	}
}

// TestStarvedPassOn: a stream that is given the window of the connection and has none of
// its own passes it on.
func TestStarvedPassOn(t *testing.T) {
	a, b := pair(t)
	s := serve(t, b, ServerOptions{}, func(st codec.ServerStream) {
		var q header.Map
		_, err := st.ReadHeaders(&q)
		n, _ := strconv.Atoi(q.Value(header.Path)[1:])
		if err == nil && st.WriteHeaders(reply("200"), false) == nil {
			_ = st.WriteData(bufOf(strings.Repeat("x", n)), true)
		}
	})
	p := newPeer(t, a)
	ask := func(id uint32, n int, more uint32) {
		t.Helper()
		err := p.request(id, true, ":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"+strconv.Itoa(n))
		if err == nil && more > 0 {
			err = p.fr.WriteWindowUpdate(id, more)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	starved := func(n int) {
		for ok := false; !ok; runtime.Gosched() {
			s.mu.Lock()
			ok = len(s.starved) == n
			s.mu.Unlock()
		}
	}
	if err := p.fr.WriteSettings(window(10)); err != nil {
		t.Fatal(err)
	}
	ask(1, initialWindow, initialWindow)
	p.answered(1)
	ask(3, 100, 0)
	starved(1)
	ask(5, 100, 100)
	starved(2)
	if err := p.fr.WriteWindowUpdate(0, 1000); err != nil {
		t.Fatal(err)
	}
	p.answered(5)
}
