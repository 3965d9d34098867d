package dialogue

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFormatKeepsFiles: what -rewrite does not change stays as people wrote it.
func TestFormatKeepsFiles(t *testing.T) {
	files, err := filepath.Glob("../../../../filters/*/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogue in the repository", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\n=== ") {
			continue // not a dialogue
		}
		cases, err := Parse(file, string(text))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := Format(Intro(string(text)), cases); got != strings.TrimRight(string(text), "\n")+"\n" {
			a, b := strings.Split(string(text), "\n"), strings.Split(got, "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Errorf("%s:%d: %q becomes %q", file, i+1, a[i], b[i])
					break
				}
			}
		}
	}
}

func TestSteps(t *testing.T) {
	cases, err := Parse("f", `=== a
# why
config
  routes: []

c> GET / HTTP/1.1
c>
c>> \x00{{ab*3}}
u<head
u! close
c<5 hello

c<5 again
stat: a.b 1
`)
	if err != nil {
		t.Fatal(err)
	}
	c := cases[0]
	if c.Name != "a" || c.Config != "  routes: []" || len(c.Steps) != 6 {
		t.Fatalf("%+v", c)
	}
	if got := string(c.Steps[0].Data); got != "GET / HTTP/1.1\r\n\r\n\x00ababab" {
		t.Errorf("sends %q", got)
	}
	if s := c.Steps[3]; s.Op != ReadN || s.N != 5 || s.Lines[0] != "hello" {
		t.Errorf("%+v", s)
	}
}

func TestWrongFiles(t *testing.T) {
	for text, want := range map[string]string{
		"hello":              "f:1: a case begins",
		"=== a\nc! jump":     "f:2: close, shut or reset",
		"=== a\nwhat":        "f:2: not a line of a dialogue",
		"=== a\nc> \\xzz":    "f:2: a wrong escape",
		"=== a\n=== B\nc> x": "f:2: not a line",
	} {
		if _, err := Parse("f", text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestMessages(t *testing.T) {
	for in, want := range map[string][]string{
		"HTTP/1.1 200 OK\r\nB: 2\r\na: 1\r\ncontent-length: 3\r\n\r\nabcrest": {"HTTP/1.1 200 OK", "a: 1", "B: 2", "content-length: 3", "", "abc"},
		"HTTP/1.1 200 OK\r\n\r\nto the end":                                   {"HTTP/1.1 200 OK", "", "to the end", closed},
		"HTTP/1.1 204 No Content\r\n\r\n":                                     {"HTTP/1.1 204 No Content", ""},
		"GET / HTTP/1.1\r\n\r\nnext":                                          {"GET / HTTP/1.1", ""},
		"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc":                     {"HTTP/1.1 200 OK", "content-length: 9", "", "abc", closedEarly},
		"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n": {
			"HTTP/1.1 200 OK", "transfer-encoding: chunked", "", "ok", "(trailers)", "x: y",
		},
		"HTTP/1.1 200 OK\r\nhalf": {"HTTP/1.1 200 OK", "half", "", closedEarly},
		"":                        {closed},
	} {
		if got := readMessage(bufio.NewReader(strings.NewReader(in))); !slices.Equal(got, want) {
			t.Errorf("%q:\ngot  %q\nwant %q", in, got, want)
		}
	}
}

func TestNormalise(t *testing.T) {
	got := normalise([]string{
		"x-request-id: 3d3ab2cd-bf1a-4de4-b5f8-4a9d01b0a3c7", "Date: Sun, 06 Nov 1994 08:49:37 GMT", "x-envoy-upstream-service-time: 12",
		"x-envoy-expected-rq-timeout-ms: 14987", "x-envoy-expected-rq-timeout-ms: 200", "x: " + strings.Repeat("a", 500), "y: 1.2.3.4",
	}, strings.NewReplacer("1.2.3.4", "CLIENT"))
	want := []string{
		"x-request-id: UUID", "Date: DATE", "x-envoy-upstream-service-time: MS",
		"x-envoy-expected-rq-timeout-ms: 15000", "x-envoy-expected-rq-timeout-ms: 200", "x: (500 times a)", "y: CLIENT",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
