package h2

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// TestStalledPeer: a client that reads nothing ends the connection with ErrStalled, and
// that is neither an idle connection for Accept nor a read that may be repeated.
func TestStalledPeer(t *testing.T) {
	a, b := pair(t)
	st := &Stats{}
	s := NewServer(netio.NewConn(b), ServerOptions{Options: Options{Stall: 50 * time.Millisecond, Stats: st}})
	wrote := make(chan error, 1)
	over := make(chan error, 1)
	go func() {
		over <- acceptAll(s, func(st codec.ServerStream) {
			err := st.WriteHeaders(reply("200"), false)
			for err == nil {
				err = st.WriteData(bufOf(string(make([]byte, 64<<10))), false)
			}
			wrote <- err
			_, err = st.ReadData(bufOf(""))
			if errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, ErrStalled) {
				t.Errorf("read after it: %v", err)
			}
		})
	}()
	p := newPeer(t, a)
	if err := p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow}); err != nil {
		t.Fatal(err)
	}
	if err := p.fr.WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := p.request(1, false); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, ErrStalled) {
		t.Errorf("write: %v", err)
	}
	if err := <-over; !errors.Is(err, ErrStalled) || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Accept: %v", err)
	}
	if n := st.TxFlushTimeout.Value(); n != 1 {
		t.Errorf("tx_flush_timeout is %d", n)
	}
}

// overTLS makes a TLS connection of the ends of a pair.
func overTLS(t *testing.T, a, b net.Conn) (client net.Conn, server *netio.Conn) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil) // for its certificate
	s.StartTLS()
	defer s.Close()
	c := tls.Client(a, &tls.Config{InsecureSkipVerify: true}) // what is tested is behind the handshake
	shaken := make(chan error, 1)
	go func() { shaken <- c.Handshake() }()
	records := netio.NewRecords(netio.NewConn(b))
	sc := tls.Server(records, &tls.Config{Certificates: s.TLS.Certificates})
	if err := errors.Join(sc.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	return c, records.Over(sc, nil)
}

// TestCalledOffWhileFull: a write to a client that reads nothing ends when the client gives
// the stream up, in the clear and over TLS, whatever of it is on its way.
func TestCalledOffWhileFull(t *testing.T) {
	for _, secure := range []bool{false, true} {
		a, b := pair(t)
		sock := netio.NewConn(b)
		if secure {
			a, sock = overTLS(t, a, b)
		}
		wrote, full := make(chan error, 1), make(chan struct{})
		s := NewServer(sock, ServerOptions{})
		over := make(chan error, 1)
		go func() {
			over <- acceptAll(s, func(st codec.ServerStream) {
				err := st.WriteHeaders(reply("200"), false)
				for err == nil {
					err = st.WriteData(bufOf(string(make([]byte, 64<<10))), false)
				}
				wrote <- err
			})
		}()
		go func() {
			defer close(full)
			for {
				s.mu.Lock()
				stuck := s.flushing && s.queueFull()
				s.mu.Unlock()
				if stuck {
					return
				}
				runtime.Gosched()
			}
		}()
		p := newPeer(t, a)
		for _, err := range []error{
			p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow}),
			p.fr.WriteWindowUpdate(0, 1<<30), p.request(1, true),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		<-full
		if err := p.fr.WriteRSTStream(1, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-wrote:
			if !errors.Is(err, codec.ErrReset) {
				t.Errorf("TLS %t, write: %v", secure, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("TLS %t: the write goes on", secure)
		}
		sock.Cut()
		<-over
	}
}

// TestSocketDeadline: a deadline of the socket that somebody has left there does not make
// Accept say that it is idle, again and again.
func TestSocketDeadline(t *testing.T) {
	_, b := pair(t)
	sock := netio.NewConn(b)
	_ = sock.SetReadDeadline(time.Unix(1, 0))
	s := NewServer(sock, ServerOptions{})
	defer s.Close()
	for range 2 {
		if _, err := s.Accept(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Accept: %v", err)
		}
	}
}

// TestIdle: a connection without streams is idle, and can be used after that.
func TestIdle(t *testing.T) {
	a, b := pair(t)
	s := NewServer(netio.NewConn(b), ServerOptions{})
	defer s.Close()
	s.SetIdleTimeout(time.Millisecond)
	for range 2 {
		if _, err := s.Accept(); !errors.Is(err, ErrIdle) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Accept: %v", err)
		}
	}
	if err := newPeer(t, a).request(1, true); err != nil {
		t.Fatal(err)
	}
	s.SetIdleTimeout(0)
	st, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	st.Release()
}

// TestCloseSaysGoAway: what is queued when a connection is closed leaves before.
func TestCloseSaysGoAway(t *testing.T) {
	a, b := pair(t)
	c := NewClient(netio.NewConn(b), ClientOptions{})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_ = a.SetDeadline(soon())
	if _, err := io.ReadFull(a, make([]byte, len(clientPreface))); err != nil {
		t.Fatal(err)
	}
	p := &peerOf{t: t, c: a, fr: http2.NewFramer(a, a)}
	if code := p.goAway(); code != NoError {
		t.Errorf("error code %d", code)
	}
}

// TestCloseIsBounded: closing does not wait for a peer that reads nothing.
func TestCloseIsBounded(t *testing.T) {
	_, b := pair(t)
	c := NewClient(netio.NewConn(b), ClientOptions{})
	wrote := make(chan error, 1)
	go func() {
		st, err := c.Open(noContext)
		if err == nil {
			defer st.Release()
			err = st.WriteHeaders(get(":method", "POST"), false)
		}
		c.mu.Lock()
		c.sendWin, c.peer.window = maxWindow, maxWindow
		for _, s := range c.streams {
			s.sendWin = maxWindow
		}
		c.mu.Unlock()
		for err == nil {
			err = st.WriteData(bufOf(string(make([]byte, 64<<10))), false)
		}
		wrote <- err
	}()
	for full := false; !full; runtime.Gosched() {
		c.mu.Lock()
		full = c.flushing && c.out.busy >= 4
		c.mu.Unlock()
	}
	_ = c.Close()
	<-wrote
}

// TestNumbersRunOut: who watches a connection learns that its stream numbers are used up.
func TestNumbersRunOut(t *testing.T) {
	a, b := pair(t)
	serve(t, b, ServerOptions{}, answer)
	c := dial(t, a, ClientOptions{})
	mustRoundTrip(t, c, get(), "")
	told := make(chan struct{}, 8)
	c.Watch(func() { told <- struct{}{} })
	c.mu.Lock()
	c.nextID = c.lastNumber() - 2
	c.mu.Unlock()
	for !c.Draining() {
		mustRoundTrip(t, c, get(), "")
	}
	<-told
	if c.Limit() != 0 || !c.Alive() {
		t.Errorf("limit %d, alive %t", c.Limit(), c.Alive())
	}
}

// TestProbe: a stream on a connection on which nothing has come for a while is preceded by
// a PING, with and without a limit for its answer.
func TestProbe(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Hour} {
		a, b := pair(t)
		c := dial(t, b, ClientOptions{Options: Options{Keepalive: Keepalive{Idle: time.Minute, Timeout: timeout}}})
		c.mu.Lock()
		c.keepalive.heard = time.Now().Add(-time.Hour)
		c.mu.Unlock()
		st, err := c.Open(noContext)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.WriteHeaders(get(), true); err != nil {
			t.Fatal(err)
		}
		_ = a.SetDeadline(soon())
		if _, err := io.ReadFull(a, make([]byte, len(clientPreface))); err != nil {
			t.Fatal(err)
		}
		p := &peerOf{t: t, c: a, fr: http2.NewFramer(a, a)}
		var seen []http2.FrameType
		err = p.read(func(f http2.Frame) bool {
			seen = append(seen, f.Header().Type)
			return f.Header().Type == http2.FrameHeaders
		})
		if err != nil || len(seen) < 2 || seen[len(seen)-2] != http2.FramePing {
			t.Errorf("timeout %v: frames %v, %v", timeout, seen, err)
		}
		st.Release()
	}
}
