package h2

import (
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// TestExchangeAllocs: an exchange whose fields were there before costs no memory on either
// side.
func TestExchangeAllocs(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("the race detector makes pools forget, and invariants note who holds what")
	}
	a, b := pair(t)
	s := NewServer(netio.NewConn(b), ServerOptions{})
	work, over := make(chan codec.ServerStream), make(chan struct{})
	go func() {
		defer close(over)
		answer := reply("200", "content-type", "text/plain")
		var q header.Map
		var body buffer.Buf
		for st := range work {
			q.Reset()
			_, err := st.ReadHeaders(&q)
			body.AppendString("hello")
			if err == nil && st.WriteHeaders(answer, false) == nil {
				_ = st.WriteData(&body, true)
			}
			body.Release()
			st.Release()
		}
	}()
	go func() {
		defer close(work)
		for st, err := s.Accept(); err == nil; st, err = s.Accept() {
			work <- st
		}
	}()
	c := NewClient(netio.NewConn(a), ClientOptions{})
	q := get("user-agent", "test", "accept", "*/*")
	var m header.Map
	var body buffer.Buf
	exchange := func() {
		st, err := c.Open(noContext)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Release()
		m.Reset()
		if err = st.WriteHeaders(q, true); err == nil {
			_, err = st.ReadHeaders(&m)
		}
		for next := codec.Data; err == nil && next == codec.Data; {
			next, err = st.ReadData(&body)
		}
		if body.Release(); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		exchange()
	}
	if n := testing.AllocsPerRun(500, exchange); n > 0 {
		t.Errorf("%v allocations", n)
	}
	_ = c.Close()
	<-over
	_ = s.Close()
}
