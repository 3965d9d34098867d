package h1

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

func newClient(t *testing.T, o ClientOptions) (*peer, *ClientConn) {
	t.Helper()
	a, b := memPair()
	c := NewClient(netio.NewConn(b), o)
	t.Cleanup(func() { c.Close() })
	return &peer{t, a}, c
}

func open(t *testing.T, c *ClientConn) codec.ClientStream {
	t.Helper()
	st, err := c.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestRequestBytes(t *testing.T) {
	base := []string{":method", "GET", ":path", "/x", ":authority", "h", ":scheme", "http"}
	with := func(pairs ...string) *header.Map {
		m := fieldsOf(base...)
		for i := 0; i < len(pairs); i += 2 {
			if m.Set(pairs[i], pairs[i+1]); pairs[i+1] == "-" {
				m.Del(pairs[i])
			}
		}
		return m
	}
	for _, c := range []struct {
		name, want string
		m          *header.Map
		body       string
		o          ClientOptions
	}{
		{"get", "GET /x HTTP/1.1\r\nhost: h\r\na: b\r\n\r\n", with("a", "b"), "", ClientOptions{}},
		{"post without a body", "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n", with(":method", "POST"), "", ClientOptions{}},
		{"length", "PUT /x HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nok", with(":method", "PUT", "content-length", "2"), "ok", ClientOptions{}},
		{"chunked", "PUT /x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", with(":method", "PUT"), "ok", ClientOptions{}},
		{"connect", "CONNECT h HTTP/1.1\r\nhost: h\r\n\r\n", with(":method", "CONNECT", ":path", "-"), "", ClientOptions{}},
		{"upgrade", "GET /x HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", with("connection", "upgrade", "upgrade", "x"), "", ClientOptions{}},
		{"no host", "GET /x HTTP/1.1\r\n\r\n", with(":authority", "-"), "", ClientOptions{}},
		{"the authority is the host", "GET /x HTTP/1.1\r\nhost: h\r\n\r\n", with("host", "other"), "", ClientOptions{}},
		{"close", "GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n", with("connection", "close"), "", ClientOptions{}},
		{"proper case", "GET /x HTTP/1.1\r\nHost: h\r\nX-A: b\r\n\r\n", with("x-a", "b"), "", ClientOptions{Options{ProperCase: true}}},
		{"connection fields are not the engine's", "GET /x HTTP/1.1\r\nhost: h\r\n\r\n", with("keep-alive", "1", "transfer-encoding", "chunked", "upgrade", "x"), "", ClientOptions{}},
		{"no path", "", with(":path", "-"), "", ClientOptions{}},
		{"no method", "", with(":method", "-"), "", ClientOptions{}},
		{"blank in the path", "", with(":path", "/a HTTP/1.1"), "", ClientOptions{}},
		{"line end in the path", "", with(":path", "/a\r\nx:"), "", ClientOptions{}},
		{"line end in the method", "", with(":method", "GET\r\n"), "", ClientOptions{}},
		{"line end in the authority", "", with(":authority", "h\r\nx: y"), "", ClientOptions{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, conn := newClient(t, c.o)
			st := open(t, conn)
			err := st.WriteHeaders(c.m, c.body == "")
			if err == nil && c.body != "" {
				err = st.WriteData(bufOf(c.body), true)
			}
			if err == nil {
				err = st.Flush()
			}
			if (err != nil) != (c.want == "") {
				t.Errorf("error %v", err)
			}
			if got := p.got(); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			st.Release()
		})
	}
}

// TestResponse gives a client the bytes of a response and, where eof says so, the
// end of the connection.
func TestResponse(t *testing.T) {
	for _, c := range []struct {
		name, method, send string
		eof                bool
		heads, body        string
		reusable           bool
		o                  ClientOptions
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, ":status=200 content-length=2", "ok", true, ClientOptions{}},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, ":status=200", "ok", true, ClientOptions{}},
		{"until close", "GET", "HTTP/1.1 200 OK\r\n\r\nok", true, ":status=200", "ok", false, ClientOptions{}},
		{"says close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false, ":status=200 content-length=2", "ok", false, ClientOptions{}},
		{"1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, ":status=200 content-length=2", "ok", false, ClientOptions{}},
		{"1.0 keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false, ":status=200 content-length=2", "ok", true, ClientOptions{}},
		{"head", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", false, ":status=200 content-length=2", "", true, ClientOptions{}},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", false, ":status=204", "", true, ClientOptions{}},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", false, ":status=304 content-length=2", "", true, ClientOptions{}},
		{"1xx first", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, ":status=100|:status=103 link=a|:status=200 content-length=0", "", true, ClientOptions{}},
		{"connect", "CONNECT", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nraw", true, ":status=200", "raw", false, ClientOptions{}},
		{"connect refused", "CONNECT", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", false, ":status=403 content-length=2", "no", true, ClientOptions{}},
		{"more than asked for", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", false, ":status=200 content-length=2", "ok", false, ClientOptions{}},
		{"hop by hop", "GET", "HTTP/1.1 200 OK\r\nConnection: a\r\nA: 1\r\nB: 2\r\nContent-Length: 0\r\nKeep-Alive: 1\r\n\r\n", false, ":status=200 b=2 content-length=0", "", true, ClientOptions{}},
		{"length beside chunks, allowed", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, ":status=200", "ok", true, ClientOptions{Options{AllowChunkedLength: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, conn := newClient(t, c.o)
			st := open(t, conn)
			q := fieldsOf(":method", c.method, ":path", "/", ":authority", "h")
			if err := st.WriteHeaders(q, true); err != nil {
				t.Fatal(err)
			}
			p.send(c.send)
			if c.eof {
				p.conn.CloseWrite()
			}
			var heads []string
			var next codec.Next
			for more := true; more; {
				var m header.Map
				var err error
				if next, err = st.ReadHeaders(&m); err != nil {
					t.Fatal(err)
				}
				heads = append(heads, list(&m))
				more = m.Value(header.Status)[0] == '1'
			}
			var b buffer.Buf
			for next == codec.Data {
				var err error
				if next, err = st.ReadData(&b); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(heads, "|"); got != c.heads || string(b.Bytes()) != c.body {
				t.Errorf("got %s %q\nwant %s %q", got, b.Bytes(), c.heads, c.body)
			}
			b.Release()
			if got := st.Release(); got != c.reusable || conn.Free() == 1 != got || !conn.Used() {
				t.Errorf("reusable %v, free %d, used %v", got, conn.Free(), conn.Used())
			}
		})
	}
}

func TestResponseErrors(t *testing.T) {
	var pe *codec.ProtocolError
	for _, c := range []struct {
		name, send string
		check      func(err error) bool
	}{
		{"nothing", "", func(err error) bool { return err == codec.ErrClosedBeforeResponse }},
		{"half a head", "HTTP/1.1 20", func(err error) bool { return errors.As(err, &pe) }},
		{"only 1xx", "HTTP/1.1 100 Continue\r\n\r\n", func(err error) bool { return err == io.ErrUnexpectedEOF }},
		{"101 unasked", "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", func(err error) bool { return errors.As(err, &pe) }},
		{"endless 1xx", strings.Repeat("HTTP/1.1 102 P\r\n\r\n", 100), func(err error) bool { return errors.As(err, &pe) }},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", func(err error) bool { return errors.As(err, &pe) }},
		{"half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", func(err error) bool { return errors.As(err, &pe) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, conn := newClient(t, ClientOptions{})
			st := open(t, conn)
			if err := st.WriteHeaders(fieldsOf(":method", "GET", ":path", "/", ":authority", "h"), true); err != nil {
				t.Fatal(err)
			}
			p.send(c.send)
			p.conn.CloseWrite()
			var err error
			for next := codec.Data; err == nil && next == codec.Data; {
				var m header.Map
				if next, err = st.ReadHeaders(&m); err == nil && m.Value(header.Status) == "200" {
					var b buffer.Buf
					for next == codec.Data && err == nil {
						next, err = st.ReadData(&b)
					}
					b.Release()
				}
			}
			if !c.check(err) {
				t.Errorf("got %v", err)
			}
			if st.Release() || conn.Free() != 0 || conn.Alive() {
				t.Error("reusable after an error")
			}
		})
	}
}

// TestUnsolicited: what an upstream sends on an idle connection must never be taken
// for the answer to the next request.
func TestUnsolicited(t *testing.T) {
	a, b := tcpPair(t)
	conn := NewClient(netio.NewConn(a), ClientOptions{})
	defer conn.Close()
	if !conn.Alive() {
		t.Fatal("a fresh connection is not alive")
	}
	if _, err := b.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	waitReadable(t, conn.conn)
	if conn.Alive() || conn.Free() != 0 {
		t.Error("alive with an answer that nobody asked for")
	}
	if _, err := conn.Open(context.Background()); err == nil {
		t.Error("it can be opened")
	}
}

func TestAliveAfterClose(t *testing.T) {
	a, b := tcpPair(t)
	conn := NewClient(netio.NewConn(a), ClientOptions{})
	defer conn.Close()
	b.Close()
	waitReadable(t, conn.conn)
	if conn.Alive() {
		t.Error("alive after the peer closed")
	}
}

// waitReadable waits until a read would not wait.
func waitReadable(t *testing.T, c *netio.Conn) {
	t.Helper()
	var b buffer.Buf
	defer b.Release()
	if _, err := c.ReadBuf(&b); err == nil {
		c.Unread(&b)
	}
}

func TestClientBusy(t *testing.T) {
	_, conn := newClient(t, ClientOptions{})
	st := open(t, conn)
	if _, err := conn.Open(context.Background()); err == nil || conn.Free() != 0 {
		t.Error("two exchanges at a time")
	}
	if st.Release() {
		t.Error("reusable without an exchange")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := conn.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a dead context: %v", err)
	}
}

func TestClientUpgrade(t *testing.T) {
	p, conn := newClient(t, ClientOptions{})
	st := open(t, conn)
	if err := st.WriteHeaders(fieldsOf(":method", "GET", ":path", "/", ":authority", "h", "connection", "upgrade", "upgrade", "x"), true); err != nil {
		t.Fatal(err)
	}
	if err := st.Flush(); err != nil {
		t.Fatal(err)
	}
	p.got()
	p.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw")
	var m header.Map
	next, err := st.ReadHeaders(&m)
	if err != nil || next != codec.Data || !st.Upgraded() || list(&m) != ":status=101 connection=upgrade upgrade=x" {
		t.Fatalf("%s next %d upgraded %v, %v", list(&m), next, st.Upgraded(), err)
	}
	var b buffer.Buf
	if next, err := st.ReadData(&b); err != nil || next != codec.Data || string(b.Bytes()) != "raw" {
		t.Errorf("got %q, %v", b.Bytes(), err)
	}
	b.Release()
	if err := st.WriteData(bufOf("back"), false); err != nil {
		t.Error(err)
	}
	if err := st.Flush(); err != nil || p.got() != "back" {
		t.Errorf("raw bytes did not leave, %v", err)
	}
	if st.Release() {
		t.Error("reusable after an upgrade")
	}
}

func TestClientInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, conn := newClient(t, ClientOptions{})
		st := open(t, conn)
		if err := st.WriteHeaders(fieldsOf(":method", "GET", ":path", "/", ":authority", "h"), true); err != nil {
			t.Fatal(err)
		}
		got := make(chan error)
		go func() {
			var m header.Map
			_, err := st.ReadHeaders(&m)
			got <- err
		}()
		synctest.Wait()
		st.Interrupt()
		if err := <-got; !errors.Is(err, netio.ErrInterrupted) {
			t.Errorf("ReadHeaders returned %v", err)
		}
		if st.Release() {
			t.Error("reusable with an answer under way")
		}
		p.conn.Close()
	})
}
