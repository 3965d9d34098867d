package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// Every kind of load, straight to the back end: what is asked is answered, in
// whole, and nothing else.
func TestLoadReachesBackend(t *testing.T) {
	c, err := newCerts()
	if err != nil {
		t.Fatal(err)
	}
	defer c.remove()
	b, err := startBackend(c)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			if r.tls != tlsNot {
				t.Skip("needs a proxy that ends TLS, see TestLoadOverTLS")
			}
			port := b.port(r.config)
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

// TestFiltersAreInTheConfiguration: what a filter costs is measured with the filter.
func TestFiltersAreInTheConfiguration(t *testing.T) {
	for _, c := range append(filterCosts(), filterCost{name: "none"}) {
		text, err := render("envoy-http.yaml", &setup{Filter: c.filter, Manager: c.manager})
		if err != nil {
			t.Fatal(err)
		}
		var config any
		if err := yaml.Unmarshal(text, &config); err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, text)
		}
		if !bytes.Contains(text, []byte(c.filter)) || !bytes.Contains(text, []byte(c.manager)) {
			t.Errorf("%s is not in\n%s", c.name, text)
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

// The load over TLS and the back end behind it, with a program between them that
// ends one TLS and begins the other.
func TestLoadOverTLS(t *testing.T) {
	c, err := newCerts()
	if err != nil {
		t.Fatal(err)
	}
	defer c.remove()
	b, err := startTLSBackend(c)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	client, err := tls.LoadX509KeyPair(filepath.Join(c.dir, "client.crt"), filepath.Join(c.dir, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c.server}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer down.Close()
				up, err := tls.Dial("tcp", b.listener.Addr().String(), &tls.Config{RootCAs: c.pool, ServerName: tlsName, Certificates: []tls.Certificate{client}})
				if err != nil {
					return // the load tells, unless it has ended
				}
				defer up.Close()
				go func() { _, _ = io.Copy(up, down); _ = up.Close() }()
				_, _ = io.Copy(down, up)
			}()
		}
	}()
	for _, r := range rows() {
		if r.tls == tlsNot {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			r.certs = c
			one := &target{name: "one", port: l.Addr().(*net.TCPAddr).Port}
			g, err := newGenerator(&r, []*target{one})
			if err != nil {
				t.Fatal(err)
			}
			g.start()
			for deadline := time.Now().Add(10 * time.Second); one.count.Load() < 40 && time.Now().Before(deadline); {
				if err := wait(t.Context(), 5*time.Millisecond, g.done); err != nil {
					break
				}
			}
			if err := g.close(); err != nil || one.count.Load() < 40 {
				t.Errorf("%d answers: %v", one.count.Load(), err)
			}
		})
	}
}
