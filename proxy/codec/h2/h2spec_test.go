package h2

import (
	"net"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/codec/h2/h2spectest"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// answer reads the request, then answers, as a service behind the proxy would.
func answer(st codec.ServerStream) {
	var q, tr header.Map
	next, err := st.ReadHeaders(&q)
	var b buffer.Buf
	for err == nil && next == codec.Data {
		next, err = st.ReadData(&b)
		b.Release()
	}
	if err == nil && next == codec.Trailers {
		err = st.ReadTrailers(&tr)
	}
	if err != nil {
		return
	}
	var r header.Map
	r.AddID(header.Status, "200")
	r.AddID(header.ContentLength, "5")
	if st.WriteHeaders(&r, q.Value(header.Method) == "HEAD") == nil && q.Value(header.Method) != "HEAD" {
		_ = st.WriteData(bufOf("hello"), true)
	}
}

// TestH2spec: all cases of h2spec pass, strict ones included.
func TestH2spec(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := NewServer(netio.NewConn(c), ServerOptions{Options: Options{MaxConcurrentStreams: 100}})
			go func() { _ = acceptAll(s, answer) }()
		}
	}()
	h2spectest.Run(t, l.Addr().(*net.TCPAddr).Port, false, 2*time.Second)
}
