package httpinspector

import (
	"strings"
	"testing"
)

// lines are the first bytes of connections, and what they are. A real Envoy agrees
// with all of them, see oracle_test.go.
var lines = []struct {
	in   string
	want verdict
}{
	{"GET / HTTP/1.1\r\n", http11},
	{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", http11},
	{"GET / HTTP/1.1\n", http11},
	{"get / HTTP/1.1\r\n", http11},
	{"PROPFIND / HTTP/1.1\r\n", http11},
	{"M-SEARCH * HTTP/1.1\r\n", http11},
	{"X!#$%&'*+-.^_`|~ / HTTP/1.1\r\n", http11},
	{"CONNECT a:1 HTTP/1.1\r\n", http11},
	{"GET http://x/ HTTP/1.1\r\n", http11},
	{"OPTIONS * HTTP/1.1\r\n", http11},
	{"GET  / HTTP/1.1\r\n", http11},
	{"GET\t/ HTTP/1.1\r\n", http11},
	{"GET / HTTP/1.1 \r\n", http11},
	{"GET /\x01 HTTP/1.1\r\n", http11},
	{"GET / HTTP/1.1\r\nbad header\r\n", http11},
	{"GET /" + strings.Repeat("a", 8000) + " HTTP/1.1\r\n", http11},
	{"GET / HTTP/1.0\r\n", http10},
	{"GET / HTTP/1.2\r\n", http10},
	{"GET / HTTP/2.0\r\n", http10},
	{"GET /\r\n", http10},
	{preface, http2},
	{preface + "more", http2},
	{"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", http10},
	{"SSH-2.0-OpenSSH\r\n", notHTTP},
	{"PING\r\n", notHTTP},
	{"SET a b\r\n", notHTTP},
	{"SET a b c\r\n", notHTTP},
	{"HELO example.com\r\n", notHTTP},
	{"*1\r\n$4\r\nPING\r\n", notHTTP},
	{"HTTP/1.1 200 OK\r\n", notHTTP},
	{"GET / HTTP/x\r\n", notHTTP},
	{"GET / HTTP/1.1x\r\n", notHTTP},
	{"GET / http/1.1\r\n", notHTTP},
	{" / HTTP/1.1\r\n", notHTTP},
	{"\r\nGET / HTTP/1.1\r\n", notHTTP},
	{"G:ET / HTTP/1.1\r\n", notHTTP},
	{"GET /\xff HTTP/1.1\r\n", notHTTP},
	{"\x00\x01\x02\x03\x04\x05\x06\x07", notHTTP},
	{"\x16\x03\x01\x00\x05hello", notHTTP},
}

func TestParse(t *testing.T) {
	for _, c := range lines {
		if got := parse([]byte(c.in)); got != c.want {
			t.Errorf("%.60q: %d, want %d", c.in, got, c.want)
		}
	}
	for _, in := range []string{"", "G", "GET", "GET ", "GET /", "GET / ", "GET / HTTP/1.", "GET / HTTP/1.1", "GET / HTTP/1.1\r", "htt", "GET http", "GET http:/", "PRI * HTTP/2.0\r\n\r\n", "CONNECT a"} {
		if got := parse([]byte(in)); got != more {
			t.Errorf("%q: %d, want more", in, got)
		}
	}
}

// TestParseDecidesEarly: what cannot become HTTP is not waited for.
func TestParseDecidesEarly(t *testing.T) {
	for _, in := range []string{"\x00", "\n", "(", "AB\x00", "GET /\x80", "{\"a\"", "GET / " + strings.Repeat("x", 1000)} {
		if got := parse([]byte(in)); got != notHTTP {
			t.Errorf("%.40q: %d", in, got)
		}
	}
}

// FuzzParse: a verdict is final: it does not depend on where the bytes were cut.
func FuzzParse(f *testing.F) {
	for _, c := range lines {
		f.Add([]byte(c.in), uint16(len(c.in)/2))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		head := b[:min(int(cut), len(b))]
		if v, w := parse(head), parse(b); v != more && v != w {
			t.Errorf("by %q %d, by %q %d", head, v, b, w)
		}
	})
}

func TestParseAllocs(t *testing.T) {
	in := []byte("GET /some/path?x=y HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() { parse(in) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
