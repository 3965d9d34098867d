package h1

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// TestDuplex sends a body while the response to it comes back: each half of a
// stream belongs to a goroutine of its own.
func TestDuplex(t *testing.T) {
	const size = 4 << 20
	for _, length := range []string{"", "4194304"} {
		a, b := tcpPair(t)
		done := make(chan error, 1)
		go func() { done <- mirror(NewServer(netio.NewConn(b), ServerOptions{})) }()
		conn := NewClient(netio.NewConn(a), ClientOptions{})
		st := open(t, conn)
		m := fieldsOf(":method", "POST", ":path", "/", ":authority", "h")
		if length != "" {
			m.Add("content-length", length)
		}
		if err := errors.Join(st.WriteHeaders(m, false), st.Flush()); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() {
			for sent := 0; sent < size; sent += 32 << 10 {
				piece := bufOf(string(make([]byte, 32<<10)))
				if err := st.WriteData(piece, sent+32<<10 == size); err != nil {
					t.Error(err)
					return
				}
			}
		})
		var p header.Map
		next, err := st.ReadHeaders(&p)
		n := 0
		for err == nil && next == codec.Data {
			var data buffer.Buf
			next, err = st.ReadData(&data)
			n += data.Len()
			data.Release()
		}
		both.Wait()
		if err != nil || n != size {
			t.Errorf("%d bytes came back, %v", n, err)
		}
		if !st.Release() {
			t.Error("not reusable")
		}
		conn.Close()
		if err := <-done; err != io.EOF {
			t.Errorf("server ended with %v", err)
		}
	}
}

// TestDrainUnderLoad: a drain at any moment loses no request whose bytes arrived
// before the client heard of it.
func TestDrainUnderLoad(t *testing.T) {
	for round := range 50 {
		a, b := tcpPair(t)
		s := NewServer(netio.NewConn(b), ServerOptions{})
		done := make(chan error, 1)
		go func() {
			err := mirror(s)
			s.Close()
			done <- err
		}()
		conn := NewClient(netio.NewConn(a), ClientOptions{})
		closed := false
		for i := 0; !closed; i++ {
			if i == round {
				go s.Drain()
			}
			st, err := conn.Open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			// A write into a connection that is gone fails or not; what counts is the answer.
			_ = st.WriteHeaders(fieldsOf(":method", "GET", ":path", "/", ":authority", "h"), true)
			var m header.Map
			_, err = st.ReadHeaders(&m)
			if err != nil {
				// An idle connection may be closed under a client; this server says so at
				// its next Accept, which is what the client's retry is for.
				if !errors.Is(err, codec.ErrClosedBeforeResponse) || i < round {
					t.Fatalf("request %d: %v", i, err)
				}
				closed = true
			}
			closed = !st.Release() || closed
		}
		conn.Close()
		if err := <-done; err != nil && !errors.Is(err, codec.ErrDraining) {
			t.Fatalf("server ended with %v", err)
		}
	}
}
