package decompressor

import (
	"errors"
	"io"
	"iter"
	"sync"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// Library is a way to decompress, and the readers that are free.
type Library struct {
	Coding string // content-encoding: "gzip", "br", "zstd"
	Stats  string // in names of statistics: "gzip", "brotli", "zstd"
	Ratio  int64  // how many times its input the output may be

	fresh func() reader
	free  sync.Pool // of *lent
}

// reader is what the decoders of all codings are made into.
type reader interface {
	io.Reader
	Reset(r io.Reader) error
}

// A library's reader pulls what it reads, a filter is given it. The two meet in a
// coroutine: the reader runs until it wants more than there is, and goes on with the next
// piece.

// decoder decompresses one body.
type decoder struct {
	library *Library
	resume  func() (struct{}, bool)
	stop    func()

	in     buffer.Buf // not yet read
	begun  bool       // there was something
	ended  bool       // nothing follows it
	out    *buffer.Buf
	budget int64 // bytes that there may still be of output
	err    error
}

var (
	errTooLarge  = errors.New("more output than max_inflate_ratio allows")
	errAbandoned = errors.New("abandoned")
)

// slack is output that is always allowed, and the most input for which output is saved up:
// the more of it a piece could ask for, the more memory it could take.
const (
	slack     = 64 << 10
	savedUpTo = 32 << 10
)

// step is how much output a reader is asked for at once, in bytes.
const step = 4 << 10

func newDecoder(l *Library) *decoder {
	d := &decoder{library: l, budget: slack}
	d.resume, d.stop = iter.Pull(d.run)
	return d
}

// decode replaces b by what it becomes. Output that came before an error is in b.
func (d *decoder) decode(b *buffer.Buf, end bool) error {
	d.begun = d.begun || b.Len() > 0
	if d.err != nil || !d.begun { // no body at all is an empty one in every coding
		return d.err
	}
	d.budget = min(d.budget+int64(b.Len())*d.library.Ratio, slack+savedUpTo*d.library.Ratio)
	d.in.MoveAll(b)
	d.ended, d.out = end, b
	d.resume()
	d.out = nil
	return d.err
}

// close ends a body, wherever it was.
func (d *decoder) close() {
	d.stop()
	d.in.Release()
}

// lent is a reader and where it writes to: while it waits for input, the buffer of the
// piece before is somebody else's.
type lent struct {
	reader
	room [step]byte
}

// run is the coroutine. It yields when it needs more input, and is over with the body.
func (d *decoder) run(yield func(struct{}) bool) {
	r, ok := d.library.free.Get().(*lent)
	if !ok {
		r = &lent{reader: d.library.fresh()}
	}
	err := r.Reset(&source{d: d, yield: yield})
	for err == nil {
		var n int
		n, err = r.Read(r.room[:])
		if d.out == nil { // abandoned while it waited for input
			break
		}
		d.out.Append(r.room[:n])
		if d.budget -= int64(n); d.budget < 0 && err == nil {
			err = errTooLarge
		}
	}
	if err != io.EOF {
		d.err = err
	}
	_ = r.Reset(nothing{}) // it must not hold on to the stream; whether it likes nothing is no matter
	d.library.free.Put(r)
}

// nothing is an empty input.
type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }

// source is what the reader reads.
type source struct {
	d     *decoder
	yield func(struct{}) bool
}

// Read implements io.Reader. It waits for the next piece.
func (s *source) Read(p []byte) (int, error) {
	for s.d.in.Len() == 0 {
		if s.d.ended {
			return 0, io.EOF
		}
		if !s.yield(struct{}{}) {
			return 0, errAbandoned
		}
	}
	n := s.d.in.CopyTo(p)
	s.d.in.Discard(n)
	return n, nil
}
