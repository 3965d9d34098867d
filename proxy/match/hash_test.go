package match

import "testing"

// TestHash64 has the values of the reference implementation of XXH64.
func TestHash64(t *testing.T) {
	for _, c := range []struct {
		text string
		seed uint64
		want uint64
	}{
		{"", 0, 0xef46db3751d8e999},
		{"a", 0, 0xd24ec4f1a98c6e5b},
		{"as", 0, 0x1c330fb2d66be179},
		{"asd", 0, 0x631c37ce72a97393},
		{"asdf", 0, 0x415872f599cea71e},
		{"Call me Ishmael. Some years ago--never mind how long precisely-", 0, 0x02a2e85470d6fd96},
		{"", 123, 0xe0db84de91f3e198},
		{"asdf", 1<<64 - 1, 0x9a2fd8473be539b6},
	} {
		if got := Hash64(c.text, c.seed); got != c.want {
			t.Errorf("Hash64(%q, %d) = %#x, want %#x", c.text, c.seed, got, c.want)
		}
	}
	text := "Call me Ishmael. Some years ago--never mind how long precisely-"
	if n := testing.AllocsPerRun(100, func() { Hash64(text, 1) }); n != 0 {
		t.Errorf("Hash64 allocates %v times", n)
	}
}
