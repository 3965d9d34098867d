package h2

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/mecha-mesh/mecha/proxy/codec"
	"github.com/mecha-mesh/mecha/proxy/header"
)

var noContext = context.Background()

// TestExchange: what a request says arrives, and so does what a response says, with and
// without bodies and trailers.
func TestExchange(t *testing.T) {
	a, b := pair(t)
	serve(t, b, ServerOptions{}, echo)
	c := dial(t, a, ClientOptions{})
	r := mustRoundTrip(t, c, get(":path", "/a?b", "x-one", "1", "cookie", "a=b"), "")
	for name, want := range map[string]string{":status": "200", "x-path": "/a?b", "x-authority": "example.com", "x-one": "1", "cookie": "a=b"} {
		if got := r.head.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, n := range []int{1, 1000, 16 << 10, 100_000, 3 << 20} {
		body := strings.Repeat("0123456789", n/10+1)[:n]
		if r := mustRoundTrip(t, c, get(":method", "POST"), body); r.body != body {
			t.Errorf("%d bytes came back of %d", len(r.body), n)
		}
	}
}

func TestTrailers(t *testing.T) {
	a, b := pair(t)
	serve(t, b, ServerOptions{}, echo)
	c := dial(t, a, ClientOptions{})
	st, err := c.Open(noContext)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Release()
	tr := &header.Map{}
	tr.Add("x-sum", "42")
	if err := st.WriteHeaders(get(":method", "POST"), false); err != nil {
		t.Fatal(err)
	}
	if err := st.WriteData(bufOf("body"), false); err != nil {
		t.Fatal(err)
	}
	if err := st.WriteTrailers(tr); err != nil {
		t.Fatal(err)
	}
	r, err := read(st)
	if err != nil || r.body != "body" || r.trailers.Get("x-sum") != "42" {
		t.Errorf("body %q, trailer %q, %v", r.body, r.trailers.Get("x-sum"), err)
	}
}

// TestMany: streams of one connection don't get into each other's way.
func TestMany(t *testing.T) {
	a, b := pair(t)
	serve(t, b, ServerOptions{Options: Options{InitialStreamWindow: 65535, InitialConnectionWindow: 65535}}, echo)
	c := dial(t, a, ClientOptions{Options: Options{InitialStreamWindow: 65535, InitialConnectionWindow: 65535}})
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for j := range 30 {
				body := strings.Repeat(fmt.Sprintf("%d/%d ", i, j), 1+(i*997+j*7919)%5000)
				r, err := roundTrip(c, get(":method", "POST", "x-id", fmt.Sprint(i, j)), body)
				if err != nil {
					t.Errorf("stream %d/%d: %v", i, j, err)
					return
				}
				if r.body != body || r.head.Get("x-id") != fmt.Sprint(i, j) {
					t.Errorf("stream %d/%d: %d bytes of %d, id %s", i, j, len(r.body), len(body), r.head.Get("x-id"))
					return
				}
			}
		})
	}
	all.Wait()
	if c.Free() != DefaultMaxConcurrentStreams {
		t.Errorf("%d streams free at the end", c.Free())
	}
}

// TestOtherClient: the client of x/net talks to our server.
func TestOtherClient(t *testing.T) {
	a, b := pair(t)
	serve(t, b, ServerOptions{}, echo)
	tr := &http2.Transport{AllowHTTP: true}
	cc, err := tr.NewClientConn(a)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	body := strings.Repeat("some body ", 50_000)
	q, err := http.NewRequest("POST", "http://example.com/x", io.NopCloser(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	q.Trailer = http.Header{"X-Sum": {"1"}}
	r, err := cc.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	got, err := io.ReadAll(r.Body)
	if err != nil || string(got) != body || r.Trailer.Get("X-Sum") != "1" || r.Header.Get("X-Path") != "/x" {
		t.Errorf("%d bytes, %v, %v, %v", len(got), r.Header, r.Trailer, err)
	}
}

// TestOtherServer: our client talks to the server of x/net.
func TestOtherServer(t *testing.T) {
	a, b := pair(t)
	var over sync.WaitGroup
	over.Go(func() {
		(&http2.Server{}).ServeConn(b, &http2.ServeConnOpts{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			w.WriteHeader(103)
			n, _ := io.Copy(w, q.Body)
			w.Header().Set("X-Sum", fmt.Sprint(n))
		})})
	})
	defer over.Wait()
	defer func(c net.Conn) { _ = c.Close() }(b)
	c := dial(t, a, ClientOptions{})
	body := strings.Repeat("some body ", 50_000)
	st, err := c.Open(noContext)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Release()
	if err := st.WriteHeaders(get(":method", "POST"), false); err != nil {
		t.Fatal(err)
	}
	over.Go(func() { _ = st.WriteData(bufOf(body), true) })
	var info header.Map
	if next, err := st.ReadHeaders(&info); err != nil || next != codec.Data || info.StatusCode() != 103 {
		t.Fatalf("status %d, %v", info.StatusCode(), err)
	}
	r, err := read(st)
	if err != nil || r.body != body || r.trailers.Get("x-sum") != fmt.Sprint(len(body)) {
		t.Errorf("%d bytes, trailer %q, %v", len(r.body), r.trailers.Get("x-sum"), err)
	}
}
