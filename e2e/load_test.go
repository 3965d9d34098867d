package e2e

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// load is clients of a proxy that never forgive: every request must be answered with
// 200 and the right body, and no connection may end unless the answer before has
// announced it. They speak over plain sockets, since http.Transport would quietly
// repeat what failed.
type load struct {
	t      testing.TB
	dial   func() (net.Conn, error)
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	requests int
	conns    int
	closes   int            // answers that announced the end of a connection
	by       map[string]int // answers, by backend
	failed   []string
	failures int
}

// startLoad begins requests to the proxy at addr. They end with stop.
func startLoad(t testing.TB, addr string) *load {
	return startLoadOver(t, func() (net.Conn, error) { return net.DialTimeout("tcp", addr, patience) })
}

func startLoadOver(t testing.TB, dial func() (net.Conn, error)) *load {
	body := make([]byte, 40<<10) // more than a slab
	for i := range body {
		body[i] = byte(i * 7)
	}
	return startLoadOf(t, dial, []client{
		{path: "/get"}, {path: "/get"},
		{path: "/get", once: true},
		{path: "/slow"}, {path: "/slow", pause: 3 * time.Millisecond},
		{path: "/post", body: body}, {path: "/post", body: body[:100], once: true},
		{path: "/post", body: body, chunked: true},
		{path: "/get", pause: 20 * time.Millisecond},
	}...)
}

func startLoadOf(t testing.TB, dial func() (net.Conn, error), clients ...client) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, dial: dial, cancel: cancel, by: map[string]int{}}
	t.Cleanup(func() { cancel(); l.wg.Wait() })
	for _, c := range clients {
		l.wg.Go(func() { l.run(ctx, c) })
	}
	return l
}

// client is one of the clients of a load.
type client struct {
	path    string
	header  string // one more line of the head
	body    []byte
	chunked bool
	once    bool          // a new connection for each request
	pause   time.Duration // between requests: the connection is idle meanwhile
}

func (l *load) run(ctx context.Context, c client) {
	var conn net.Conn
	var r *bufio.Reader
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for n := 0; ctx.Err() == nil; n++ {
		if conn == nil {
			var err error
			if conn, err = l.dial(); err != nil {
				l.note("", fmt.Errorf("connect: %w", err))
				wait(10 * time.Millisecond)
				continue
			}
			l.mu.Lock()
			l.conns++
			l.mu.Unlock()
			r = bufio.NewReader(conn)
		}
		by, last, err := c.exchange(conn, r)
		if err != nil {
			err = fmt.Errorf("%s, request %d of its client: %w", c.path, n, err)
		}
		l.note(by, err)
		if last && err == nil {
			l.mu.Lock()
			l.closes++
			l.mu.Unlock()
		}
		if last || err != nil || c.once {
			conn.Close()
			conn = nil
		}
		if c.pause > 0 {
			wait(c.pause)
		}
	}
}

// exchange sends a request and checks the answer. last says that the connection will
// not be used again.
func (c client) exchange(conn net.Conn, r *bufio.Reader) (by string, last bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", true, err
	}
	method := http.MethodGet
	if c.body != nil {
		method = http.MethodPost
	}
	head := method + " " + c.path + " HTTP/1.1\r\nhost: shop\r\n"
	if c.header != "" {
		head += c.header + "\r\n"
	}
	switch {
	case c.chunked:
		head += "transfer-encoding: chunked\r\n\r\n"
	case c.body != nil:
		head += "content-length: " + strconv.Itoa(len(c.body)) + "\r\n\r\n"
	default:
		head += "\r\n"
	}
	if _, err := io.WriteString(conn, head); err != nil {
		return "", true, fmt.Errorf("write: %w", err)
	}
	if err := c.sendBody(conn); err != nil {
		return "", true, fmt.Errorf("write the body: %w", err)
	}
	a, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return "", true, fmt.Errorf("read: %w", err)
	}
	got, err := io.ReadAll(a.Body)
	if err != nil {
		return "", true, fmt.Errorf("read the body: %w", err)
	}
	by = a.Header.Get("x-backend")
	want := by
	if c.body != nil {
		sum := sha256.Sum256(c.body)
		want = hex.EncodeToString(sum[:])
	}
	if a.StatusCode != 200 || string(got) != want || by == "" {
		return by, true, fmt.Errorf("%s from %q: %q", a.Status, by, got)
	}
	return by, a.Close, nil
}

// sendBody sends the body, in pieces if it is chunked.
func (c client) sendBody(w io.Writer) error {
	if len(c.body) == 0 {
		return nil
	}
	if !c.chunked {
		_, err := w.Write(c.body)
		return err
	}
	for rest := c.body; len(rest) > 0; {
		n := min(len(rest), 7000)
		if _, err := fmt.Fprintf(w, "%x\r\n%s\r\n", n, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	_, err := io.WriteString(w, "0\r\n\r\n")
	return err
}

func (l *load) note(by string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err == nil {
		l.by[by]++
		return
	}
	l.failures++
	if len(l.failed) < 10 {
		l.failed = append(l.failed, err.Error())
	}
}

// answered waits until n more requests were answered.
func (l *load) answered(n int) {
	l.t.Helper()
	l.mu.Lock()
	goal := l.requests + n
	l.mu.Unlock()
	eventually(l.t, fmt.Sprintf("%d requests", goal), func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.requests < goal {
			return fmt.Sprintf("%d so far, %d failed: %q", l.requests, l.failures, l.failed)
		}
		return ""
	})
}

// stop ends the load and fails the test if a request has failed.
func (l *load) stop() {
	l.t.Helper()
	l.cancel()
	l.wg.Wait()
	l.t.Logf("%d requests on %d connections, %d of which were drained, %d failed, answered by %v", l.requests, l.conns, l.closes, l.failures, l.by)
	if l.failures > 0 {
		l.t.Errorf("%d of %d requests failed, the first ones:", l.failures, l.requests)
		for _, f := range l.failed {
			l.t.Error(f)
		}
	}
}

// ask sends what it is given and returns the code of the answer.
func ask(conn net.Conn, request string) (code int, err error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return 0, err
	}
	a, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, a.Body)
	return a.StatusCode, err
}
