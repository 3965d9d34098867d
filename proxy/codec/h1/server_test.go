package h1

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// peer is the raw other end of a connection in memory.
type peer struct {
	t    *testing.T
	conn *memConn
}

func (p *peer) send(s string) {
	p.t.Helper()
	if _, err := p.conn.Write([]byte(s)); err != nil {
		p.t.Fatal(err)
	}
}

// got takes what has arrived.
func (p *peer) got() string {
	var s string
	p.conn.in.set(func(q *memPipe) { s, q.b = string(q.b), nil })
	return s
}

func newServer(t *testing.T, o ServerOptions) (*peer, *ServerConn) {
	t.Helper()
	a, b := memPair()
	c := NewServer(netio.NewConn(b), o)
	t.Cleanup(func() { c.Close() })
	return &peer{t, a}, c
}

// accept takes the next request, with its head.
func accept(t *testing.T, c *ServerConn) (*ServerStream, *header.Map, codec.Next) {
	t.Helper()
	st, err := c.Accept()
	if err != nil {
		t.Fatal(err)
	}
	m := &header.Map{}
	next, err := st.ReadHeaders(m)
	if err != nil {
		t.Fatal(err)
	}
	return st.(*ServerStream), m, next
}

func fieldsOf(pairs ...string) *header.Map {
	m := &header.Map{}
	for i := 0; i < len(pairs); i += 2 {
		m.Add(pairs[i], pairs[i+1])
	}
	return m
}

func bufOf(s string) *buffer.Buf {
	b := &buffer.Buf{}
	b.AppendString(s)
	return b
}

// list writes a map as one line.
func list(m *header.Map) string {
	var s []string
	for n, v := range m.All() {
		s = append(s, n+"="+v)
	}
	return strings.Join(s, " ")
}

func TestRequestMap(t *testing.T) {
	for _, c := range []struct {
		name, head, want string
		o                ServerOptions
		next             codec.Next
	}{
		{"origin form", "GET /a?b HTTP/1.1\r\nX: 1\r\nHost: h:80\r\nY: 2\r\n\r\n", ":method=GET :path=/a?b :authority=h:80 x=1 y=2", ServerOptions{}, codec.End},
		{"absolute form", "GET http://b/p HTTP/1.1\r\nHost: h\r\n\r\n", ":method=GET :path=/p :authority=b :scheme=http", ServerOptions{Scheme: "https"}, codec.End},
		{"scheme option", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", ":method=GET :path=/ :authority=h :scheme=https", ServerOptions{Scheme: "https"}, codec.End},
		{"absolute form refused", "GET http://b/p HTTP/1.1\r\nHost: h\r\n\r\n", ":method=GET :path=http://b/p :authority=h", ServerOptions{RefuseAbsoluteURL: true}, codec.End},
		{"authority form", "CONNECT b:1 HTTP/1.1\r\nHost: h\r\n\r\n", ":method=CONNECT :authority=b:1", ServerOptions{}, codec.End},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", ":method=OPTIONS :path=* :authority=h", ServerOptions{}, codec.End},
		{"length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", ":method=POST :path=/ :authority=h content-length=3", ServerOptions{}, codec.Data},
		{"chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", ":method=POST :path=/ :authority=h", ServerOptions{}, codec.Data},
		{"hop by hop", "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X\r\nKeep-Alive: 5\r\nX: 1\r\nY: 2\r\nProxy-Connection: k\r\nTE: gzip\r\n\r\n", ":method=GET :path=/ :authority=h y=2", ServerOptions{}, codec.End},
		{"upgrade", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive, UPGRADE\r\nUpgrade: WebSocket\r\n\r\n", ":method=GET :path=/ :authority=h connection=upgrade upgrade=WebSocket", ServerOptions{}, codec.End},
		{"upgrade with a body is none", "POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\n", ":method=POST :path=/ :authority=h content-length=3", ServerOptions{}, codec.Data},
		{"custom method", "BREW / HTTP/1.1\r\nHost: h\r\n\r\n", ":method=BREW :path=/ :authority=h", ServerOptions{AllowCustomMethods: true}, codec.End},
		{"drop underscores", "GET / HTTP/1.1\r\nHost: h\r\nA_B: 1\r\nA-B: 2\r\n\r\n", ":method=GET :path=/ :authority=h a-b=2", ServerOptions{Underscores: DropUnderscores}, codec.End},
		{"1.0", "GET / HTTP/1.0\r\n\r\n", ":method=GET :path=/ :authority=d", ServerOptions{AcceptHTTP10: true, DefaultHostForHTTP10: "d"}, codec.End},
		{"expect is visible", "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", ":method=PUT :path=/ :authority=h expect=100-continue content-length=1", ServerOptions{}, codec.Data},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := newServer(t, c.o)
			p.send(c.head)
			_, m, next := accept(t, s)
			if got := list(m); got != c.want || next != c.next {
				t.Errorf("got %s (next %d)\nwant %s (next %d)", got, next, c.want, c.next)
			}
		})
	}
}

func TestResponseBytes(t *testing.T) {
	get := "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, c := range []struct {
		name, request, want string
		o                   ServerOptions
		answer              func(s *ServerStream) error
		reusable            bool
	}{
		{"no body", get, "HTTP/1.1 200 OK\r\nx: 1\r\ncontent-length: 0\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return s.WriteHeaders(fieldsOf(":status", "200", "x", "1"), true)
		}, true},
		{"length", get, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", ServerOptions{}, func(s *ServerStream) error {
			return errors.Join(s.WriteHeaders(fieldsOf(":status", "200", "content-length", "2"), false), s.WriteData(bufOf("ok"), true))
		}, true},
		{"chunks", get, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return errors.Join(s.WriteHeaders(fieldsOf(":status", "200"), false), s.WriteData(bufOf("ok"), false), s.WriteData(bufOf("0123456789abcdef"), true))
		}, true},
		{"trailers", get, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nsum: 1\r\n\r\n", ServerOptions{Options: Options{EnableTrailers: true}}, func(s *ServerStream) error {
			return errors.Join(s.WriteHeaders(fieldsOf(":status", "200"), false), s.WriteData(bufOf("ok"), false), s.WriteTrailers(fieldsOf("sum", "1")))
		}, true},
		{"trailers not enabled", get, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return errors.Join(s.WriteHeaders(fieldsOf(":status", "200"), false), s.WriteData(bufOf("ok"), false), s.WriteTrailers(fieldsOf("sum", "1")))
		}, true},
		{"100 first", get, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return errors.Join(s.WriteHeaders(fieldsOf(":status", "100"), false), s.WriteHeaders(fieldsOf(":status", "204", "content-length", "0"), true))
		}, true},
		{"HEAD with length", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return s.WriteHeaders(fieldsOf(":status", "200", "content-length", "9"), true)
		}, true},
		{"HEAD with a body that isn't sent", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return errors.Join(s.WriteHeaders(fieldsOf(":status", "200"), false), s.WriteData(bufOf("ok"), true))
		}, true},
		{"304", get, "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return s.WriteHeaders(fieldsOf(":status", "304", "content-length", "9"), true)
		}, true},
		{"close asked by the engine", get, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return s.WriteHeaders(fieldsOf(":status", "200", "connection", "close"), true)
		}, false},
		{"close asked by the client", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return s.WriteHeaders(fieldsOf(":status", "200"), true)
		}, false},
		{"connection fields are not the engine's", get, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return s.WriteHeaders(fieldsOf(":status", "200", "transfer-encoding", "chunked", "keep-alive", "5", "upgrade", "x"), true)
		}, true},
		{"1.0 until close", "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nok", ServerOptions{AcceptHTTP10: true}, func(s *ServerStream) error {
			return errors.Join(s.WriteHeaders(fieldsOf(":status", "200"), false), s.WriteData(bufOf("ok"), true))
		}, false},
		{"1.0 keep-alive", "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok", ServerOptions{AcceptHTTP10: true}, func(s *ServerStream) error {
			return errors.Join(s.WriteHeaders(fieldsOf(":status", "200", "content-length", "2"), false), s.WriteData(bufOf("ok"), true))
		}, true},
		{"proper case", get, "HTTP/1.1 200 OK\r\nX-Some-Thing: 1\r\nContent-Length: 0\r\n\r\n", ServerOptions{Options: Options{ProperCase: true}}, func(s *ServerStream) error {
			return s.WriteHeaders(fieldsOf(":status", "200", "x-some-thing", "1"), true)
		}, true},
		{"unknown status", get, "HTTP/1.1 299 Unknown\r\ncontent-length: 0\r\n\r\n", ServerOptions{}, func(s *ServerStream) error {
			return s.WriteHeaders(fieldsOf(":status", "299"), true)
		}, true},
		{"body too short", get, "", ServerOptions{}, func(s *ServerStream) error {
			return s.WriteHeaders(fieldsOf(":status", "200", "content-length", "2"), true)
		}, false},
		{"body too long", get, "", ServerOptions{}, func(s *ServerStream) error {
			return errors.Join(s.WriteHeaders(fieldsOf(":status", "200", "content-length", "2"), false), s.WriteData(bufOf("three"), true))
		}, false},
		{"no status", get, "", ServerOptions{}, func(s *ServerStream) error { return s.WriteHeaders(fieldsOf("x", "1"), true) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := newServer(t, c.o)
			p.send(c.request)
			st, _, _ := accept(t, s)
			err := c.answer(st)
			if (err != nil) != (c.want == "") {
				t.Errorf("error %v", err)
			}
			if got := p.got(); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if got := st.Release(); got != c.reusable {
				t.Errorf("reusable: got %v", got)
			}
		})
	}
}

// TestSplitting: nothing that a filter puts into a field may end the line.
func TestSplitting(t *testing.T) {
	for _, m := range []*header.Map{
		fieldsOf(":status", "200", "x", "a\r\nset-cookie: b"),
		fieldsOf(":status", "200", "x", "a\nb"),
		fieldsOf(":status", "200", "x", "a\rb"),
		fieldsOf(":status", "200", "x", "a\x00b"),
		fieldsOf(":status", "200", "x: y\r\nz", "a"),
		fieldsOf(":status", "200", "x y", "a"),
		fieldsOf(":status", "200", "x:", "a"),
		fieldsOf(":status", "2\r\n"),
		fieldsOf(":status", "200", "content-length", "1, 2"),
		fieldsOf(":status", "200", "content-length", "1", "content-length", "2"),
	} {
		p, s := newServer(t, ServerOptions{})
		p.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		st, _, _ := accept(t, s)
		err := st.WriteHeaders(m, true)
		if got := p.got(); err == nil || got != "" {
			t.Errorf("%q: wrote %q, error %v", list(m), got, err)
		}
		if err := st.WriteHeaders(fieldsOf(":status", "500"), true); err != nil {
			t.Errorf("%q: nothing can be answered after the refused head: %v", list(m), err)
		}
		st.Release()
	}
}

func TestHeldBack(t *testing.T) {
	p, s := newServer(t, ServerOptions{})
	p.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	st, _, _ := accept(t, s)
	if err := st.WriteHeaders(fieldsOf(":status", "200", "content-length", "200000"), false); err != nil {
		t.Fatal(err)
	}
	if got := p.got(); got != "" {
		t.Errorf("a head left alone: %q", got)
	}
	body := strings.Repeat("x", 40_000)
	if err := st.WriteData(bufOf(body), false); err != nil {
		t.Fatal(err)
	}
	if got := p.got(); got != "" {
		t.Errorf("%d bytes left before 64 KiB were held", len(got))
	}
	if err := st.WriteData(bufOf(body), false); err != nil {
		t.Fatal(err)
	}
	if got := p.got(); !strings.HasSuffix(got, "\r\n\r\n"+body+body) {
		t.Errorf("beyond 64 KiB %d bytes left", len(got))
	}
	if err := errors.Join(st.WriteData(bufOf(body), false), st.Flush()); err != nil {
		t.Fatal(err)
	}
	if got := p.got(); got != body {
		t.Errorf("Flush sent %d bytes", len(got))
	}
	if st.Release() {
		t.Error("reusable after half a response")
	}
}

func TestReleaseUnreadBody(t *testing.T) {
	for _, c := range []struct {
		name, body string
		o          ServerOptions
		reusable   bool
	}{
		{"length, at hand", "Content-Length: 3\r\n\r\nabc", ServerOptions{}, true},
		{"length, not at hand", "Content-Length: 3\r\n\r\nab", ServerOptions{}, false},
		{"chunked, at hand", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", ServerOptions{}, true},
		{"chunked with trailers, at hand", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\na: b\r\n\r\n", ServerOptions{Options: Options{EnableTrailers: true}}, true},
		{"chunked, not at hand", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ServerOptions{}, false},
		{"chunked, bad", "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", ServerOptions{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := newServer(t, c.o)
			p.send("POST / HTTP/1.1\r\nHost: h\r\n" + c.body + "")
			if c.reusable {
				p.send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n")
			}
			st, _, _ := accept(t, s)
			if err := st.WriteHeaders(fieldsOf(":status", "403"), true); err != nil {
				t.Fatal(err)
			}
			if got := st.Release(); got != c.reusable {
				t.Fatalf("reusable: got %v", got)
			}
			if c.reusable {
				if !s.Buffered() {
					t.Error("the next request is not at hand")
				}
				if _, m, _ := accept(t, s); m.Value(header.Path) != "/next" {
					t.Errorf("next request is %s", list(m))
				}
			}
		})
	}
}

func TestReadTrailers(t *testing.T) {
	p, s := newServer(t, ServerOptions{Options: Options{EnableTrailers: true}})
	p.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nSum: 1\r\nContent-Length: 5\r\nHost: x\r\n\r\n")
	st, _, _ := accept(t, s)
	var b buffer.Buf
	next, err := st.ReadData(&b)
	if err != nil || next != codec.Trailers || string(b.Bytes()) != "abc" {
		t.Fatalf("got %q, next %d, %v", b.Bytes(), next, err)
	}
	b.Release()
	var m header.Map
	if err := st.ReadTrailers(&m); err != nil || list(&m) != "sum=1" {
		t.Errorf("trailers %s, %v", list(&m), err)
	}
	if next, err := st.ReadData(&b); err != nil || next != codec.End {
		t.Errorf("after the trailers: next %d, %v", next, err)
	}
	if err := st.WriteHeaders(fieldsOf(":status", "200"), true); err != nil || !st.Release() {
		t.Errorf("not reusable, %v", err)
	}
}

func TestDrainIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := newServer(t, ServerOptions{})
		got := make(chan error)
		go func() {
			_, err := s.Accept()
			got <- err
		}()
		synctest.Wait()
		s.Drain()
		if err := <-got; !errors.Is(err, codec.ErrDraining) {
			t.Errorf("Accept returned %v", err)
		}
		if _, err := s.Accept(); !errors.Is(err, codec.ErrDraining) {
			t.Errorf("Accept after Drain returned %v", err)
		}
	})
}

// TestAnnounce: the request after it is still answered, and is the last one.
func TestAnnounce(t *testing.T) {
	p, s := newServer(t, ServerOptions{})
	for _, last := range []bool{false, true} {
		p.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		st, _, _ := accept(t, s)
		if err := st.WriteHeaders(fieldsOf(":status", "200"), true); err != nil {
			t.Fatal(err)
		}
		if got := p.got(); strings.Contains(got, "connection: close\r\n") != last {
			t.Errorf("last %v: %q", last, got)
		}
		s.Announce() // after the head: too late for this response
		if st.Release() == last {
			t.Errorf("last %v, reusable %v", last, !last)
		}
	}
}

func TestDrainActive(t *testing.T) {
	p, s := newServer(t, ServerOptions{})
	p.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	st, _, _ := accept(t, s)
	s.Drain()
	if err := st.WriteHeaders(fieldsOf(":status", "200"), true); err != nil {
		t.Fatal(err)
	}
	if got := p.got(); !strings.Contains(got, "connection: close\r\n") {
		t.Errorf("no close in %q", got)
	}
	if st.Release() {
		t.Error("reusable while draining")
	}
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newServer(t, ServerOptions{IdleTimeout: time.Minute, HeadersTimeout: 10 * time.Second})
		start := time.Now()
		_, err := s.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Errorf("idle: %v after %v", err, time.Since(start))
		}
		p.send("GET / HTTP/1.1\r\n") // slow loris
		st, err := s.Accept()
		if err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		done := make(chan bool)
		go func() {
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					_, _ = p.conn.Write([]byte("a: b\r\n"))
				case <-done:
					return
				}
			}
		}()
		var m header.Map
		if _, err := st.ReadHeaders(&m); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 10*time.Second {
			t.Errorf("head: %v after %v", err, time.Since(start))
		}
		close(done)
		if err := st.WriteHeaders(fieldsOf(":status", "408"), true); err != nil || !strings.HasPrefix(p.got(), "HTTP/1.1 408 Request Timeout\r\nconnection: close") {
			t.Errorf("no 408 after the timeout, %v", err)
		}
		if st.Release() {
			t.Error("reusable after a timeout")
		}
	})
}

func TestSetIdleDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := newServer(t, ServerOptions{})
		start := time.Now()
		s.SetIdleDeadline(start.Add(3 * time.Second))
		if _, err := s.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestServerInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newServer(t, ServerOptions{})
		p.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n")
		st, _, _ := accept(t, s)
		got := make(chan error)
		go func() {
			var b buffer.Buf
			_, err := st.ReadData(&b)
			got <- err
		}()
		synctest.Wait()
		st.Interrupt()
		if err := <-got; !errors.Is(err, netio.ErrInterrupted) {
			t.Errorf("ReadData returned %v", err)
		}
		st.Release()
	})
}

func TestAcceptEOF(t *testing.T) {
	p, s := newServer(t, ServerOptions{})
	p.send("\r\n")
	p.conn.CloseWrite()
	if _, err := s.Accept(); err != io.EOF {
		t.Errorf("got %v, want io.EOF", err)
	}
}

func TestServerUpgrade(t *testing.T) {
	p, s := newServer(t, ServerOptions{})
	p.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nearly")
	st, _, next := accept(t, s)
	if next != codec.End || st.Upgraded() {
		t.Errorf("next %d, upgraded %v", next, st.Upgraded())
	}
	if err := st.WriteHeaders(fieldsOf(":status", "101", "connection", "upgrade", "upgrade", "x"), false); err != nil || !st.Upgraded() {
		t.Fatalf("upgraded %v, %v", st.Upgraded(), err)
	}
	var b buffer.Buf
	if next, err := st.ReadData(&b); err != nil || next != codec.Data || string(b.Bytes()) != "early" {
		t.Errorf("got %q, next %d, %v", b.Bytes(), next, err)
	}
	b.Release()
	if err := st.WriteData(bufOf("raw"), false); err != nil {
		t.Error(err)
	}
	if err := st.Flush(); err != nil {
		t.Error(err)
	}
	if got := p.got(); got != "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nraw" {
		t.Errorf("got %q", got)
	}
	p.conn.CloseWrite()
	if next, err := st.ReadData(&b); err != nil || next != codec.End {
		t.Errorf("at the end: next %d, %v", next, err)
	}
	if err := st.WriteData(nil, true); err != nil {
		t.Error(err)
	}
	if _, err := p.conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the other direction did not end: %v", err)
	}
	if st.Release() {
		t.Error("reusable after an upgrade")
	}
}

func TestWireBytes(t *testing.T) {
	p, s := newServer(t, ServerOptions{})
	head, body := "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n"
	p.send(head + body)
	st, _, _ := accept(t, s)
	var b buffer.Buf
	if _, err := st.ReadData(&b); err != nil {
		t.Fatal(err)
	}
	b.Release()
	if err := errors.Join(st.WriteHeaders(fieldsOf(":status", "200"), false), st.WriteData(bufOf("0123456789"), true)); err != nil {
		t.Fatal(err)
	}
	r, w := st.WireBytes()
	got := p.got()
	split := strings.Index(got, "\r\n\r\n") + 4
	if r.Header != int64(len(head)) || r.Body != int64(len(body)) || w.Header != int64(split) || w.Body != int64(len(got)-split) {
		t.Errorf("read %+v, written %+v; want %d+%d and %d+%d", r, w, len(head), len(body), split, len(got)-split)
	}
	st.Release()
}
