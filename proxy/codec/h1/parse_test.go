package h1

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

func TestParseStatusLine(t *testing.T) {
	for line, want := range map[string]string{
		"HTTP/1.1 200 OK":        "2 200 OK",
		"HTTP/1.0 404 Not Found": "1 404 Not Found",
		"HTTP/1.1 200 ":          "2 200 ",
		"HTTP/1.1 200":           "2 200 ",
		"HTTP/1.7 999 x":         "2 999 x",
		"":                       "error",
		"HTTP/1.1":               "error",
		"HTTP/1.1 20":            "error",
		"HTTP/1.1 2000":          "error",
		"HTTP/1.1 099 x":         "error",
		"HTTP/2.0 200 OK":        "error",
		"HTTP/1.1 200 a\x01":     "error",
		"XTTP/1.1 200 OK":        "error",
	} {
		s, err := ParseStatusLine([]byte(line))
		got := fmt.Sprintf("%d %d %s", s.Version, s.Code, s.Reason)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", line, got, want)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]string{
		"GET /":                  "/||",
		"GET /a?b=c":             "/a?b=c||",
		"GET http://h/a":         "/a|h|http",
		"GET HTTPS://h:1/a?b":    "/a?b|h:1|https",
		"GET http://h":           "/|h|http",
		"GET http://h?q":         "?q|h|http",
		"GET http://[::1]:80/":   "/|[::1]:80|http",
		"CONNECT h:443":          "|h:443|",
		"CONNECT [::1]:443":      "|[::1]:443|",
		"OPTIONS *":              "*||",
		"GET *":                  "http1.invalid_url",
		"OPTIONS *a":             "http1.invalid_url",
		"GET a":                  "http1.codec_error",
		"GET http:/h":            "http1.codec_error",
		"GET ://h":               "http1.codec_error",
		"GET ftp://h/":           "http1.invalid_scheme",
		"GET http:///":           "http1.invalid_url",
		"GET http://h:70000/":    "http1.invalid_url",
		"GET http://u@h/":        "http1.invalid_url",
		"GET http://[::1/":       "http1.invalid_url",
		"GET http://[::1]x:80/":  "http1.invalid_url",
		"GET http://h\\x/":       "http1.codec_error",
		"GET /a#b":               "path_normalization_failed",
		"GET http://h/#b":        "path_normalization_failed",
		"CONNECT h":              "http1.invalid_url",
		"CONNECT h:":             "http1.invalid_url",
		"CONNECT :443":           "http1.invalid_url",
		"CONNECT http://h:443/x": "http1.invalid_url",
	} {
		method, target, _ := strings.Cut(in, " ")
		p, err := ParseTarget([]byte(method), []byte(target), true)
		got := fmt.Sprintf("%s|%s|%s", p.Path, p.Authority, p.Scheme)
		if err != nil {
			got, _, _ = strings.Cut(err.Error(), ":")
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestParseContentLength(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "00": 0, "17": 17, "9223372036854775807": maxLength,
		"": -1, "9223372036854775808": -1, "99999999999999999999": -1, "-1": -1, "+1": -1, "1 ": -1, "0x1": -1, "1,1": -1,
	} {
		n, ok := ParseContentLength([]byte(in))
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q: got %d, want %d", in, n, want)
		}
	}
}

func TestAppendChunkSize(t *testing.T) {
	for _, n := range []int{1, 9, 10, 15, 16, 255, 256, 4095, 65536, 1 << 40} {
		if got, want := string(AppendChunkSize(nil, n)), fmt.Sprintf("%x\r\n", n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestCleanValue compares the check by words with the one by bytes.
func TestCleanValue(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		p := make([]byte, r.IntN(30))
		for i := range p {
			p[i] = byte(' ' + r.IntN(95))
		}
		for range r.IntN(3) {
			if len(p) > 0 {
				p[r.IntN(len(p))] = byte(r.IntN(256))
			}
		}
		if cleanValue(p) != cleanBytes(p) {
			t.Fatalf("%q: %v, by bytes %v", p, cleanValue(p), cleanBytes(p))
		}
	}
}

// TestHeadScan finds the end of a head wherever the slabs and the reads end.
func TestHeadScan(t *testing.T) {
	for head, rest := range map[string]string{
		"GET / HTTP/1.1\r\nA: b\r\n\r\n": "body\r\n\r\n",
		"GET /\nA: b\n\n":                "\n\n",
		"GET /\r\nA: b\r\n\n":            "x",
		"A\r\n\r\r\n\r\n":                "",
		"\r\n":                           "x",
		"\n":                             "x",
	} {
		all := head + rest
		for size := 1; size <= len(all); size++ {
			var b buffer.Buf
			var s headScan
			n, ok := 0, false
			for from := 0; from < len(all) && !ok; from += size {
				var piece buffer.Buf
				piece.AppendString(all[from:min(from+size, len(all))])
				b.MoveAll(&piece)
				n, ok = s.find(&b)
			}
			if !ok || n != len(head) {
				t.Errorf("%q in pieces of %d: %d, %v; want %d", all, size, n, ok, len(head))
			}
			b.Release()
		}
	}
}
