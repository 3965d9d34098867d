package headermutation

import (
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// FuzzParse: no bytes make a configuration that panics, when it is read or when it is
// applied, or that lets a line end into a header.
func FuzzParse(f *testing.F) {
	f.Add(encode(f, onRequest(add("x", "%REQ(a?b):3%"), remove("y"))), "v")
	f.Add([]byte("\x0a\x04\x0a\x02\x12\x00"), "a\r\nb")
	f.Fuzz(func(t *testing.T, raw []byte, value string) {
		c, err := parse(raw, &filter.Parser{})
		if err != nil {
			return
		}
		s := &filter.Stream{}
		s.Request.AddID(header.Path, "/p")
		s.Request.Add("a", "old")
		s.Response.Add("a", value)
		fl := newFilter(c, 0)
		if err := fl.OnRequestHeaders(s, true); err != nil {
			t.Fatal(err)
		}
		if err := fl.OnResponseHeaders(s, true); err != nil {
			t.Fatal(err)
		}
		for k, v := range s.Request.All() {
			if strings.ContainsAny(k+v, "\r\n\x00") {
				t.Errorf("%q: %q", k, v)
			}
		}
	})
}
