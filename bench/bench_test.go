package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Every kind of load, straight to the back end: what is asked is answered, in
// whole, and nothing else.
func TestLoadReachesBackend(t *testing.T) {
	b, err := startBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			port := b.httpPort
			if r.config == "tcp" {
				port = b.tcpPort
			}
			two := []*target{{name: "one", port: port}, {name: "two", port: port}}
			g, err := newGenerator(&r, two)
			if err != nil {
				t.Fatal(err)
			}
			two[0].delays.record(true)
			g.start()
			deadline := time.After(10 * time.Second)
			for two[0].count.Load() < 40 || two[1].count.Load() < 40 {
				select {
				case <-g.done:
					t.Fatal("the load ended: ", g.close())
				case <-deadline:
					t.Fatalf("answered %d and %d in 10 s", two[0].count.Load(), two[1].count.Load())
				case <-time.After(5 * time.Millisecond):
				}
			}
			if err := g.close(); err != nil {
				t.Error(err)
			}
			if l := two[0].delays.summary(); (l != nil) != (r.load == paced) {
				t.Errorf("delays %+v with load %d", l, r.load)
			}
		})
	}
}

func TestHTTPHead(t *testing.T) {
	for in, want := range map[string][2]int{
		"HTTP/1.1 200 OK\r\n":                                     {0, 0},
		"HTTP/1.1 200 OK\r\n\r\nx":                                {19, -1},
		"HTTP/1.1 200 OK\r\ncontent-length: 12\r\na: b\r\n\r\n":   {45, 12},
		"POST / HTTP/1.1\r\nContent-Length:7\r\n\r\n":             {37, 7},
		"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n": {27, -1},
	} {
		head, length, err := httpHead([]byte(in))
		if err != nil || head != want[0] || length != want[1] {
			t.Errorf("%q: %d, %d, %v; want %v", in, head, length, err, want)
		}
	}
	if _, _, err := httpHead([]byte("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n")); err == nil {
		t.Error("a length of x: no error")
	}
}

func TestTemplatesRender(t *testing.T) {
	files, err := templates.ReadDir("peers")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := render(f.Name(), &setup{Dir: "/tmp/x", Listen: 1, Upstream: 2, Admin: 3, Workers: 2})
		if err != nil || bytes.Contains(text, []byte("{{")) || bytes.Contains(text, []byte("<no value>")) {
			t.Errorf("%s: %v\n%s", f.Name(), err, text)
		}
	}
}

func TestEveryRowIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows() {
		if r.name == "" || r.about == "" || r.conns == 0 || r.workers == 0 || r.target == 0 || r.haproxy == 0 || seen[r.name] {
			t.Errorf("row %+v lacks something or comes twice", r.name)
		}
		if r.load == paced && r.rate == 0 {
			t.Errorf("%s: paced without a rate", r.name)
		}
		seen[r.name] = true
	}
}

func TestSpread(t *testing.T) {
	if s := spreadOf([]float64{3, 1, 2}); s.Median != 2 || s.Low != 1 || s.High != 3 {
		t.Errorf("of three: %+v", s)
	}
	if s := spreadOf([]float64{4, 1}); s.Median != 2.5 {
		t.Errorf("of two: %+v", s)
	}
}

func TestCompareTellsNoiseFromChange(t *testing.T) {
	narrow := func(m float64) spread { return spread{Median: m, Low: m * 0.98, High: m * 1.02} }
	for _, c := range []struct {
		base, now float64
		atLeast   bool
		want      string
	}{
		{0.30, 0.301, false, "within"},
		{0.30, 0.20, false, "better"},
		{0.30, 0.40, false, "WORSE"},
		{1.0, 1.5, true, "better"},
		{1.5, 1.0, true, "WORSE"},
	} {
		if got := change(narrow(c.base), narrow(c.now), c.atLeast); !strings.Contains(got, c.want) {
			t.Errorf("%v to %v: %q, want %q", c.base, c.now, got, c.want)
		}
	}
}

func TestCompareFilesTakesTheNewest(t *testing.T) {
	dir := t.TempDir()
	r := report{Subject: "mecha", Rows: []rowResult{{Name: "h1-1k", Pairs: []pairResult{{Peer: "envoy", Ratio: spreadOf([]float64{0.3})}}}}}
	for i, commit := range []string{"old", "new"} {
		r.Commit, r.Time = commit, time.Unix(int64(1000*(i+1)), 0).UTC()
		if _, err := r.write(dir); err != nil {
			t.Fatal(err)
		}
	}
	base, err := filepath.Glob(filepath.Join(dir, "*old.json"))
	if err != nil || len(base) != 1 {
		t.Fatal(base, err)
	}
	var out bytes.Buffer
	if err := compareFiles(&out, base); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"(old)", "(new)", "h1-1k", "0.30"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if err := os.Remove(base[0]); err != nil {
		t.Fatal(err)
	}
	if err := compareFiles(&out, base); err == nil {
		t.Error("a base that is gone: no error")
	}
}
