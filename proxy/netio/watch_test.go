package netio

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// patience is how long a test waits for what has to come.
const patience = 15 * time.Second

// reader runs one of the ways to read in turns: it calls turn for each arrival, and returns
// when the stream is over.
type reader struct {
	name string
	read func(t *testing.T, c *Conn, turn func()) error
}

func readers() []reader {
	each := func(read func(*Conn, *buffer.Buf, func() bool) error) func(*testing.T, *Conn, func()) error {
		return func(_ *testing.T, c *Conn, turn func()) error {
			var in buffer.Buf
			defer in.Release()
			return read(c, &in, func() bool { in.Discard(in.Len()); turn(); return true })
		}
	}
	return []reader{
		{"ReadEach", each((*Conn).ReadEach)},
		{"ReadShared", each((*Conn).ReadShared)},
		{"Pump", func(t *testing.T, c *Conn, turn func()) error {
			dst, drain := exchangePair(t)
			go func() { _, _ = io.Copy(io.Discard, drain) }() // ends with the pair
			p := &Pump{Stop: func() bool { turn(); return false }}
			return p.Run(dst, c, -1)
		}},
	}
}

// TestEndWithTheLastBytes: a peer that ends or resets the stream right after its last bytes
// is noticed at once, although the poller tells of both together.
func TestEndWithTheLastBytes(t *testing.T) {
	for _, r := range readers() {
		for _, reset := range []bool{false, true} {
			for _, watched := range []bool{false, true} {
				for _, turns := range []int{1, 4, watchAfter, watchAfter + 2, 2 * watchAfter} {
					t.Run(fmt.Sprintf("%s/reset=%t/watched=%t/%d", r.name, reset, watched, turns), func(t *testing.T) {
						endWithTheLastBytes(t, r, reset, watched, turns)
					})
				}
			}
		}
	}
}

func endWithTheLastBytes(t *testing.T, r reader, reset, watched bool, turns int) {
	a, b := exchangePair(t)
	p := newParker(t)
	if watched {
		a.WatchedBy(p)
	}
	if err := a.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	ping := func() {
		if _, err := b.Write([]byte("ping")); err != nil {
			t.Error(err)
		}
	}
	ping()
	seen := 0
	err := r.read(t, a, func() {
		switch seen++; {
		case seen < turns:
			ping()
		case seen == turns: // while nobody waits, the last bytes come and the end with them
			ping()
			end(t, b, reset)
			await(t, "the end in the socket", a.PeerClosed)
		}
	})
	if seen != turns+1 {
		t.Errorf("%d of %d messages", seen, turns+1)
	}
	if reset && !errors.Is(err, syscall.ECONNRESET) || !reset && err != nil && err != io.EOF {
		t.Errorf("the end is %v", err)
	}
}

// end ends what b sends, or resets it.
func end(t *testing.T, b net.Conn, reset bool) {
	t.Helper()
	c := b.(*net.TCPConn)
	stop := c.CloseWrite
	if reset {
		if err := c.SetLinger(0); err != nil {
			t.Error(err)
		}
		stop = c.Close
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for by := time.Now().Add(patience); !ok(); {
		if time.Now().After(by) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// TestWatchStress: readers that are watched are ended in every way, at any moment, and all
// hear of it. Nothing of them stays in the Parker.
func TestWatchStress(t *testing.T) {
	p := newParker(t)
	var all sync.WaitGroup
	for i := range 120 {
		a, b := exchangePair(t)
		a.WatchedBy(p)
		if err := a.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		way := i % 4
		all.Go(func() {
			for range watchAfter + i%7 {
				if _, err := b.Write([]byte("ping")); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(b, make([]byte, 4)); err != nil {
					t.Error(err)
				}
			}
			switch way {
			case 0, 1:
				if i%3 == 0 {
					_, _ = b.Write([]byte("last"))
				}
				end(t, b, way == 1)
			case 2:
				_ = a.Close()
			case 3:
				a.Interrupt()
			}
		})
		all.Go(func() {
			var in, out buffer.Buf
			err := a.ReadShared(&in, func() bool {
				in.Discard(in.Len())
				out.AppendString("pong")
				_ = a.WriteBuf(&out) // the peer may be gone
				return true
			})
			in.Release()
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || (way == 3) != errors.Is(err, ErrInterrupted) {
				t.Errorf("way %d: the reader was told %v", way, err)
			}
			_ = a.Close()
		})
	}
	all.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pl := range p.slots {
		if pl != nil {
			t.Errorf("a connection stays, armed %t", pl.watches)
		}
	}
}

// TestWatchAndPark: a connection is watched, parked, and watched again.
func TestWatchAndPark(t *testing.T) {
	p := newParker(t)
	a, b := exchangePair(t)
	a.WatchedBy(p)
	if err := a.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	read := func(turns int) error {
		n := 0
		var in buffer.Buf
		return a.ReadEach(&in, func() bool {
			in.Discard(in.Len())
			if n++; n < turns {
				_, _ = b.Write([]byte("ping")) // what is missing is missed
			}
			return n < turns
		})
	}
	for range 3 {
		if !wokenBy(t, p, a, time.Time{}, func() { _, _ = b.Write([]byte("ping")) }) {
			t.Error("data: not readable")
		}
		if err := read(2 * watchAfter); err != nil {
			t.Fatal(err)
		}
	}
	if !wokenBy(t, p, a, time.Time{}, func() { end(t, b, true) }) {
		t.Error("reset while parked: not readable")
	}
	if err := read(1); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
}

// TestTheWatchEnds: who is watched when its Parker is closed looks for the end itself.
func TestTheWatchEnds(t *testing.T) {
	p := NewParker()
	a, b := exchangePair(t)
	a.WatchedBy(p)
	if err := a.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = b.Write([]byte("ping"))
	n := 0
	var in buffer.Buf
	err := a.ReadEach(&in, func() bool {
		in.Discard(in.Len())
		switch n++; n {
		case watchAfter + 3:
			p.Close()
		case watchAfter + 5:
			end(t, b, true)
			await(t, "the reset", a.PeerReset)
			return true
		}
		_, _ = b.Write([]byte("ping")) // what is missing is missed
		if n == watchAfter+4 {
			_, _ = b.Write([]byte("ping"))
		}
		return true
	})
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the reset is %v after %d messages", err, n)
	}
}
