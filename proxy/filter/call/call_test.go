package call_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/cluster"
	"github.com/mecha-mesh/mecha/proxy/filter/call"
	"github.com/mecha-mesh/mecha/proxy/header"
)

// inBoth runs a test with hosts of both versions of HTTP.
func inBoth(t *testing.T, test func(t *testing.T, version int)) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", version), func(t *testing.T) { test(t, version) })
	}
}

// TestWhatIsAsked: head, body and trailers arrive as they were given, with what tells of a
// proxy, and the answer comes back whole.
func TestWhatIsAsked(t *testing.T) {
	inBoth(t, func(t *testing.T, version int) {
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Trailer", "X-End")
			fmt.Fprintf(w, "%s %s %s %s|%s|%s|%s", r.Method, r.Host, r.URL, body,
				r.Header["X-Envoy-Internal"], r.Header["X-Envoy-Expected-Rq-Timeout-Ms"], r.Trailer["X-Last"])
			w.Header().Set("X-End", "e")
		})
		b := newBench(t, s.addr, version)
		for _, c := range []struct {
			plain bool
			want  string
		}{
			{false, "POST service /a?b hello|[true]|[30000]|[l]"},
			{true, "POST service /a?b hello|[]|[]|[l]"},
		} {
			q := post("/a?b")
			q.Plain = c.plain
			q.Header.Add("trailer", "x-last")
			q.Body.Append([]byte("hello"))
			q.Trailers.Add("x-last", "l")
			a, err := b.do(q)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(a.Body); got != c.want || a.Code() != 200 || a.Trailers.Get("x-end") != "e" {
				t.Errorf("%d %q, trailer %q", a.Code(), got, a.Trailers.Get("x-end"))
			}
		}
		b.counted(map[string]uint64{
			"upstream_rq_200": 2, "internal.upstream_rq_200": 2, "upstream_rq_total": 2, "upstream_rq_active": 0, "upstream_cx_total": 1,
		})
		if s.total.Load() != 1 {
			t.Errorf("%d connections", s.total.Load())
		}
	})
}

// TestAddress: a host is told whose behalf it is asked on, unless it must not be.
func TestAddress(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	})
	b := newBench(t, s.addr, 1)
	own := call.OwnAddress().String()
	for _, c := range []struct {
		has       string
		anonymous bool
		want      string
	}{
		{"", false, own}, {"192.0.2.1", false, "192.0.2.1," + own}, {"", true, ""},
	} {
		q := post("/")
		q.Anonymous = c.anonymous
		if c.has != "" {
			q.Header.Add("x-forwarded-for", c.has)
		}
		if a, err := b.do(q); err != nil || string(a.Body) != c.want {
			t.Errorf("%+v: %q, %v", c, a.Body, err)
		}
	}
}

// TestNoAnswerInTime: before the head, within the body and before the trailers.
func TestNoAnswerInTime(t *testing.T) {
	inBoth(t, func(t *testing.T, version int) {
		gone := make(chan struct{}, 10)
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/body":
				w.Header().Set("Content-Length", "5")
				_, _ = io.WriteString(w, "1234")
			case "/trailers":
				w.Header().Set("Trailer", "X-End")
				_, _ = io.WriteString(w, "12345")
			}
			if r.URL.Path != "/head" {
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
			gone <- struct{}{}
		})
		b := newBench(t, s.addr, version)
		for _, path := range []string{"/head", "/body", "/trailers"} {
			q := post(path)
			q.Timeout = 50 * time.Millisecond
			if _, err := b.do(q); !errors.Is(err, call.ErrTimeout) || call.Ended(err) != nil {
				t.Errorf("%s: %v", path, err)
			}
			select {
			case <-gone: // the host knows that nobody waits
			case <-time.After(patience):
				t.Fatalf("%s: the host still works", path)
			}
		}
		b.counted(map[string]uint64{"upstream_rq_504": 3, "upstream_rq_timeout": 3, "upstream_rq_active": 0, "upstream_rq_tx_reset": 3})
	})
}

// TestEarlyClose: a connection that ends within an answer is an error, and is not repeated.
func TestEarlyClose(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":     "",
		"head":        "HTTP/1.1 200 OK\r\ncontent-le",
		"body":        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n1234",
		"chunk":       "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n1234",
		"trailers":    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-end: e\r\n",
		"no HTTP":     "hello\r\n\r\n",
		"an upgrade":  "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
		"only 1xx":    "HTTP/1.1 103 Early Hints\r\n\r\n",
		"bad framing": "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{}, 10)
			b := newBench(t, script(t, func(c net.Conn) {
				if readHead(bufio.NewReader(c)) {
					asked <- struct{}{}
					_, _ = io.WriteString(c, answer)
				}
				_ = c.Close()
			}), 1)
			if a, err := b.do(post("/")); err == nil || errors.Is(err, call.ErrTimeout) || call.Ended(err) != nil {
				t.Errorf("%v, code %d", err, a.Code())
			}
			if len(asked) != 1 {
				t.Errorf("asked %d times", len(asked))
			}
			b.counted(map[string]uint64{"upstream_rq_503": 1, "upstream_rq_active": 0, "upstream_cx_active": 0})
		})
	}
}

// readHead reads the head of a request without a body.
func readHead(r *bufio.Reader) bool {
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return err == nil
		}
	}
}

// TestLostConnection: what fails on a connection that was used before, without an answer, is
// asked once more on a new one, body included; what fails there, too, has failed.
func TestLostConnection(t *testing.T) {
	for _, mended := range []bool{true, false} {
		t.Run(fmt.Sprintf("mended %t", mended), func(t *testing.T) {
			var conns atomic.Int64
			b := newBench(t, script(t, func(c net.Conn) {
				defer c.Close()
				r, n := bufio.NewReader(c), conns.Add(1)
				for i := 0; ; i++ {
					q, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					body, err := io.ReadAll(q.Body)
					if err != nil || i > 0 || n > 1 && !mended {
						return // the second request of a connection is lost
					}
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(body), body)
				}
			}), 1)
			ask := func() (string, error) {
				q := post("/")
				q.Body.Append([]byte("body"))
				a, err := b.do(q)
				return string(a.Body), err
			}
			if got, err := ask(); err != nil || got != "body" {
				t.Fatal(got, err)
			}
			got, err := ask()
			if mended != (err == nil) || mended != (got == "body") {
				t.Errorf("%q, %v", got, err)
			}
			if n := conns.Load(); n != 2 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestLostConnectionHTTP2: a connection that was cut between calls is none of the caller's.
func TestLostConnectionHTTP2(t *testing.T) {
	s := newServer(t, func(http.ResponseWriter, *http.Request) {})
	b := newBench(t, s.addr, 2)
	for range 3 {
		if _, err := b.do(post("/")); err != nil {
			t.Fatal(err)
		}
		s.cut()
	}
}

// TestAnswerTooLarge: no more of an answer is kept than the limit, whatever its framing.
func TestAnswerTooLarge(t *testing.T) {
	inBoth(t, func(t *testing.T, version int) {
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/length" {
				w.Header().Set("Content-Length", "100000")
			}
			_, _ = w.Write(bytes.Repeat([]byte("x"), 100_000))
		})
		b := newBench(t, s.addr, version)
		for _, c := range []struct {
			path  string
			limit int
			want  error
		}{
			{"/length", 99_999, call.ErrTooLarge}, {"/chunks", 99_999, call.ErrTooLarge},
			{"/length", 100_000, nil}, {"/chunks", 100_000, nil}, {"/chunks", 0, nil},
		} {
			q := post(c.path)
			q.Limit = c.limit
			a, err := b.do(q)
			if !errors.Is(err, c.want) || err == nil && len(a.Body) != 100_000 {
				t.Errorf("%+v: %v, %d bytes", c, err, len(a.Body))
			}
		}
	})
}

// TestNobodyToAsk: errors before anything is sent.
func TestNobodyToAsk(t *testing.T) {
	b := newBench(t, script(t, func(net.Conn) {}), 1)
	q := post("/")
	q.Cluster = "other"
	if _, err := b.do(q); !errors.Is(err, call.ErrNoCluster) {
		t.Error(err)
	}
	a := &call.Response{}
	if err := call.NewClient(nil).Do(call.Background(t.Context()), post("/"), a); !errors.Is(err, call.ErrNoCluster) {
		t.Error(err)
	}
	for range 4 {
		ticket, err := b.cluster.Admit(cluster.Default)
		if err != nil {
			t.Fatal(err)
		}
		defer ticket.Done()
	}
	if _, err := b.do(post("/")); !errors.Is(err, cluster.ErrOverflow) {
		t.Error(err)
	}
	shut, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := newBench(t, shut.Addr().String(), 1)
	_ = shut.Close()
	var ce *cluster.ConnectError
	if _, err := refused.do(post("/")); !errors.As(err, &ce) {
		t.Error(err)
	}
}

// TestWaiterGoes: the end of who waits ends a call, is told apart from its failure, and
// counts for nobody.
func TestWaiterGoes(t *testing.T) {
	inBoth(t, func(t *testing.T, version int) {
		asked, over := make(chan struct{}), make(chan struct{})
		s := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
			close(over)
		})
		b := newBench(t, s.addr, version)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		err := b.client.Do(call.Background(ctx), post("/"), &call.Response{})
		if call.Ended(err) == nil {
			t.Errorf("%v is no end", err)
		}
		<-over
		b.counted(map[string]uint64{"upstream_rq_503": 0, "upstream_rq_504": 0, "upstream_rq_timeout": 0, "upstream_rq_active": 0})
	})
}

// windows is SETTINGS_INITIAL_WINDOW_SIZE and a WINDOW_UPDATE, both as large as can be.
const windows = "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\x00\x00\x00"

// TestDeafHost: a host that reads nothing holds a call that is still being written no longer
// than its time, or until nobody waits for it.
func TestDeafHost(t *testing.T) {
	inBoth(t, func(t *testing.T, version int) {
		b := newBench(t, script(t, func(c net.Conn) {
			if version == 2 {
				_, _ = io.WriteString(c, windows)
			}
		}), version)
		large := strings.Repeat("x", 50<<20) // more than sockets take
		q := post("/")
		q.Timeout = 100 * time.Millisecond
		q.Body.Append([]byte(large))
		if _, err := b.do(q); !errors.Is(err, call.ErrTimeout) {
			t.Errorf("%v is no timeout", err)
		}
		q = post("/")
		q.Timeout = 0
		q.Body.Append([]byte(large))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := b.client.Do(call.Background(ctx), q, &call.Response{}); call.Ended(err) == nil {
			t.Errorf("%v is no end", err)
		}
		b.counted(map[string]uint64{"upstream_rq_504": 1, "upstream_rq_active": 0})
	})
}

// TestScheme: a request that has none gets that of the connection.
func TestScheme(t *testing.T) {
	seen := make(chan string, 1)
	s := newServer(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Proto })
	b := newBench(t, s.addr, 2)
	q := post("/")
	if _, err := b.do(q); err != nil {
		t.Fatal(err)
	}
	if got := q.Header.Value(header.Scheme); got != "http" {
		t.Errorf("scheme %q", got)
	}
	if got := <-seen; got != "HTTP/2.0" {
		t.Error(got)
	}
}
