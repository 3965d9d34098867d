package jsonpb

import (
	"os"
	"strings"
	"testing"
)

func search(tb testing.TB) (*Set, Type) {
	tb.Helper()
	raw, err := os.ReadFile("../testdata/bookstore.pb")
	if err != nil {
		tb.Fatal(err)
	}
	s, err := Load(raw)
	if err != nil {
		tb.Fatal(err)
	}
	methods, ok := s.Service("bookstore.Bookstore")
	for _, m := range methods {
		if strings.HasSuffix(m.Path, "/Search") {
			return s, m.Input
		}
	}
	tb.Fatal("no method Search", ok)
	return nil, Type{}
}

// FuzzEncode: what is taken can be printed, and no bytes panic.
func FuzzEncode(f *testing.F) {
	s, t := search(f)
	f.Add([]byte(`{"page":1,"like":{"id":"2"},"years":[1,2],"labels":{"a":"b"},"extra":{"x":[null]},"since":"2020-01-02T03:04:05Z"}`), "like.id", "3")
	f.Add([]byte(`{"a":"\ud83d\ude00","b":[{}],"c":1e5}`), "books.name", "x")
	f.Fuzz(func(t1 *testing.T, text []byte, path, value string) {
		e := Encoder{Set: s, Type: t, FoldEnums: true, RejectCollisions: true}
		var bindings []Binding
		if p, err := t.Resolve(strings.Split(path, ".")); err == nil {
			bindings = append(bindings, Binding{p, value})
		}
		wire, err := e.Append(nil, text, bindings)
		if err != nil {
			return
		}
		p := Printer{Set: s, Whitespace: true}
		_, _ = p.Append(nil, t, nil, wire) // text that is bound may be no UTF-8
	})
}

// FuzzPrint: no bytes of a server panic.
func FuzzPrint(f *testing.F) {
	s, t := search(f)
	f.Add([]byte("\x08\x01\x62\x02\x08\x01"))
	f.Fuzz(func(_ *testing.T, wire []byte) {
		p := Printer{Set: s, Defaults: true}
		_, _ = p.Append(nil, t, nil, wire)
		_, _, _ = ParseHTTPBody(wire, nil)
	})
}

// TestSplitInPieces: an array is cut the same however it arrives, and what is none is refused.
func TestSplitInPieces(t *testing.T) {
	for text, want := range map[string]string{
		`[]`:                                  "",
		` [ {"a":"]}\""} , [1,[2]],3 , "x" ]`: `{"a":"]}\""}|[1,[2]]|3 |"x" `,
		`[1,]`:                                "Unexpected token.",
		`{}`:                                  "Expected an array instead of an object",
		`5`:                                   "Expected an array instead of a scalar value.",
		`[1`:                                  "Unexpected end of string. Expected , or ] after array value.",
		`[[[1]`:                               "Unexpected end of string. Expected , or ] after array value.",
	} {
		for _, size := range []int{1, 3, 1000} {
			var s Splitter
			var got []string
			var err error
			for rest := []byte(text); len(rest) > 0 && err == nil; {
				n := min(size, len(rest))
				err = s.Feed(rest[:n], func(e []byte) error { got = append(got, string(e)); return nil })
				rest = rest[n:]
			}
			if err == nil {
				err = s.End()
			}
			out := strings.Join(got, "|")
			if err != nil {
				out = err.Error()
			}
			if out != want {
				t.Errorf("%s in pieces of %d: %s, want %s", text, size, out, want)
			}
		}
	}
}

// TestDepth: nesting has a bound.
func TestDepth(t *testing.T) {
	s, in := search(t)
	e := Encoder{Set: s, Type: in}
	if _, err := e.Append(nil, []byte(strings.Repeat(`{"x":`, 100000)), nil); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("got %v", err)
	}
}
