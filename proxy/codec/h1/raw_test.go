package h1

import (
	"io"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// TestRaw moves bodies around the codec, as splicing does, and goes on with the
// next message by the codec.
func TestRaw(t *testing.T) {
	a, b := tcpPair(t)
	s := NewServer(netio.NewConn(b), ServerOptions{})
	defer s.Close()
	if _, err := a.Write([]byte("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nabcd")); err != nil {
		t.Fatal(err)
	}
	st, err := s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var m header.Map
	if _, err := st.ReadHeaders(&m); err != nil {
		t.Fatal(err)
	}
	rs, ok := st.Raw()
	if !ok {
		t.Fatal("a socket that is no socket")
	}
	if _, _, ok := rs.ReadSide(); ok {
		t.Error("ReadSide passes over bytes that are buffered")
	}
	var body buffer.Buf
	if next, err := st.ReadData(&body); err != nil || next != codec.Data {
		t.Fatalf("next %d, %v", next, err)
	}
	conn, n, ok := rs.ReadSide()
	if !ok || n != 4 {
		t.Fatalf("ReadSide: %d, %v; want 4 bytes", n, ok)
	}
	if _, err := a.Write([]byte("efghGET /next HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, n)
	if _, err := io.ReadFull(conn, rest); err != nil {
		t.Fatal(err)
	}
	rs.DoneRead(n, false)
	if next, err := st.ReadData(&body); err != nil || next != codec.End || string(body.Bytes())+string(rest) != "abcdefgh" {
		t.Errorf("%q %q, next %d, %v", body.Bytes(), rest, next, err)
	}
	body.Release()

	if err := st.WriteHeaders(fieldsOf(":status", "200", "content-length", "5"), false); err != nil {
		t.Fatal(err)
	}
	conn, n, ok = rs.WriteSide()
	if !ok || n != 5 {
		t.Fatalf("WriteSide: %d, %v; want 5 bytes", n, ok)
	}
	if _, err := conn.Write([]byte("12345")); err != nil {
		t.Fatal(err)
	}
	rs.DoneWrite(5)
	if err := st.WriteData(nil, true); err != nil {
		t.Error(err)
	}
	want := "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(a, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	if r, w := st.WireBytes(); r.Body != 8 || w.Body != 5 {
		t.Errorf("counted %d and %d bytes of bodies", r.Body, w.Body)
	}
	if !st.Release() {
		t.Fatal("not reusable")
	}
	if _, m, _ := accept(t, s); m.Value(header.Path) != "/next" {
		t.Errorf("next request is %s", list(m))
	}
}

func TestRawChunked(t *testing.T) {
	p, s := newServer(t, ServerOptions{})
	p.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
	st, _, _ := accept(t, s)
	if err := st.WriteHeaders(fieldsOf(":status", "200"), false); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := st.ReadSide(); ok {
		t.Error("chunks may be read around the codec")
	}
	if _, _, ok := st.WriteSide(); ok {
		t.Error("chunks may be written around the codec")
	}
	if _, ok := st.Raw(); ok {
		t.Error("a connection in memory can be spliced")
	}
	st.Release()
}
