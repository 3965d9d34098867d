package h1

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// newSocketServer is newServer on real sockets, whose reads can be tried.
func newSocketServer(t *testing.T) (net.Conn, *ServerConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(netio.NewConn(c), ServerOptions{})
	t.Cleanup(func() { client.Close(); s.Close() })
	return client, s
}

// TestAcceptEach: requests that are there as a whole are served in turns, pipelined
// ones and those with their bodies too; one that is not comes back.
func TestAcceptEach(t *testing.T) {
	client, s := newSocketServer(t)
	const get = "GET /get HTTP/1.1\r\nHost: h\r\n\r\n"
	big := strings.Repeat("b", 40<<10)
	sent := make(chan error, 1)
	go func() {
		answer := make([]byte, 256)
		for _, part := range []string{
			get + get + "\r\n" + get,
			"POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" + get,
			"POST /big HTTP/1.1\r\nHost: h\r\nContent-Length: 40960\r\n\r\n" + big,
			get[:10],
		} {
			if _, err := client.Write([]byte(part)); err != nil {
				sent <- err
				return
			}
			for n := strings.Count(part, " HTTP/1.1\r\n"); n > 0; {
				k, err := client.Read(answer)
				if err != nil {
					sent <- err
					return
				}
				n -= strings.Count(string(answer[:k]), "\r\n\r\n")
			}
		}
		sent <- nil
	}()
	var paths []string
	turn := func(st codec.ServerStream) bool {
		var m header.Map
		next, err := st.ReadHeaders(&m)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, strings.Clone(m.Value(header.Path)))
		for next == codec.Data {
			for !st.(codec.BodyPeeker).WholeBody(64 << 10) {
			}
			var b buffer.Buf
			if next, err = st.ReadData(&b); err != nil {
				t.Fatal(err)
			}
			b.Release()
		}
		if err := st.WriteHeaders(fieldsOf(":status", "204"), true); err != nil {
			t.Fatal(err)
		}
		return st.Release()
	}
	st, err := s.AcceptEach(turn)
	if err != nil || st == nil {
		t.Fatalf("stream %v, %v", st, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(paths, " "); got != "/get /get /get /small /get /big" {
		t.Errorf("served in turns: %s", got)
	}
	if _, err := client.Write([]byte(get[10:])); err != nil {
		t.Fatal(err)
	}
	turn(st)
	if paths[len(paths)-1] != "/get" {
		t.Errorf("the incomplete one: %q", paths)
	}
	if _, err := client.Write([]byte(get)); err != nil {
		t.Fatal(err)
	}
	if st, err := s.AcceptEach(func(st codec.ServerStream) bool {
		turn(st)
		s.Drain()
		return true
	}); st != nil || !errors.Is(err, codec.ErrDraining) {
		t.Errorf("drained in a turn: %v, %v", st, err)
	}
}

// TestAcceptEachEnds: the end of the connection, a turn that has enough, and a drain
// while nothing comes.
func TestAcceptEachEnds(t *testing.T) {
	_, s := newSocketServer(t)
	waits := make(chan error)
	go func() {
		_, err := s.AcceptEach(func(codec.ServerStream) bool { return true })
		waits <- err
	}()
	s.Drain()
	if err := <-waits; !errors.Is(err, codec.ErrDraining) {
		t.Errorf("drained: %v", err)
	}
	client, s := newSocketServer(t)
	if _, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if st, err := s.AcceptEach(func(st codec.ServerStream) bool { st.Release(); return false }); st != nil || err != nil {
		t.Errorf("a turn that has enough: %v, %v", st, err)
	}
	client.Close()
	if _, err := s.AcceptEach(func(codec.ServerStream) bool { return true }); !errors.Is(err, io.EOF) {
		t.Errorf("closed by the client: %v", err)
	}
}

// TestHoldEnd: the end of a request leaves with the read of its response, or before
// if that is taken back.
func TestHoldEnd(t *testing.T) {
	p, c := newClient(t, ClientOptions{})
	for _, hold := range []bool{true, false} {
		st := open(t, c)
		st.(codec.EndHolder).HoldEnd(true)
		if err := st.WriteHeaders(fieldsOf(":method", "POST", ":path", "/", ":authority", "h", "content-length", "3"), false); err != nil {
			t.Fatal(err)
		}
		st.(codec.EndHolder).HoldEnd(hold)
		if err := st.WriteData(bufOf("abc"), true); err != nil {
			t.Fatal(err)
		}
		if got := p.got(); strings.HasSuffix(got, "abc") == hold {
			t.Errorf("hold %v: sent at once %q", hold, got)
		}
		p.send("HTTP/1.1 204 No Content\r\n\r\n")
		var m header.Map
		if _, err := st.ReadHeaders(&m); err != nil {
			t.Fatal(err)
		}
		if got := p.got(); strings.HasSuffix(got, "abc") != hold {
			t.Errorf("hold %v: sent with the read %q", hold, got)
		}
		if !st.Release() {
			t.Error("not reusable")
		}
	}
}
