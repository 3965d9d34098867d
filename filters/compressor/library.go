package compressor

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// Library is a way to compress, and the encoders that are free.
type Library struct {
	Coding string // content-encoding: "gzip", "br", "zstd"
	Stats  string // in names of statistics: "gzip", "brotli", "zstd"
	Cost   int64  // bytes that an encoder holds while it is in use, about

	fresh func() writer
	free  sync.Pool // of *encoder
}

// writer is what the encoders of all codings have.
type writer interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

// encoder compresses one body.
type encoder struct {
	library *Library
	w       writer
	to      sink
}

// sink is a buffer as a writer.
type sink struct{ b *buffer.Buf }

// Write implements io.Writer.
func (s *sink) Write(p []byte) (int, error) {
	s.b.Append(p)
	return len(p), nil
}

// encode appends to out what a piece of the body becomes: all of it, so that the other side
// can read it. in is lent and stays as it is.
func (e *encoder) encode(out, in *buffer.Buf, end bool) error {
	e.to.b = out
	defer func() { e.to.b = nil }()
	for v := range in.Views() {
		if _, err := e.w.Write(v); err != nil {
			return err
		}
	}
	if end {
		return e.w.Close()
	}
	return e.w.Flush()
}

// maxMemory is what the encoders in use of one filter may hold, in bytes. A gzip encoder
// takes a megabyte, which clients that read slowly would multiply; what comes when there
// is no more goes on as it is.
const maxMemory = 256 << 20

// memory bounds the encoders in use.
type memory struct{ used atomic.Int64 }

// take returns an encoder, nil if there are too many.
func (f *Filter) take(l *Library) *encoder {
	if f.memory.used.Add(l.Cost) > maxMemory {
		f.memory.used.Add(-l.Cost)
		f.limits.Overflow.Inc()
		return nil
	}
	e, ok := l.free.Get().(*encoder)
	if !ok {
		e = &encoder{library: l, w: l.fresh()}
	}
	e.w.Reset(&e.to)
	return e
}

// giveBack makes an encoder free; e may be nil.
func (f *Filter) giveBack(e *encoder) {
	if e == nil {
		return
	}
	f.memory.used.Add(-e.library.Cost)
	e.library.free.Put(e)
}
