package wire_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/wire"
)

// read is what a message says, field by field.
func read(b []byte) (string, bool) {
	var out strings.Builder
	ok := wire.Fields(b, func(field int, n uint64, v []byte) { fmt.Fprintf(&out, "%d=%d%s ", field, n, v) })
	return out.String(), ok
}

func TestFields(t *testing.T) {
	var b []byte
	b = wire.Varint(b, 1, 300)
	b = wire.Bytes(b, 2, "text")
	b = wire.Fixed64(b, 3, 7)
	b = wire.Fixed32(b, 16, 9)
	if got, ok := read(b); !ok || got != "1=300 2=0text 3=7 16=9 " {
		t.Errorf("%q, %v", got, ok)
	}
	for _, bad := range []string{"\x00", "\x08", "\x12\x05abc", "\x19\x00", "\x1d\x00", "\x0b", "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if got, ok := read([]byte(bad)); ok {
			t.Errorf("%q is read as %q", bad, got)
		}
	}
}

func FuzzFields(f *testing.F) {
	f.Add(wire.Bytes(wire.Varint(nil, 1, 1<<40), 2, "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		wire.Fields(b, func(_ int, _ uint64, v []byte) { n += len(v) })
		if n > len(b) {
			t.Errorf("%d bytes of %d", n, len(b))
		}
	})
}
