package decompressor

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	brotliv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/brotli/decompressor/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/decompressor/v3"
	zstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/decompressor/v3"
	decompressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/decompressor/v3"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

func extension(t *testing.T, name string, m proto.Message) *corev3.TypedExtensionConfig {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: a}
}

// flusher is an encoder of any coding.
type flusher interface {
	io.WriteCloser
	Flush() error
}

// codings are the libraries with their encoders.
func codings(t *testing.T) map[*Library]func(io.Writer) flusher {
	t.Helper()
	of := func(m proto.Message) *Library {
		l, err := library(extension(t, "x", m), nil)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	return map[*Library]func(io.Writer) flusher{
		of(&gzipv3.Gzip{}):     func(w io.Writer) flusher { return gzip.NewWriter(w) },
		of(&brotliv3.Brotli{}): func(w io.Writer) flusher { return brotli.NewWriter(w) },
		of(&zstdv3.Zstd{}): func(w io.Writer) flusher {
			z, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}
			return z
		},
	}
}

func piece(p []byte) *buffer.Buf {
	b := &buffer.Buf{}
	b.Append(p)
	return b
}

// decodeAll sends wire in pieces of n bytes through a decoder.
func decodeAll(l *Library, wire []byte, n int) (string, error) {
	d := newDecoder(l)
	defer d.close()
	var out bytes.Buffer
	for {
		b := piece(wire[:min(n, len(wire))])
		wire = wire[b.Len():]
		end := len(wire) == 0
		err := d.decode(b, end)
		out.Write(b.Bytes())
		b.Release()
		if err != nil || end {
			return out.String(), err
		}
	}
}

// TestPieces: however a body is cut, it is the same; and readers are used again.
func TestPieces(t *testing.T) {
	text := strings.Repeat("some text, ", 3000)
	for l, encoder := range codings(t) {
		var wire bytes.Buffer
		w := encoder(&wire)
		_, _ = io.WriteString(w, text) // a buffer takes everything
		_ = w.Close()
		for _, n := range []int{1, 2, 7, 4096, 1 << 20} {
			if got, err := decodeAll(l, wire.Bytes(), n); got != text || err != nil {
				t.Errorf("%s in pieces of %d: %d bytes, %v", l.Coding, n, len(got), err)
			}
		}
		for _, cut := range []int{1, 5, wire.Len() / 2, wire.Len() - 1} {
			if _, err := decodeAll(l, wire.Bytes()[:cut], 3); err == nil {
				t.Errorf("%s: %d of %d bytes are a body", l.Coding, cut, wire.Len())
			}
		}
		if _, err := decodeAll(l, []byte("this is not compressed at all"), 4); err == nil {
			t.Errorf("%s: text is a body", l.Coding)
		}
		if got, err := decodeAll(l, nil, 1); got != "" || err != nil {
			t.Errorf("%s: nothing becomes %q, %v", l.Coding, got, err)
		}
	}
}

// TestNothingIsKeptBack: what was flushed comes out before the rest comes in.
func TestNothingIsKeptBack(t *testing.T) {
	for l, encoder := range codings(t) {
		d := newDecoder(l)
		var wire bytes.Buffer
		w := encoder(&wire)
		for _, event := range []string{"data: 1\n", "data: 2\n"} {
			_, _ = io.WriteString(w, event)
			_ = w.Flush()
			b := piece(wire.Bytes())
			wire.Reset()
			if err := d.decode(b, false); err != nil || string(b.Bytes()) != event {
				t.Errorf("%s: %q, %v; want %q", l.Coding, b.Bytes(), err, event)
			}
			b.Release()
		}
		d.close() // in the middle
	}
}

// TestBombs: no piece of a body makes more output than the ratio allows, even if what came
// before has saved up a lot.
func TestBombs(t *testing.T) {
	for l, encoder := range codings(t) {
		var wire bytes.Buffer
		w := encoder(&wire)
		zeros := make([]byte, 1<<20)
		for range 64 {
			_, _ = w.Write(zeros)
		}
		_ = w.Close()
		out, err := decodeAll(l, wire.Bytes(), 16<<10)
		if !errors.Is(err, errTooLarge) || len(out) > 2*(slack+savedUpTo*ratio) {
			t.Errorf("%s: %d bytes from %d, %v", l.Coding, len(out), wire.Len(), err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for want, pb := range map[string]*decompressorv3.Decompressor{
		"decompressor_library: is required": {},
		"decompressor_library.name":         {DecompressorLibrary: extension(t, "a b", &gzipv3.Gzip{})},
		"decompressor_library.typed_config: this build has no decompressor library of the type envoy.config.core.v3.DataSource": {DecompressorLibrary: extension(t, "a", &corev3.DataSource{})},
		"decompressor_library.typed_config.dictionaries[0]": {DecompressorLibrary: extension(t, "a", &zstdv3.Zstd{Dictionaries: []*corev3.DataSource{
			{Specifier: &corev3.DataSource_InlineString{InlineString: "no dictionary"}},
		}})},
	} {
		raw, err := proto.Marshal(pb)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(raw, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
