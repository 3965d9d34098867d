package accesslog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/stats"
)

// FileOptions say when buffers are written.
type FileOptions struct {
	FlushInterval time.Duration                      // --file-flush-interval-msec; 0 is 1 s
	MinSize       int                                // --file-flush-min-size-kb in bytes; 0 is 64 KiB
	Runtime       *runtime.Runtime                   // what filters of logs look keys up in; nil has none
	Remote        func(config any) (Recorder, error) // opens logs that go to services; nil: there are none
	MaxBuffered   int                                // entries are dropped beyond this many bytes per file; 0 is 4 MiB
}

// FileStats are the statistics of all files, under Envoy's names.
type FileStats struct {
	Buffered       stats.Counter `stat:"write_buffered" help:"Lines put into the buffer of a file."`
	Completed      stats.Counter `stat:"write_completed" help:"Times a buffer was written to a file."`
	Failed         stats.Counter `stat:"write_failed" help:"Lines dropped because a file took no more, and writes that failed."`
	FlushedByTimer stats.Counter `stat:"flushed_by_timer" help:"Times a buffer was written because it was old enough."`
	ReopenFailed   stats.Counter `stat:"reopen_failed" help:"Files that could not be opened again."`
	TotalBuffered  stats.Gauge   `stat:"write_total_buffered" help:"Bytes in the buffers of all files."`
}

// Files holds the open log files of a process: two logs with one path share one
// File. It is safe for concurrent use.
type Files struct {
	opt   FileOptions
	stats FileStats

	mu      sync.Mutex
	byPath  map[string]*File
	leaving map[*File]struct{} // given back by everyone, with lines still to be written
	closed  bool
}

// NewFiles returns an empty set. Statistics are bound to scope, which is
// "filesystem", unless it is nil.
func NewFiles(opt FileOptions, scope *stats.Scope) *Files {
	if opt.FlushInterval <= 0 {
		opt.FlushInterval = time.Second
	}
	if opt.MinSize <= 0 {
		opt.MinSize = 64 << 10
	}
	if opt.MaxBuffered <= 0 {
		opt.MaxBuffered = 4 << 20
	}
	fs := &Files{opt: opt, byPath: map[string]*File{}, leaving: map[*File]struct{}{}}
	if scope != nil {
		scope.Bind(&fs.stats)
	}
	return fs
}

// Open opens a file for appending, or returns the one that is open already; each
// Open needs its Close. /dev/stdout and /dev/stderr are the process's own, whatever
// they are; a FIFO needs no reader yet.
func (fs *Files) Open(path string) (*File, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return nil, fmt.Errorf("accesslog: open %s: shutting down", path)
	}
	if f := fs.byPath[path]; f != nil {
		f.users++
		return f, nil
	}
	out, err := openOutput(path)
	if err != nil {
		return nil, fmt.Errorf("accesslog: %w", err)
	}
	f := &File{
		set: fs, path: path, out: out, users: 1,
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{}),
	}
	fs.byPath[path] = f
	go f.run()
	return f, nil
}

// openOutput opens the file behind a path. Opening FIFOs for reading too, as Envoy
// does, needs no reader on the other side.
func openOutput(path string) (*os.File, error) {
	switch path {
	case "/dev/stdout":
		return os.Stdout, nil
	case "/dev/stderr":
		return os.Stderr, nil
	}
	flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		flags = os.O_RDWR | os.O_APPEND
	}
	return os.OpenFile(path, flags, 0o644)
}

// Reopen opens every file anew, after what is buffered was written to the old one
// (SIGUSR1, /reopen_logs). It returns at once.
func (fs *Files) Reopen() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.byPath {
		f.mu.Lock()
		f.reopen = true
		f.mu.Unlock()
		f.signal(f.wake)
		f.signal(f.full)
	}
}

// Close writes what is buffered and closes every file. When ctx ends first, what is
// left is lost.
func (fs *Files) Close(ctx context.Context) error {
	fs.mu.Lock()
	fs.closed = true
	var open []*File
	for path, f := range fs.byPath {
		open = append(open, f)
		delete(fs.byPath, path)
	}
	for f := range fs.leaving {
		open = append(open, f)
	}
	fs.mu.Unlock()
	for _, f := range open {
		f.stop()
	}
	for _, f := range open {
		select {
		case <-f.done:
		case <-ctx.Done():
			return fmt.Errorf("accesslog: %s: not everything was written: %w", f.path, ctx.Err())
		}
	}
	return nil
}

// File is an open log file with a buffer and one goroutine that writes it.
type File struct {
	set   *Files
	path  string
	users int // guarded by set.mu

	mu      sync.Mutex
	buf     []byte // lines not yet handed to the writer
	spare   []byte // the writer's buffer while it is not writing
	writing int    // bytes the writer holds
	reopen  bool
	closing bool

	wake, full, done chan struct{}
	out              *os.File // the writer's
}

// Write buffers a line. When the file takes no more, the line is dropped and counted.
func (f *File) Write(line []byte) {
	s := &f.set.stats
	f.mu.Lock()
	if f.closing || len(f.buf)+f.writing+len(line) > f.set.opt.MaxBuffered {
		f.mu.Unlock()
		s.Failed.Inc()
		return
	}
	if f.buf == nil {
		f.buf, f.spare = f.spare, nil
	}
	before := len(f.buf)
	f.buf = append(f.buf, line...)
	full := before < f.set.opt.MinSize && len(f.buf) >= f.set.opt.MinSize
	f.mu.Unlock()
	s.Buffered.Inc()
	s.TotalBuffered.Add(int64(len(line)))
	if before == 0 {
		f.signal(f.wake)
	}
	if full {
		f.signal(f.full)
	}
}

func (f *File) signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Close gives the file back. The last to do so has what is buffered written and the
// file closed, without waiting for it.
func (f *File) Close() {
	f.set.mu.Lock()
	f.users--
	last := f.users == 0 && f.set.byPath[f.path] == f
	if last {
		delete(f.set.byPath, f.path)
		f.set.leaving[f] = struct{}{}
	}
	f.set.mu.Unlock()
	if last {
		f.stop()
	}
}

func (f *File) stop() {
	f.mu.Lock()
	f.closing = true
	f.mu.Unlock()
	f.signal(f.wake)
	f.signal(f.full)
}

// run is the writer: it sleeps while nothing is buffered, and gathers lines for the
// flush interval, or until there are enough, before it writes them at once.
func (f *File) run() {
	defer f.ended()
	timer := time.NewTimer(f.set.opt.FlushInterval)
	defer timer.Stop()
	for {
		<-f.wake
		timer.Reset(f.set.opt.FlushInterval)
		timed := false
		select {
		case <-timer.C:
			timed = true
		case <-f.full:
		}
		if f.flush(timed) {
			return
		}
	}
}

func (f *File) ended() {
	f.set.mu.Lock()
	delete(f.set.leaving, f)
	f.set.mu.Unlock()
	close(f.done)
}

// flush writes everything that is buffered and reports whether the file was closed.
func (f *File) flush(timed bool) (closed bool) {
	for {
		f.mu.Lock()
		p := f.buf
		f.buf, f.writing = nil, len(p)
		reopen, closing := f.reopen, f.closing
		f.reopen = false
		f.mu.Unlock()
		if len(p) > 0 {
			f.write(p, timed)
		}
		f.mu.Lock()
		f.writing = 0
		if cap(p) <= 4*f.set.opt.MinSize {
			f.spare = p[:0]
		}
		enough := len(f.buf) >= f.set.opt.MinSize || closing && len(f.buf) > 0
		rest := len(f.buf) > 0
		f.mu.Unlock()
		if reopen {
			f.openAgain()
		}
		switch {
		case enough:
			continue
		case closing:
			f.closeOutput()
			return true
		case rest: // its first line may have found the channel full
			f.signal(f.wake)
		}
		return false
	}
}

func (f *File) write(p []byte, timed bool) {
	s := &f.set.stats
	if _, err := f.out.Write(p); err != nil {
		s.Failed.Inc()
	} else {
		s.Completed.Inc()
	}
	if timed {
		s.FlushedByTimer.Inc()
	}
	s.TotalBuffered.Add(-int64(len(p)))
}

// openAgain keeps writing to the old file if the new one cannot be opened.
func (f *File) openAgain() {
	out, err := openOutput(f.path)
	if err != nil {
		f.set.stats.ReopenFailed.Inc()
		return
	}
	f.closeOutput()
	f.out = out
}

func (f *File) closeOutput() {
	if f.out == os.Stdout || f.out == os.Stderr {
		return
	}
	if err := f.out.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		f.set.stats.Failed.Inc()
	}
}
