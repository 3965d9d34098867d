package jsontometadata

import (
	"encoding/json"
	"testing"
)

// FuzzDecode: what is taken for JSON is JSON.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `[{"a":{"b":1.5e3}}]`, `{"a":9223372036854775808}`, "\xef\xbb\xbf{}", `nope`, `1 2`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := decode(body)
		if err != nil {
			return
		}
		if _, err := json.Marshal(v); err != nil {
			t.Fatalf("%q was decoded to %v: %v", body, v, err)
		}
	})
}
