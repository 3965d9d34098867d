package netio

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// pair returns two ends of a connection.
func pair(t testing.TB, network string) (a, b *Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			close(got)
			return
		}
		got <- c
	}()
	c, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := <-got
	if s == nil {
		t.Fatal("accept failed")
	}
	a, b = NewConn(c), NewConn(s)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// soon is a deadline that tests reach only when something hangs.
func soon() time.Time { return time.Now().Add(20 * time.Second) }

func random(n int) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func readAll(c *Conn) ([]byte, error) {
	var b buffer.Buf
	defer b.Release()
	for {
		if _, err := c.ReadBuf(&b); err != nil {
			if err == io.EOF {
				err = nil
			}
			return b.Bytes(), err
		}
	}
}

// TestWriteBufManyViews sends more views than fit into one call, through a socket
// buffer that is full again and again.
func TestWriteBufManyViews(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		a, b := pair(t, network)
		var out, rest buffer.Buf
		want := random(3 << 20)
		for i := 0; i < len(want); { // pieces of odd sizes, so that slabs are shared by views
			n := min(len(want)-i, 1+(i*7919)%9000)
			out.Append(want[i : i+n])
			i += n
		}
		for out.Len() > 0 {
			rest.Move(&out, 777)
		}
		if rest.Segments() <= maxVecs {
			t.Fatalf("only %d views", rest.Segments())
		}
		go func() {
			if err := a.WriteBuf(&rest); err != nil {
				t.Error(err)
			}
			a.CloseWrite()
		}()
		b.SetReadDeadline(soon())
		got, err := readAll(b)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes of %d arrived, %v", network, len(got), len(want), err)
		}
	}
}

func TestReadBufLimits(t *testing.T) {
	a, b := pair(t, "tcp")
	b.SetReadDeadline(soon())
	if _, err := a.Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	var buf buffer.Buf
	defer buf.Release()
	for _, limit := range []int{0, -1, 1, 3, 100} {
		n, err := b.ReadBufMax(&buf, limit)
		if err != nil || n > max(limit, 0) {
			t.Fatalf("limit %d: read %d, %v", limit, n, err)
		}
	}
	if got := buf.Bytes(); string(got) != "0123456789" {
		t.Errorf("read %q", got)
	}
	if n, err := b.TryReadBuf(&buf); n != 0 || err != ErrWouldBlock {
		t.Errorf("TryReadBuf of nothing = %d, %v", n, err)
	}
}

func TestUnread(t *testing.T) {
	a, b := pair(t, "tcp")
	b.SetReadDeadline(soon())
	a.Write([]byte("world"))
	var buf, early buffer.Buf
	early.AppendString("hello ")
	b.Unread(&early)
	early.AppendString("oh, ")
	b.Unread(&early)
	if b.Pending() != 10 || early.Len() != 0 {
		t.Errorf("pending %d, left %d", b.Pending(), early.Len())
	}
	for buf.Len() < len("oh, hello world") {
		if _, err := b.ReadBufMax(&buf, 4); err != nil {
			t.Fatal(err)
		}
	}
	if got := buf.Bytes(); string(got) != "oh, hello world" {
		t.Errorf("read %q", got)
	}
	buf.Release()
}

func TestHalfClose(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		a, b := pair(t, network)
		a.SetReadDeadline(soon())
		b.SetReadDeadline(soon())
		a.Write([]byte("question"))
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(b); err != nil || string(got) != "question" {
			t.Fatalf("read %q, %v", got, err)
		}
		var buf buffer.Buf
		if n, err := b.ReadBuf(&buf); n != 0 || err != io.EOF { // and again
			t.Errorf("after the end: %d, %v", n, err)
		}
		if !b.PeerClosed() || b.PeerReset() {
			t.Errorf("PeerClosed %v, PeerReset %v after a half-close", b.PeerClosed(), b.PeerReset())
		}
		buf.AppendString("answer")
		if err := b.WriteBuf(&buf); err != nil {
			t.Fatal(err)
		}
		b.CloseWrite()
		if got, err := readAll(a); err != nil || string(got) != "answer" {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

func TestAbortIsReset(t *testing.T) {
	a, b := pair(t, "tcp")
	b.SetReadDeadline(soon())
	a.Abort()
	var buf buffer.Buf
	if _, err := b.ReadBuf(&buf); err == nil || err == io.EOF {
		t.Errorf("read after a reset: %v", err)
	}
	if !b.PeerClosed() || !b.PeerReset() {
		t.Error("the reset is not seen")
	}
	buf.AppendString("x")
	if err := b.WriteBuf(&buf); err == nil {
		t.Error("a write after a reset succeeded")
	}
	if buf.Len() != 0 {
		t.Error("a failed write has not consumed its buffer")
	}
}

func TestReadDeadline(t *testing.T) {
	_, b := pair(t, "tcp")
	var buf buffer.Buf
	check := func(want time.Duration) {
		t.Helper()
		begin := time.Now()
		if _, err := b.ReadBuf(&buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if d := time.Since(begin); d < want-5*time.Millisecond || d > want+2*time.Second {
			t.Errorf("gave up after %v, want %v", d, want)
		}
	}
	b.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	check(30 * time.Millisecond)
	// Moved away before it has passed: the poller wakes up for the first one in vain.
	b.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	b.SetReadDeadline(time.Now().Add(80 * time.Millisecond))
	check(80 * time.Millisecond)
	// Moved nearer.
	b.SetReadDeadline(time.Now().Add(time.Hour))
	b.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	check(20 * time.Millisecond)
	// In the past.
	b.SetReadDeadline(time.Now().Add(-time.Second))
	check(0)
}

// TestInterruptRace interrupts a reader that moves its deadline all the time: no
// interruption may be lost, and no read may fail without one.
func TestInterruptRace(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	a, b := pair(t, "tcp")
	defer a.Close()
	var buf buffer.Buf
	for i := range rounds {
		go func() {
			for range i % 7 { // reach different points of the reader
				b.Pending()
			}
			b.Interrupt()
		}()
		for stop := false; !stop; {
			b.SetReadDeadline(time.Now().Add(time.Duration(1+i%3) * time.Hour / time.Duration(1+i%50)))
			n, err := b.ReadBuf(&buf)
			switch {
			case err == ErrInterrupted:
				stop = true
			default:
				t.Fatalf("round %d: %d, %v", i, n, err)
			}
		}
		b.Resume()
		a.Write([]byte("x"))
		b.SetReadDeadline(soon())
		if n, err := b.ReadBuf(&buf); n != 1 || err != nil {
			t.Fatalf("round %d: after Resume: %d, %v", i, n, err)
		}
		buf.Release()
	}
}

func TestCutEndsReadsAndWrites(t *testing.T) {
	a, b := pair(t, "tcp")
	var wg sync.WaitGroup
	wg.Go(func() {
		var buf buffer.Buf
		if _, err := b.ReadBuf(&buf); err != ErrInterrupted {
			t.Errorf("read: %v", err)
		}
	})
	wg.Go(func() {
		var buf buffer.Buf
		for {
			buf.Append(make([]byte, 1<<16))
			if err := b.WriteBuf(&buf); err != nil {
				if err != ErrInterrupted {
					t.Errorf("write: %v", err)
				}
				return
			}
		}
	})
	var first buffer.Buf
	if _, err := a.ReadBuf(&first); err != nil { // both are under way
		t.Fatal(err)
	}
	first.Release()
	b.Cut()
	wg.Wait()
	b.Resume() // has no effect any more
	b.SetWriteDeadline(time.Time{})
	if _, err := b.Write([]byte("x")); err != ErrInterrupted {
		t.Errorf("write after Cut: %v", err)
	}
}

func TestCloseUnblocks(t *testing.T) {
	_, b := pair(t, "tcp")
	done := make(chan error)
	go func() {
		var buf buffer.Buf
		_, err := b.ReadBuf(&buf)
		done <- err
	}()
	b.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestIndirect uses a connection that is no plain socket, such as TLS.
func TestIndirect(t *testing.T) {
	x, y := net.Pipe()
	a, b := NewConn(x), NewConn(y)
	defer a.Close()
	defer b.Close()
	if a.Direct() {
		t.Fatal("a pipe is no socket")
	}
	var out, in buffer.Buf
	out.Append(random(100_000))
	want := out.Bytes()
	go func() {
		if err := a.WriteBuf(&out); err != nil {
			t.Error(err)
		}
	}()
	for in.Len() < len(want) {
		if _, err := b.ReadBuf(&in); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(in.Bytes(), want) {
		t.Error("other bytes arrived")
	}
	in.Release()
	go b.Interrupt()
	if _, err := b.ReadBuf(&in); err != ErrInterrupted {
		t.Errorf("got %v", err)
	}
	b.Resume()
	b.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := b.ReadBuf(&in); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if a.PeerClosed() {
		t.Error("PeerClosed cannot know")
	}
}

func TestCountInto(t *testing.T) {
	a, b := pair(t, "tcp")
	var rx, tx stats.Counter
	b.CountInto(&rx, &tx)
	var buf buffer.Buf
	a.Write(make([]byte, 1000))
	b.SetReadDeadline(soon())
	for buf.Len() < 1000 {
		b.ReadBufMax(&buf, 100)
	}
	b.WriteBuf(&buf)
	b.Write(make([]byte, 5))
	if rx.Value() != 1000 || tx.Value() != 1005 {
		t.Errorf("counted %d and %d", rx.Value(), tx.Value())
	}
}

// TestCountIntoUnread: what a listener filter has read counts once, and as read.
func TestCountIntoUnread(t *testing.T) {
	a, b := pair(t, "tcp")
	var rx, tx stats.Counter
	var buf buffer.Buf
	a.Write(make([]byte, 100))
	b.SetReadDeadline(soon())
	if _, err := b.ReadBuf(&buf); err != nil {
		t.Fatal(err)
	}
	b.Unread(&buf)
	b.CountInto(&rx, &tx)
	a.Write(make([]byte, 11))
	for buf.Len() < 111 {
		if _, err := b.ReadBuf(&buf); err != nil {
			t.Fatal(err)
		}
	}
	buf.Release()
	if rx.Value() != 111 || tx.Value() != 0 {
		t.Errorf("counted %d and %d", rx.Value(), tx.Value())
	}
}

func TestReadWriteAllocs(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("the race detector drops pooled memory, the invariants record stacks")
	}
	a, b := pair(t, "tcp")
	var buf, out buffer.Buf
	p := make([]byte, 3000)
	b.PeerClosed() // makes what is made on first use
	if n := testing.AllocsPerRun(500, func() {
		out.Append(p)
		out.Append(p)
		if err := a.WriteBuf(&out); err != nil {
			t.Fatal(err)
		}
		b.SetReadDeadline(time.Now().Add(time.Hour))
		for buf.Len() < 2*len(p) {
			if _, err := b.ReadBuf(&buf); err != nil {
				t.Fatal(err)
			}
		}
		buf.Release()
		if _, err := b.TryReadBuf(&buf); err != ErrWouldBlock {
			t.Fatal(err)
		}
		if b.PeerClosed() {
			t.Fatal("closed?")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a write, reads and a look at the peer", n)
	}
}

// TestExchange: what is written leaves, an answer that comes at once or late is read,
// a full socket is waited for, and a peer that has gone is an error, not a hang.
func TestExchange(t *testing.T) {
	a, b := exchangePair(t)
	t.Run("answer", func(t *testing.T) {
		for i := range 200 {
			go func() {
				p := make([]byte, 4)
				if _, err := io.ReadFull(b, p); err == nil {
					_, _ = b.Write([]byte("pong"))
				}
			}()
			var out, in buffer.Buf
			out.AppendString("ping")
			n, sent, err := a.Exchange(&out, &in)
			if err != nil || !sent || n != 4 || string(in.Bytes()) != "pong" {
				t.Fatalf("round %d: %d %v %v %q", i, n, sent, err, in.Bytes())
			}
			in.Release()
		}
	})
	t.Run("more than the socket takes", func(t *testing.T) {
		const size = 8 << 20
		go func() {
			if _, err := io.CopyN(io.Discard, b, size); err == nil {
				_, _ = b.Write([]byte("done"))
			}
		}()
		var out, in buffer.Buf
		out.Append(make([]byte, size))
		if _, sent, err := a.Exchange(&out, &in); err != nil || !sent || string(in.Bytes()) != "done" {
			t.Errorf("%v %v %q", sent, err, in.Bytes())
		}
		in.Release()
	})
	t.Run("deadline", func(t *testing.T) {
		if err := a.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		var out, in buffer.Buf
		out.AppendString("ping")
		if _, sent, err := a.Exchange(&out, &in); !sent || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v %v", sent, err)
		}
		_ = a.SetReadDeadline(time.Time{})
	})
	t.Run("deadline that has passed before", func(t *testing.T) {
		if _, err := io.ReadFull(b, make([]byte, 4)); err != nil { // of the case before
			t.Fatal(err)
		}
		_ = a.SetReadDeadline(time.Now().Add(-time.Second))
		var out, in buffer.Buf
		out.AppendString("ping")
		if _, sent, err := a.Exchange(&out, &in); !sent || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v %v", sent, err)
		}
		_ = a.SetReadDeadline(time.Time{})
		p := make([]byte, 4)
		if _, err := io.ReadFull(b, p); err != nil || string(p) != "ping" {
			t.Errorf("the peer has got %q, %v", p, err)
		}
	})
	t.Run("a peer that does not read", func(t *testing.T) {
		var out, in buffer.Buf
		out.Append(make([]byte, 16<<20))
		_ = a.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, sent, err := a.Exchange(&out, &in); sent || !errors.Is(err, os.ErrDeadlineExceeded) || out.Len() == 0 {
			t.Fatalf("%v %v, %d bytes left", sent, err, out.Len())
		}
		go func() {
			if _, err := io.CopyN(io.Discard, b, 16<<20); err == nil {
				_, _ = b.Write([]byte("done"))
			}
		}()
		_ = a.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, sent, err := a.Exchange(&out, &in); !sent || err != nil || string(in.Bytes()) != "done" {
			t.Errorf("%v %v %q", sent, err, in.Bytes())
		}
		in.Release()
	})
	t.Run("an answer of who does not read", func(t *testing.T) {
		var out, in buffer.Buf
		out.Append(make([]byte, 16<<20))
		_ = a.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, _, err := a.Exchange(&out, &in); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if _, err := b.Write([]byte("no")); err != nil {
			t.Fatal(err)
		}
		_ = a.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, sent, err := a.Exchange(&out, &in); sent || err != nil || string(in.Bytes()) != "no" || out.Len() != 0 {
			t.Errorf("%v %v %q, %d bytes left", sent, err, in.Bytes(), out.Len())
		}
		in.Release()
	})
	t.Run("peer gone", func(t *testing.T) {
		_ = b.Close()
		if err := a.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var err error
		for err == nil {
			var out, in buffer.Buf
			out.AppendString("ping")
			_, _, err = a.Exchange(&out, &in)
			in.Release()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection that the peer has closed was waited for")
		}
	})
}

// exchangePair returns both ends of a loopback connection.
func exchangePair(t *testing.T) (*Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); peer.Close() })
	return NewConn(c), peer
}
