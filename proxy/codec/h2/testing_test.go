package h2

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// pair returns the ends of a connection of real sockets, which are closed with the test.
func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	a, b, err := netio.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

// serve runs a server on c that handles each stream by h, on a goroutine of its own. The
// test waits for its end.
func serve(t testing.TB, c net.Conn, o ServerOptions, h func(codec.ServerStream)) *ServerConn {
	t.Helper()
	s := NewServer(netio.NewConn(c), o)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = acceptAll(s, h)
	}()
	t.Cleanup(func() {
		_ = c.Close()
		<-over
	})
	return s
}

// acceptAll serves until the connection is over and returns why.
func acceptAll(s *ServerConn, h func(codec.ServerStream)) error {
	var streams sync.WaitGroup
	err := s.AcceptEach(func(st codec.ServerStream) {
		streams.Go(func() {
			defer st.Release()
			h(st)
		})
	})
	streams.Wait()
	_ = s.Close()
	return err
}

// echo answers with the request's body, and says in fields what was asked for.
func echo(st codec.ServerStream) {
	var q, r, tr header.Map
	next, err := st.ReadHeaders(&q)
	if err != nil {
		return
	}
	r.AddID(header.Status, "200")
	for name, value := range q.All() {
		if name[0] == ':' {
			name = "x-" + name[1:]
		}
		switch name {
		case "content-length", "te", "connection", "upgrade":
			name = "x-" + name
		}
		r.Add(name, value)
	}
	if q.Value(header.Method) == "HEAD" || next == codec.End {
		_ = st.WriteHeaders(&r, true)
		return
	}
	if st.WriteHeaders(&r, false) != nil {
		return
	}
	var b buffer.Buf
	for next == codec.Data {
		if next, err = st.ReadData(&b); err != nil {
			b.Release()
			return
		}
		if st.WriteData(&b, next == codec.End) != nil || st.Flush() != nil {
			return
		}
	}
	if next == codec.Trailers && st.ReadTrailers(&tr) == nil {
		_ = st.WriteTrailers(&tr)
	}
}

// dial returns our client on c, closed with the test.
func dial(t testing.TB, c net.Conn, o ClientOptions) *ClientConn {
	t.Helper()
	cl := NewClient(netio.NewConn(c), o)
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

// get makes a request map.
func get(pairs ...string) *header.Map {
	m := &header.Map{}
	m.AddID(header.Method, "GET")
	m.AddID(header.Scheme, "http")
	m.AddID(header.Authority, "example.com")
	m.AddID(header.Path, "/")
	for i := 0; i < len(pairs); i += 2 {
		m.Set(pairs[i], pairs[i+1])
	}
	return m
}

// bufOf returns a Buf with s in it.
func bufOf(s string) *buffer.Buf {
	b := &buffer.Buf{}
	b.AppendString(s)
	return b
}

// response is a whole response.
type response struct {
	head, trailers header.Map
	body           string
}

// read reads a whole response.
func read(st codec.ClientStream) (*response, error) {
	r := &response{}
	_ = st.SetReadDeadline(time.Now().Add(20 * time.Second))
	next, err := st.ReadHeaders(&r.head)
	var b buffer.Buf
	defer b.Release()
	for err == nil && next == codec.Data {
		next, err = st.ReadData(&b)
	}
	if err == nil && next == codec.Trailers {
		err = st.ReadTrailers(&r.trailers)
	}
	r.body = string(b.Bytes())
	r.head.Keep()
	r.trailers.Keep()
	return r, err
}

// roundTrip sends a request with a body, if that is not empty, and reads the response.
func roundTrip(c *ClientConn, q *header.Map, body string) (*response, error) {
	st, err := c.Open(noContext)
	if err != nil {
		return nil, err
	}
	defer st.Release()
	if err := st.WriteHeaders(q, body == ""); err != nil {
		return nil, err
	}
	var wrote sync.WaitGroup
	defer wrote.Wait()
	if body != "" {
		wrote.Go(func() { _ = st.WriteData(bufOf(body), true) })
	}
	return read(st)
}

func mustRoundTrip(t *testing.T, c *ClientConn, q *header.Map, body string) *response {
	t.Helper()
	r, err := roundTrip(c, q, body)
	if err != nil {
		t.Fatalf("%s %s: %v", q.Value(header.Method), q.Value(header.Path), err)
	}
	return r
}
