package h1

import (
	"context"
	"net"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// tcpPair returns the two ends of a TCP connection.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// serveEcho answers every request with its body, or "hi" where there is none.
func serveEcho(c *ServerConn) error {
	var req, resp header.Map
	var body, chunk buffer.Buf
	for {
		st, err := c.Accept()
		if err != nil {
			return err
		}
		next, err := st.ReadHeaders(&req)
		for err == nil && next == codec.Data {
			next, err = st.ReadData(&chunk)
			body.MoveAll(&chunk)
		}
		if err != nil {
			return err
		}
		if body.Len() == 0 {
			body.AppendString("hi")
		}
		resp.AddID(header.Status, "200")
		resp.SetInt(header.ContentLength, int64(body.Len()))
		if err := st.WriteHeaders(&resp, false); err != nil {
			return err
		}
		if err := st.WriteData(&body, true); err != nil {
			return err
		}
		req.Reset()
		resp.Reset()
		if !st.Release() {
			return c.Close()
		}
	}
}

// exchange sends one request and reads the whole response.
func exchange(t testing.TB, c *ClientConn, method, send string) (status, body string) {
	t.Helper()
	st, err := c.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var q, p header.Map
	q.AddID(header.Method, method)
	q.AddID(header.Path, "/x")
	q.AddID(header.Authority, "host")
	if err := st.WriteHeaders(&q, send == ""); err != nil {
		t.Fatal(err)
	}
	if send != "" {
		var b buffer.Buf
		b.AppendString(send)
		if err := st.WriteData(&b, true); err != nil {
			t.Fatal(err)
		}
	}
	next, err := st.ReadHeaders(&p)
	if err != nil {
		t.Fatal(err)
	}
	var b buffer.Buf
	for next == codec.Data {
		if next, err = st.ReadData(&b); err != nil {
			t.Fatal(err)
		}
	}
	status, body = p.Value(header.Status), string(b.Bytes())
	status = string([]byte(status))
	b.Release()
	st.Release()
	return status, body
}

func TestKeepAlive(t *testing.T) {
	a, b := tcpPair(t)
	done := make(chan error, 1)
	go func() { done <- serveEcho(NewServer(netio.NewConn(b), ServerOptions{})) }()
	c := NewClient(netio.NewConn(a), ClientOptions{})
	for i := range 3 {
		if c.Used() != (i > 0) {
			t.Errorf("exchange %d: Used() = %v", i, c.Used())
		}
		if status, body := exchange(t, c, "GET", ""); status != "200" || body != "hi" {
			t.Errorf("exchange %d: got %s %q", i, status, body)
		}
		if !c.Alive() || c.Free() != 1 {
			t.Fatalf("exchange %d: connection is not reusable", i)
		}
	}
	if status, body := exchange(t, c, "POST", "some words"); status != "200" || body != "some words" {
		t.Errorf("got %s %q", status, body)
	}
	c.Close()
	if err := <-done; err.Error() != "EOF" {
		t.Errorf("server ended with %v", err)
	}
}
