package h2

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"github.com/mecha-mesh/mecha/proxy/header"
)

// TestFieldsEnd: whatever is written, in whatever order and with whatever table, is read as
// it was; also if its memory becomes something else after it was written, as that of every
// message does.
func TestFieldsEnd(t *testing.T) {
	for _, limit := range []uint32{0, 100, minTableSize, maxOurTableSize} {
		c := &conn{enc: newEncoder(limit)}
		var got []string
		dec := hpack.NewDecoder(minTableSize, func(f hpack.HeaderField) { got = append(got, fmt.Sprint(f.Name, ": ", f.Value, f.Sensitive)) })
		dec.SetAllowedMaxDynamicTableSize(maxOurTableSize)
		memory := make([]byte, 0, 64<<10)
		view := func(text string) string {
			at := len(memory)
			memory = append(memory, text...)
			return unsafe.String(unsafe.SliceData(memory[at:]), len(text))
		}
		for range 3000 {
			for i := range memory[:cap(memory)] {
				memory[:cap(memory)][i] = '#'
			}
			memory = memory[:0]
			for range rand.IntN(3) * rand.IntN(2) {
				c.enc.resize(rand.Uint32N(2 * maxOurTableSize >> rand.IntN(16)))
			}
			got = got[:0]
			var want []string
			for range rand.IntN(20) {
				name, value := anyField()
				want = append(want, fmt.Sprint(name, ": ", value, rand.IntN(4) == 0))
				if strings.HasSuffix(want[len(want)-1], "true") {
					c.encodeOnce(view(name), view(value))
				} else {
					c.encode(view(name), view(value))
				}
			}
			if _, err := dec.Write(c.encBuf); err != nil {
				t.Fatal(err)
			}
			if err := dec.Close(); err != nil {
				t.Fatal(err)
			}
			c.encBuf = c.encBuf[:0]
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("read\n%.2000s\nwant\n%.2000s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if c.enc.size > c.enc.max || c.enc.max > limit {
				t.Fatalf("a table of %d bytes, allowed are %d of %d", c.enc.size, c.enc.max, limit)
			}
		}
	}
}

func anyField() (name, value string) {
	switch rand.IntN(4) {
	case 0:
		for name = range staticNames { // in any order
			break
		}
		value = []string{"200", "GET", "/", "http", "https", "404", "POST", "x"}[rand.IntN(8)]
	case 1:
		name, value = fmt.Sprintf("x-%d", rand.IntN(30)), fmt.Sprint(rand.IntN(5))
	default:
		name, value = fmt.Sprintf("x-%d", rand.IntN(300)), strings.Repeat("v", rand.IntN(1<<rand.IntN(12)))
	}
	return name, value
}

// TestStaticTable: the indexes are those of the decoder's table.
func TestStaticTable(t *testing.T) {
	var got hpack.HeaderField
	dec := hpack.NewDecoder(minTableSize, func(f hpack.HeaderField) { got = f })
	for i := range uint32(staticFields) {
		if _, err := dec.Write([]byte{0x80 | byte(i+1)}); err != nil {
			t.Fatal(err)
		}
		pair := staticPair(got.Name, got.Value)
		if name := staticNames[got.Name]; name == 0 || name > i+1 || pair != 0 && pair != i+1 || pair == 0 && got.Value != "" && got.Name != "accept-encoding" {
			t.Errorf("%d is %v: name %d, field %d", i+1, got, name, pair)
		}
	}
}

// TestFieldsAgain: a message like those before costs no memory and a byte for each field.
func TestFieldsAgain(t *testing.T) {
	c := &conn{enc: newEncoder(minTableSize)}
	var m header.Map
	for i := range 20 {
		m.Add(fmt.Sprintf("x-%d", i), "value")
	}
	size := 0
	write := func() {
		if err := c.encodeResponse(&m, "200"); err != nil {
			t.Fatal(err)
		}
		size = len(c.encBuf)
		c.encBuf = c.encBuf[:0]
	}
	n := testing.AllocsPerRun(100, write)
	if size > 21+3 { // a field may have no place, and takes more
		t.Errorf("%d bytes for 21 fields", size)
	}
	if n > 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
}
