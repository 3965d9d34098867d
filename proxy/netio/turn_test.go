package netio

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// TestReadEach: every message is seen, whether it comes while the function runs, while
// nobody runs, or together with the end of the stream, which is seen at once.
func TestReadEach(t *testing.T) {
	a, b := exchangePair(t)
	const turns = 200
	asked := make(chan error, 1)
	go func() {
		p := make([]byte, 4)
		for i := range turns {
			if i == turns-1 {
				_, _ = b.Write([]byte("last"))
				asked <- b.(interface{ CloseWrite() error }).CloseWrite()
				return
			}
			_, _ = b.Write([]byte("ping"))
			if i%3 == 0 { // two at once
				continue
			}
			if _, err := io.ReadFull(b, p); err != nil {
				asked <- err
				return
			}
			for j := i; j > 0 && (j-1)%3 == 0; j-- {
				if _, err := io.ReadFull(b, p); err != nil {
					asked <- err
					return
				}
			}
		}
	}()
	if err := a.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var in, out buffer.Buf
	seen := 0
	err := a.ReadEach(&in, func() bool {
		for ; in.Len() >= 4; in.Discard(4) {
			if seen++; seen == turns {
				<-asked // so that the end of the stream is there already
			}
			out.AppendString("pong")
			if err := a.WriteBuf(&out); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	if !errors.Is(err, io.EOF) || seen != turns {
		t.Errorf("%d of %d messages, %v", seen, turns, err)
	}
}

// TestReadEachInside: what the function may do with the connection.
func TestReadEachInside(t *testing.T) {
	a, b := exchangePair(t)
	var in buffer.Buf
	write := func(s string) {
		t.Helper()
		if _, err := b.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	write("x")
	if err := a.ReadEach(&in, func() bool { return false }); err != nil || in.Len() != 1 {
		t.Errorf("a function that has enough: %v, %d bytes", err, in.Len())
	}
	write("x")
	if err := a.ReadEach(&in, func() bool {
		if _, err := a.TryReadBuf(&in); !errors.Is(err, ErrWouldBlock) {
			t.Errorf("TryReadBuf of nothing: %v", err)
		}
		if _, err := a.ReadBuf(&in); err == nil {
			t.Error("ReadBuf inside waits for itself")
		}
		write("yz")
		for in.Len() < 4 {
			if _, err := a.TryReadBuf(&in); err != nil && !errors.Is(err, ErrWouldBlock) {
				t.Fatal(err)
			}
		}
		return false
	}); err != nil || string(in.Bytes()) != "xxyz" {
		t.Errorf("%v, %q", err, in.Bytes())
	}
	if err := a.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := a.ReadEach(&in, func() bool { return true }); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	_ = a.SetReadDeadline(time.Time{})
	go func() { a.Interrupt() }()
	if err := a.ReadEach(&in, func() bool { return true }); !errors.Is(err, ErrInterrupted) {
		t.Errorf("interrupted: %v", err)
	}
	a.Resume()
	write("x")
	if err := a.ReadEach(&in, func() bool { return a.Close() == nil }); err != nil {
		t.Errorf("Close inside: %v", err)
	}
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Error("the connection was not closed")
	}
	in.Release()
}
