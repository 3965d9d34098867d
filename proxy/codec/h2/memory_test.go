package h2

import (
	"runtime"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/netio"
)

// TestSmallBodiesMemory: thousands of streams with a few unread bytes each do not hold a
// slab each.
func TestSmallBodiesMemory(t *testing.T) {
	const streams = 10_000
	a, b := pair(t)
	s := NewServer(netio.NewConn(b), ServerOptions{Options: Options{MaxConcurrentStreams: streams}})
	p := newPeer(t, a)
	wrote := make(chan error, 1)
	before := heap()
	go func() {
		for i := range streams {
			id := uint32(2*i + 1)
			err := p.request(id, false)
			if err == nil {
				err = p.fr.WriteData(id, false, []byte("0123456789"))
			}
			if err != nil {
				wrote <- err
				return
			}
		}
		wrote <- p.fr.WritePing(false, [8]byte{})
	}()
	var held []codec.ServerStream
	for len(held) < streams {
		st, err := s.Accept()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, st)
	}
	for s.in.Len() > 0 { // the rest, up to the last body
		if _, err := s.step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	per := (int64(heap()) - int64(before)) / streams
	t.Logf("%d bytes for each stream", per)
	if per > 4<<10 {
		t.Errorf("%d bytes for each stream", per)
	}
	_ = a.Close()
	for _, st := range held {
		st.Release()
	}
	_ = s.Close()
}

// heap is how many bytes are in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
