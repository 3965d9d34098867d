package netio

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// TestCountStalls: a wait for room is counted once, and once when it is over, for the
// connection and for who feeds it. A write that finds room is none.
func TestCountStalls(t *testing.T) {
	const size = 32 << 20 // more than two sockets hold
	ways := map[string]func(t *testing.T, w *Conn, size int) error{
		"write": func(_ *testing.T, w *Conn, size int) error {
			var b buffer.Buf
			b.Append(make([]byte, size))
			return w.WriteBuf(&b)
		},
		"splice": func(t *testing.T, w *Conn, size int) error {
			from, src := pair(t, "tcp")
			go func() { _, _ = io.Copy(from, bytes.NewReader(make([]byte, size))) }() // Splice says what is missing
			n, err := Splice(w, src, int64(size))
			if n != int64(size) {
				t.Errorf("%d of %d bytes spliced", n, size)
			}
			return err
		},
	}
	for name, write := range ways {
		t.Run(name, func(t *testing.T) {
			w, r := pair(t, "tcp")
			var begun, over, begunFor, overFor stats.Counter
			w.CountStalls(Stalls{&begun, &over})
			w.CountStallsFor(Stalls{Begun: &begunFor, Over: &overFor})
			if err := write(t, w, 1000); err != nil || begun.Value() != 0 || over.Value() != 0 {
				t.Fatalf("with room: %v, begun %d, over %d", err, begun.Value(), over.Value())
			}
			done := make(chan error, 1)
			go func() { done <- write(t, w, size) }()
			for begun.Value() == 0 {
				<-time.After(time.Millisecond)
			}
			if begun.Value() != 1 || over.Value() != 0 {
				t.Errorf("while it waits: begun %d, over %d", begun.Value(), over.Value())
			}
			if _, err := io.CopyN(io.Discard, r, size+1000); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			n := begun.Value()
			if over.Value() != n || begunFor.Value() != n || overFor.Value() != n {
				t.Errorf("begun %d and %d, over %d and %d", n, begunFor.Value(), over.Value(), overFor.Value())
			}
		})
	}
}

// TestLimitWait: a peer that reads, but slowly, does not prolong a wait.
func TestLimitWait(t *testing.T) {
	w, r := pair(t, "tcp")
	w.LimitStall(time.Minute)
	w.LimitWait(100 * time.Millisecond)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		b := make([]byte, 64<<10)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				if _, err := r.Conn.Read(b); err != nil {
					return
				}
			}
		}
	}()
	var b buffer.Buf
	b.Append(make([]byte, 1000))
	if err := w.WriteBuf(&b); err != nil || w.Stuck() {
		t.Errorf("with room: %v, stuck %v", err, w.Stuck())
	}
	b.Append(make([]byte, 256<<20))
	if err := w.WriteBuf(&b); !errors.Is(err, os.ErrDeadlineExceeded) || !w.Stuck() {
		t.Errorf("%v, stuck %v", err, w.Stuck())
	}
}
