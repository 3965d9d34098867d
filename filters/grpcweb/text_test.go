package grpcweb

import (
	"encoding/base64"
	bigendian "encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// inPieces puts text through f in random pieces.
func inPieces(text string, f func(b *buffer.Buf)) string {
	var out strings.Builder
	for text != "" {
		var b buffer.Buf
		n := 1 + rand.IntN(min(len(text), 9))
		b.AppendString(text[:n])
		text = text[n:]
		f(&b)
		out.Write(b.Bytes())
		b.Release()
	}
	return out.String()
}

// TestTextInPieces: text is the same however it is cut, and each frame can be read for
// itself.
func TestTextInPieces(t *testing.T) {
	frames, want := "", ""
	for _, n := range []int{0, 1, 2, 3, 300, 0, 70_000} {
		frame := string(bigendian.BigEndian.AppendUint32([]byte{0}, uint32(n))) + strings.Repeat("x", n)
		frames += frame
		want += base64.StdEncoding.EncodeToString([]byte(frame))
	}
	for range 20 {
		var e encoder
		if got := inPieces(frames, e.encode); got != want || e.n != 0 {
			t.Fatal("the text differs")
		}
		var d decoder
		got := inPieces(want, func(b *buffer.Buf) {
			if !d.decode(b) {
				t.Fatal("is no base64")
			}
		})
		if got != frames || d.n != 0 {
			t.Fatal("the frames differ")
		}
	}
	for _, wrong := range []string{"A!AA", "AA\n=", "====", "A==="} {
		var b buffer.Buf
		b.AppendString(wrong)
		if new(decoder).decode(&b) {
			t.Errorf("%q is base64", wrong)
		}
		b.Release()
	}
}
