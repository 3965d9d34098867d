package verdicts

import (
	"os"
	"reflect"
	"testing"
	"testing/fstest"
)

func TestCorpusLoads(t *testing.T) {
	cases, err := Load(os.DirFS("../testdata/verdicts"))
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[Outcome]int{}
	for i := range cases {
		c := &cases[i]
		if len(c.Notes) == 0 {
			t.Errorf("%s:%d: case %s says nowhere why it is here", c.File, c.Line, c.Name)
		}
		outcomes[c.Verdict.Outcome()]++
	}
	if len(cases) < 170 || outcomes[Forwarded] == 0 || outcomes[Refused] == 0 {
		t.Errorf("%d cases, outcomes %v: a part of the corpus is gone", len(cases), outcomes)
	}
}

const sample = `# a file

case one
note why
with http10
> GET / HTTP/1.1\r\n
> x: \(ab*3)\x00\r\n
pause
> \r\n
client-eof
conn closed
log 400 DPE http1.codec_error
answer HTTP/1.1 400 Bad Request
|3 a: b
= Bad\x20
+ t: 1
incomplete
rest !
upstream GET / HTTP/1.1
upstream-rest X
differs on purpose
`

func TestParse(t *testing.T) {
	cases, err := Parse("f.txt", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := []Case{{
		Name: "one", File: "f.txt", Line: 3, Notes: []string{"why"}, With: HTTP10, Differs: "on purpose",
		Send:      [][]byte{[]byte("GET / HTTP/1.1\r\nx: ababab\x00\r\n"), []byte("\r\n")},
		ClientEOF: true,
		Verdict: Verdict{
			Closed: true,
			Log:    []Entry{{"400", "DPE", "http1.codec_error"}},
			Answers: []Message{{
				Start: "HTTP/1.1 400 Bad Request", Fields: []string{"a: b", "a: b", "a: b"},
				Body: []byte("Bad "), Trailers: []string{"t: 1"}, Incomplete: true,
			}},
			Rest:     []byte("!"),
			Upstream: []Message{{Start: "GET / HTTP/1.1"}},
			UpRest:   []byte("X"),
		},
	}}
	if !reflect.DeepEqual(cases, want) {
		t.Errorf("got  %+v\nwant %+v", cases, want)
	}
	v := cases[0].Verdict
	if v.Outcome() != Forwarded || v.Status() != 400 {
		t.Errorf("outcome %s, status %d", v.Outcome(), v.Status())
	}
}

func TestRewriteKeepsHandWrittenLines(t *testing.T) {
	cases, err := Parse("f.txt", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	same := Rewrite([]byte(sample), map[string]Verdict{"one": cases[0].Verdict})
	if string(same) != sample {
		t.Errorf("rewriting the same verdict changed the file:\n%s", same)
	}
	if got := string(Rewrite([]byte(sample), nil)); got != sample {
		t.Errorf("rewriting nothing changed the file:\n%s", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no case":          "> x\n",
		"unknown key":      "case a\nfoo bar\n",
		"unknown variant":  "case a\nwith foo\n> x\n",
		"unknown escape":   "case a\n> \\q\n",
		"lone backslash":   "case a\n> \\\n",
		"short hex":        "case a\n> \\x1\n",
		"endless repeat":   "case a\n> \\(a*99999999)\n",
		"open repeat":      "case a\n> \\(a*3\n",
		"short log":        "case a\n> x\nlog 400\n",
		"sends nothing":    "case a\nnote x\n",
		"field of nothing": "case a\n> x\n| a: b\n",
	} {
		if _, err := Parse("f.txt", []byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	twice := fstest.MapFS{
		"a.txt": {Data: []byte("case one\n> x\n")},
		"b.txt": {Data: []byte("case one\n> x\n")},
	}
	if _, err := Load(twice); err == nil {
		t.Error("two cases of one name: no error")
	}
}

func TestQuoteRoundTrip(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, in := range []string{string(all), "", " ", "a ", "((((((((((((((((((((((((((((((((((((((((", ")))))))))))))))))))))))))))))))))))))))))))", "\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r"} {
		got, err := unescape(quote([]byte(in)))
		if err != nil || string(got) != in {
			t.Errorf("%q became %q (%v)", in, got, err)
		}
	}
}
