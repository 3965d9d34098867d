package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// till is an application that takes payments: it says how many it took, and takes its time.
type till struct {
	server *httptest.Server
	port   uint32
	taken  atomic.Int64
	begun  chan struct{} // one for each payment that begins
	hold   chan struct{} // a payment ends when it gets one
}

func startTill(t testing.TB) *till {
	t.Helper()
	x := &till{begun: make(chan struct{}, 100), hold: make(chan struct{}, 100)}
	x.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a proxy that dies says nothing of the amount
		n := x.taken.Add(1)
		x.begun <- struct{}{}
		<-x.hold
		fmt.Fprintf(w, "payment %d", n)
	}))
	x.port = uint32(x.server.Listener.Addr().(*net.TCPAddr).Port)
	t.Cleanup(func() {
		close(x.hold)
		x.server.Close()
	})
	return x
}

func idempotent(port uint32, store string, x *till) string {
	return strings.Replace(hosts(port, "", "", x.port), "http_filters: [", `http_filters: [
        {name: once, typed_config: {"@type": type.googleapis.com/mecha.filters.http.idempotency.v1.Idempotency, store: `+store+`}},
        `, 1)
}

// pay sends a payment, and returns what it came to.
func pay(port uint32, key, amount string) string {
	req, err := http.NewRequest(http.MethodPost, "http://"+local(port)+"/pay", strings.NewReader(amount))
	if err != nil {
		return err.Error()
	}
	req.Header.Set("idempotency-key", key)
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s %v", resp.StatusCode, body, err)
}

// payAndLeave sends a payment and goes when the application has it.
func payAndLeave(t *testing.T, x *till, port uint32, key string) {
	t.Helper()
	c, err := net.Dial("tcp", local(port))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /pay HTTP/1.1\r\nHost: %s\r\nIdempotency-Key: %s\r\nContent-Length: 3\r\n\r\n100", local(port), key)
	<-x.begun
	c.Close()
}

// TestPaidOnce: of many payments with one key that come at once, one is made, and all get its
// receipt.
func TestPaidOnce(t *testing.T) {
	t.Parallel()
	x, port := startTill(t), freePort(t)
	m := startMecha(t, idempotent(port, "{memory: {}}", x))
	m.ready()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := pay(port, "k", "100"); got != "200 payment 1 <nil>" {
				t.Error(got)
			}
		})
	}
	<-x.begun
	m.until("http.web.idempotency.waited", 7)
	x.hold <- struct{}{}
	wg.Wait()
	if n := x.taken.Load(); n != 1 {
		t.Errorf("%d payments were made", n)
	}
	if got := pay(port, "k", "999"); !strings.HasPrefix(got, "422 ") {
		t.Errorf("another payment with the key: %s", got)
	}
}

// TestReceiptOutlives: a client that goes before it has its receipt gets it when it asks again,
// and also when the proxy was killed meanwhile.
func TestReceiptOutlives(t *testing.T) {
	t.Parallel()
	x, port := startTill(t), freePort(t)
	config := idempotent(port, fmt.Sprintf("{disk: {path: %q}}", filepath.Join(t.TempDir(), "receipts.db")), x)
	m := startMecha(t, config)
	m.ready()
	payAndLeave(t, x, port, "gone")
	x.hold <- struct{}{}
	if got := pay(port, "gone", "100"); got != "200 payment 1 <nil>" {
		t.Errorf("the same proxy: %s", got)
	}
	payAndLeave(t, x, port, "gone too")
	x.hold <- struct{}{}
	m.until("http.web.idempotency.kept", 2)
	m.kill(syscall.SIGKILL)
	m.exit()
	m = startMecha(t, config)
	m.ready()
	for _, c := range []struct{ key, want string }{{"gone", "200 payment 1 <nil>"}, {"gone too", "200 payment 2 <nil>"}} {
		if got := pay(port, c.key, "100"); got != c.want {
			t.Errorf("after the crash, %s: %s", c.key, got)
		}
	}
	if n := x.taken.Load(); n != 2 {
		t.Errorf("%d payments were made", n)
	}
}

// TestNeverPaidTwice: where the proxy was killed while a payment was under way, nobody knows
// whether it was made, so it is not made again.
func TestNeverPaidTwice(t *testing.T) {
	t.Parallel()
	x, port := startTill(t), freePort(t)
	config := idempotent(port, fmt.Sprintf("{disk: {path: %q}}", filepath.Join(t.TempDir(), "receipts.db")), x)
	m := startMecha(t, config)
	m.ready()
	payAndLeave(t, x, port, "k")
	m.kill(syscall.SIGKILL)
	m.exit()
	m = startMecha(t, config)
	m.ready()
	if got := pay(port, "k", "100"); !strings.HasPrefix(got, "409 nobody knows") {
		t.Error(got)
	}
	if n := x.taken.Load(); n != 1 {
		t.Errorf("%d payments were made", n)
	}
}
