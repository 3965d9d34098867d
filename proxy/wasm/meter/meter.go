// Package meter rewrites WebAssembly modules so that they never run for long without
// asking: at the head of each loop and at the beginning of each function that calls others
// they count down, and when nothing is left they call an imported function, which may
// fail, and thereby stop them. Nothing else stops a loop in compiled code: it has no safe
// point of Go's, so that a guest that loops would even keep the garbage collector, and with it all
// other goroutines, from going on.
//
// What comes in: the binary of a module. What goes out: one that does the same, with one
// import and one exported global more. Imports may be renamed on the way, which is how
// some of them are denied.
package meter

import (
	"errors"
	"fmt"
)

// The names of what a rewritten module has more.
const (
	Module = "mecha"
	Refill = "refill"     // imported from Module: called when nothing is left
	Left   = "mecha.left" // the exported global, an i32: what is left
)

// costly is the price of an instruction that moves memory: it may take as long as many
// others.
const costly = 1000

// Options say how a module is rewritten.
type Options struct {
	// Rename returns the module from which a function is imported instead; nil keeps them.
	Rename func(module, name string) string
}

// ErrMalformed is code that is cut off or has something unknown in it.
var ErrMalformed = errors.New("meter: malformed module")

// malformed is what the reader panics with; Rewrite recovers it.
type malformed struct{ at int }

// Rewrite returns the rewritten module.
func Rewrite(code []byte, o Options) (out []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			m, ok := r.(malformed)
			if !ok {
				panic(r)
			}
			out, err = nil, fmt.Errorf("%w at byte %d", ErrMalformed, m.at)
		}
	}()
	r := &reader{p: code}
	if string(r.take(8)) != "\x00asm\x01\x00\x00\x00" {
		return nil, fmt.Errorf("%w: it does not begin as a module does", ErrMalformed)
	}
	w := &rewriter{o: o}
	w.scan(*r)
	return w.all(r), nil
}

// reader reads a binary; it panics with malformed.
type reader struct {
	p []byte
	i int
}

func (r *reader) more() bool { return r.i < len(r.p) }

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.p)-r.i {
		panic(malformed{r.i})
	}
	r.i += n
	return r.p[r.i-n : r.i]
}

func (r *reader) byte() byte { return r.take(1)[0] }

// leb skips a number of up to 64 bits and returns its bytes.
func (r *reader) leb() []byte {
	start := r.i
	for r.byte()&0x80 != 0 {
		if r.i-start > 10 {
			panic(malformed{start})
		}
	}
	return r.p[start:r.i]
}

// u32 reads an unsigned number.
func (r *reader) u32() uint32 {
	at := r.i
	var v uint64
	for i, b := range r.leb() {
		v |= uint64(b&0x7f) << (7 * i)
	}
	if v > 1<<32-1 {
		panic(malformed{at})
	}
	return uint32(v)
}

// sub is a reader of the next n bytes.
func (r *reader) sub(n uint32) *reader {
	if uint64(n) > uint64(len(r.p)-r.i) {
		panic(malformed{r.i})
	}
	return &reader{p: r.take(int(n))}
}

func u32(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

func name(dst []byte, s string) []byte { return append(u32(dst, uint32(len(s))), s...) }
