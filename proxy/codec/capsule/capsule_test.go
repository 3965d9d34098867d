package capsule

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// read feeds in pieces of that many bytes, and returns what comes out.
func read(in []byte, piece int) (out []string, err error) {
	var r Reader
	defer r.Release()
	for len(in) > 0 {
		var b buffer.Buf
		n := min(piece, len(in))
		b.Append(in[:n])
		in = in[n:]
		r.Feed(&b)
		for {
			p, ok, err := r.Next()
			if err != nil {
				return out, err
			}
			if !ok {
				break
			}
			out = append(out, string(p))
		}
	}
	return out, nil
}

func TestReader(t *testing.T) {
	long := strings.Repeat("x", MaxPayload)
	for _, c := range []struct {
		name string
		in   []byte
		want []string
		err  error
	}{
		{"one", []byte("\x00\x04\x00abc"), []string{"abc"}, nil},
		{"empty", []byte("\x00\x01\x00\x00\x02\x00a"), []string{"", "a"}, nil},
		{"long varints", []byte("\x80\x00\x00\x00\x40\x03\x40\x00a"), []string{"a"}, nil},
		{"another context", []byte("\x00\x02\x02a\x00\x02\x00b"), []string{"b"}, nil},
		{"another type", []byte("\x17\x03abc\x00\x02\x00b"), []string{"b"}, nil},
		{"incomplete", []byte("\x00\x04\x00ab"), nil, nil},
		{"no context", []byte("\x00\x00"), nil, ErrContext},
		{"half a context", []byte("\x00\x01\x40"), nil, ErrContext},
		{"the longest", AppendDatagram(nil, []byte(long)), []string{long}, nil},
		{"too long", AppendDatagram(nil, []byte(long+"x")), nil, ErrTooLong},
		{"far too long", []byte("\x00\xff\xff\xff\xff\xff\xff\xff\xff"), nil, ErrTooLong},
		{"an endless one of another type", []byte("\x17\xff\xff\xff\xff\xff\xff\xff\xffabc"), nil, nil},
	} {
		for _, piece := range []int{1, 7, 1 << 20} {
			out, err := read(c.in, piece)
			if !errors.Is(err, c.err) || strings.Join(out, "|") != strings.Join(c.want, "|") || len(out) != len(c.want) {
				t.Errorf("%s, in pieces of %d: %.40q, %v; want %.40q, %v", c.name, piece, out, err, c.want, c.err)
			}
		}
	}
}

func TestOverhead(t *testing.T) {
	p := make([]byte, MaxPayload)
	if n := len(AppendDatagram(nil, p)) - len(p); n != Overhead {
		t.Errorf("a capsule is longer by %d than what is in it; want %d", n, Overhead)
	}
}

// FuzzReader: what comes out does not depend on the pieces, and what was put in comes out.
func FuzzReader(f *testing.F) {
	f.Add([]byte("\x00\x04\x00abc\x17\x03abc\x00\x01\x40"), []byte("abc"))
	f.Fuzz(func(t *testing.T, in, payload []byte) {
		whole, err1 := read(in, len(in)+1)
		pieces, err2 := read(in, 1)
		if strings.Join(whole, "|") != strings.Join(pieces, "|") || !errors.Is(err2, err1) {
			t.Errorf("%q, %v whole; %q, %v in pieces", whole, err1, pieces, err2)
		}
		if len(payload) > MaxPayload {
			return
		}
		if out, err := read(AppendDatagram(nil, payload), 3); err != nil || len(out) != 1 || !bytes.Equal([]byte(out[0]), payload) {
			t.Errorf("%q came out as %q, %v", payload, out, err)
		}
	})
}
