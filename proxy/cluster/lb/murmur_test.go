package lb

import "testing"

// The values are those of std::hash<std::string> of GCC 12.
func TestMurmur2(t *testing.T) {
	for in, want := range map[string]uint64{
		"":                  6142509188972423790,
		"a":                 4993892634952068459,
		"test":              15118982290295364091,
		"10.0.0.1:80_0":     13659246566588789388,
		"12345678":          10113836418918046885,
		"123456789abcdefgh": 10280977052341072324,
	} {
		if got := Murmur2([]byte(in)); got != want {
			t.Errorf("Murmur2(%q) = %d, want %d", in, got, want)
		}
	}
}
