package accesslog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/stats"
)

// noFlush is a flush interval that does not come during a test.
const noFlush = time.Hour

func closeAll(t *testing.T, fs *Files) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := fs.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually waits for something that another goroutine does soon.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func TestFlushOnClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	st := stats.NewStore()
	fs := NewFiles(FileOptions{FlushInterval: noFlush}, st.Scope("filesystem"))
	a, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Error("one path, two files")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				a.Write([]byte("one whole line\n"))
			}
		})
	}
	wg.Wait()
	a.Close()
	b.Write([]byte("still open\n"))
	if n := fs.stats.TotalBuffered.Value(); n != 2000*15+11 {
		t.Errorf("%d bytes are buffered", n)
	}
	closeAll(t, fs)
	if got, want := read(t, path), strings.Repeat("one whole line\n", 2000)+"still open\n"; got != want {
		t.Errorf("%d bytes written, want %d", len(got), len(want))
	}
	s := &fs.stats
	if s.Buffered.Value() != 2001 || s.Completed.Value() == 0 || s.Failed.Value() != 0 || s.TotalBuffered.Value() != 0 {
		t.Errorf("buffered %d completed %d failed %d total %d",
			s.Buffered.Value(), s.Completed.Value(), s.Failed.Value(), s.TotalBuffered.Value())
	}
	b.Write([]byte("too late\n"))
	b.Close()
	if n := s.Failed.Value(); n != 1 {
		t.Errorf("a line after the end: %d dropped", n)
	}
	if _, err := fs.Open(path); err == nil {
		t.Error("opened while shutting down")
	}
}

func TestLastCloseFlushes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	fs := NewFiles(FileOptions{FlushInterval: noFlush}, nil)
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("x\n"))
	f.Close()
	<-f.done
	if got := read(t, path); got != "x\n" {
		t.Errorf("got %q", got)
	}
	closeAll(t, fs)
}

func TestFlushByTimerAndBySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	fs := NewFiles(FileOptions{FlushInterval: time.Millisecond}, nil)
	defer closeAll(t, fs)
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("soon\n"))
	eventually(t, "flush by timer", func() bool { return read(t, path) == "soon\n" })
	eventually(t, "counted", func() bool { return fs.stats.FlushedByTimer.Value() == 1 })

	path = filepath.Join(t.TempDir(), "b.log")
	big := NewFiles(FileOptions{FlushInterval: noFlush, MinSize: 1000}, nil)
	defer closeAll(t, big)
	if f, err = big.Open(path); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte(strings.Repeat("a", 999)))
	f.Write([]byte("b"))
	eventually(t, "flush by size", func() bool { return len(read(t, path)) == 1000 })
	if big.stats.FlushedByTimer.Value() != 0 {
		t.Error("counted as flushed by the timer")
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	path, moved := filepath.Join(dir, "a.log"), filepath.Join(dir, "a.log.1")
	fs := NewFiles(FileOptions{FlushInterval: noFlush}, nil)
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("before\n"))
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	fs.Reopen()
	eventually(t, "new file", func() bool { _, err := os.Stat(path); return err == nil })
	f.Write([]byte("after\n"))
	closeAll(t, fs)
	if a, b := read(t, moved), read(t, path); a != "before\n" || b != "after\n" {
		t.Errorf("old file %q, new file %q", a, b)
	}
}

func TestReopenFailureKeepsTheFile(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	fs := NewFiles(FileOptions{FlushInterval: noFlush}, nil)
	f, err := fs.Open(filepath.Join(sub, "a.log"))
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(dir, "moved")
	if err := os.Rename(sub, moved); err != nil {
		t.Fatal(err)
	}
	fs.Reopen()
	eventually(t, "reopen_failed", func() bool { return fs.stats.ReopenFailed.Value() == 1 })
	f.Write([]byte("kept\n"))
	closeAll(t, fs)
	if got := read(t, filepath.Join(moved, "a.log")); got != "kept\n" {
		t.Errorf("got %q", got)
	}
}

// A reader that does not read must cost lines, never the time of a request.
func TestSlowReaderDropsLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
	fs := NewFiles(FileOptions{FlushInterval: noFlush, MinSize: 4096, MaxBuffered: 256 << 10}, nil)
	f, err := fs.Open(path) // nobody reads yet
	if err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const n = 2000 // 2 MB into a pipe of 64 KiB
	for range n {
		f.Write(line)
	}
	dropped := fs.stats.Failed.Value()
	if dropped == 0 {
		t.Error("nothing was dropped")
	}
	if b := fs.stats.TotalBuffered.Value(); b > 256<<10+64<<10 {
		t.Errorf("%d bytes are buffered", b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := fs.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close with a stuck reader: %v", err)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	buf := make([]byte, 1<<20)
	var got uint64
	for got < (n-dropped)*1024 {
		if err := in.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		k, err := in.Read(buf)
		if err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		got += uint64(k)
	}
	<-f.done
	if got != (n-dropped)*1024 {
		t.Errorf("read %d bytes, want %d lines", got, n-dropped)
	}
}

func TestOpenError(t *testing.T) {
	fs := NewFiles(FileOptions{}, nil)
	defer closeAll(t, fs)
	if _, err := fs.Open("/no/such/dir/a.log"); err == nil || !strings.Contains(err.Error(), "/no/such/dir/a.log") {
		t.Errorf("error %v", err)
	}
	if f, err := fs.Open("/dev/stderr"); err != nil || f.out != os.Stderr {
		t.Errorf("stderr: %v", err)
	}
}

func TestLogger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	fs := NewFiles(FileOptions{FlushInterval: noFlush}, nil)
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	format, err := Compile("%RESPONSE_CODE% %REQ(:METHOD)%\n")
	if err != nil {
		t.Fatal(err)
	}
	errorsOnly := NewLogger(StatusCode{AtLeast, 500}, format, f)
	all := NewLogger(nil, format, f)
	e := request()
	for _, code := range []int{200, 503} {
		e.Stream.Code = code
		all.Log(e)
		errorsOnly.Log(e)
	}
	if !raceEnabled {
		e.Stream.Code = 204
		if n := testing.AllocsPerRun(100, func() { all.Log(e) }); n > 0.1 { // the buffer grows now and then
			t.Errorf("%v allocations for a line, want 0", n)
		}
	}
	closeAll(t, fs)
	if got := read(t, path); !strings.HasPrefix(got, "200 POST\n503 POST\n503 POST\n") {
		t.Errorf("got %q", got)
	}
}

func BenchmarkLogger(b *testing.B) {
	fs := NewFiles(FileOptions{}, nil)
	f, err := fs.Open("/dev/null")
	if err != nil {
		b.Fatal(err)
	}
	format, err := Compile(DefaultFormat)
	if err != nil {
		b.Fatal(err)
	}
	l, e := NewLogger(nil, format, f), request()
	b.ReportAllocs()
	for range b.N {
		l.Log(e)
	}
	if err := fs.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
