package netio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// TestPumpMovesEverything sends random chunks of every size class through a Pump:
// the same bytes arrive, in whatever way they were moved.
func TestPumpMovesEverything(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, most := range []int{1, 100, 20_000, 70_000, 2 << 20} {
			t.Run(fmt.Sprintf("%s/%d", network, most), func(t *testing.T) {
				client, src := pair(t, network)
				dst, server := pair(t, "tcp")
				want := random(min(8<<20, most*300+1))
				var early buffer.Buf
				early.Append(want[:min(len(want), 1000)]) // what a listener filter has read
				rest := want[early.Len():]
				src.Unread(&early)
				go func() {
					r := rand.New(rand.NewPCG(2, uint64(most)))
					for len(rest) > 0 {
						n := min(len(rest), 1+r.IntN(most))
						client.Write(rest[:n])
						rest = rest[n:]
					}
					client.CloseWrite()
				}()
				done := make(chan error, 1)
				var p Pump
				go func() {
					done <- p.Run(dst, src, -1)
					dst.CloseWrite()
				}()
				server.SetReadDeadline(soon())
				got, err := readAll(server)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes of %d arrived, %v", len(got), len(want), err)
				}
				if err := <-done; err != nil || p.Moved.Load() != int64(len(want)) {
					t.Errorf("moved %d, %v", p.Moved.Load(), err)
				}
			})
		}
	}
}

func TestSpliceExactly(t *testing.T) {
	for _, n := range []int64{0, 1, 1000, 16 << 10, 64 << 10, 64<<10 + 1, 3 << 20} {
		client, src := pair(t, "tcp")
		dst, server := pair(t, "tcp")
		want := random(int(n))
		go func() {
			client.Write(want)
			client.Write([]byte("next"))
		}()
		done := make(chan error, 1)
		go func() {
			src.SetReadDeadline(soon())
			moved, err := Splice(dst, src, n)
			if moved != n {
				t.Errorf("moved %d of %d", moved, n)
			}
			dst.CloseWrite()
			done <- err
		}()
		server.SetReadDeadline(soon())
		got, err := readAll(server)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d: %d bytes arrived, %v", n, len(got), err)
		}
		if err := <-done; err != nil {
			t.Errorf("%d: %v", n, err)
		}
		var next buffer.Buf
		for next.Len() < 4 {
			if _, err := src.ReadBuf(&next); err != nil {
				t.Fatal(err)
			}
		}
		if got := next.Bytes(); string(got) != "next" {
			t.Errorf("%d: what follows is %q", n, got)
		}
		next.Release()
	}
}

func TestSpliceEnds(t *testing.T) {
	t.Run("early end", func(t *testing.T) {
		client, src := pair(t, "tcp")
		dst, _ := pair(t, "tcp")
		client.Write(make([]byte, 100_000))
		client.CloseWrite()
		src.SetReadDeadline(soon())
		if n, err := Splice(dst, src, 100_001); n != 100_000 || err != io.ErrUnexpectedEOF {
			t.Errorf("%d, %v", n, err)
		}
	})
	t.Run("write failure", func(t *testing.T) {
		client, src := pair(t, "tcp")
		dst, server := pair(t, "tcp")
		server.Abort()
		src.SetReadDeadline(soon())
		go func() {
			for {
				if _, err := client.Write(make([]byte, 200_000)); err != nil {
					return
				}
			}
		}()
		var we *WriteError
		if _, err := Splice(dst, src, -1); !errors.As(err, &we) {
			t.Errorf("got %v", err)
		}
		client.Close()
	})
	t.Run("interrupt loses nothing", func(t *testing.T) {
		client, src := pair(t, "tcp")
		dst, server := pair(t, "tcp")
		want := random(4 << 20)
		go func() {
			client.Write(want)
			client.CloseWrite()
		}()
		go func() {
			for range 20 {
				src.Interrupt()
			}
		}()
		done := make(chan int64)
		go func() {
			var total int64
			for {
				n, err := Splice(dst, src, -1)
				total += n
				if err == nil {
					break
				}
				if err != ErrInterrupted {
					t.Error(err)
					break
				}
				src.Resume()
			}
			dst.CloseWrite()
			done <- total
		}()
		server.SetReadDeadline(soon())
		got, err := readAll(server)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d of %d bytes arrived, %v", len(got), len(want), err)
		}
		if n := <-done; n != int64(len(want)) {
			t.Errorf("counted %d", n)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		_, src := pair(t, "tcp")
		dst, _ := pair(t, "tcp")
		src.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		src.SetReadDeadline(time.Now().Add(40 * time.Millisecond))
		begin := time.Now()
		if _, err := Splice(dst, src, -1); err == nil || time.Since(begin) < 35*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
	})
	t.Run("cut while the receiver does not read", func(t *testing.T) {
		client, src := pair(t, "tcp")
		dst, server := pair(t, "tcp")
		go func() {
			for {
				if _, err := client.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}()
		done := make(chan error)
		var p Pump
		go func() { done <- p.Run(dst, src, -1) }()
		var b buffer.Buf
		if _, err := server.ReadBuf(&b); err != nil { // it is under way
			t.Fatal(err)
		}
		b.Release()
		dst.Cut()
		var we *WriteError
		if err := <-done; !errors.As(err, &we) || we.Err != ErrInterrupted {
			t.Errorf("got %v", err)
		}
		client.Cut()
	})
}

// TestPumpSeesEndWithLastBytes: data and FIN arrive together, so that there is one
// wake-up for both.
func TestPumpSeesEndWithLastBytes(t *testing.T) {
	for range 200 {
		client, src := pair(t, "tcp")
		dst, server := pair(t, "tcp")
		done := make(chan error, 1)
		go func() {
			var p Pump
			done <- p.Run(dst, src, -1)
			dst.CloseWrite()
		}()
		client.Write([]byte("last words"))
		client.Close()
		server.SetReadDeadline(soon())
		if got, err := readAll(server); err != nil || string(got) != "last words" {
			t.Fatalf("%q, %v", got, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Conn{src, dst, server} {
			c.Close()
		}
	}
}

// TestPumpAllocs: no allocation per chunk, whether it is copied or spliced.
func TestPumpAllocs(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("the race detector drops pooled memory, the invariants record stacks")
	}
	for _, size := range []int{64, 300_000} {
		client, src := pair(t, "tcp")
		dst, server := pair(t, "tcp")
		go func() {
			var p Pump
			p.Run(dst, src, -1)
		}()
		out, in := make([]byte, size), make([]byte, size)
		chunk := func() {
			if _, err := client.Conn.Write(out); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(server.Conn, in); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			chunk()
		}
		if n := testing.AllocsPerRun(200, chunk); n != 0 {
			t.Errorf("%v allocations for a chunk of %d bytes", n, size)
		}
		client.Close()
	}
}

func TestSpliceAllocs(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("the race detector drops pooled memory, the invariants record stacks")
	}
	client, src := pair(t, "tcp")
	dst, server := pair(t, "tcp")
	out, in := make([]byte, 100_000), make([]byte, 100_000)
	once := func() {
		client.Conn.Write(out)
		if _, err := Splice(dst, src, int64(len(out))); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(server.Conn, in)
	}
	once()
	if n := testing.AllocsPerRun(200, once); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
