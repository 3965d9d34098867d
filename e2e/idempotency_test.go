package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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
	req.Host = "shop" // whichever proxy it comes to
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
	fmt.Fprintf(c, "POST /pay HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: %s\r\nContent-Length: 3\r\n\r\n100", key)
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

// startRedis starts a Redis that writes everything down at once, and returns its port.
func startRedis(t *testing.T) uint32 {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("redis-server is not installed")
	}
	port := freePort(t)
	start(t, program, "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", t.TempDir())
	eventually(t, "Redis", func() string {
		c, err := net.Dial("tcp", local(port))
		if err != nil {
			return err.Error()
		}
		c.Close()
		return ""
	})
	return port
}

// replicas starts two proxies that share a Redis, to which they connect through a cluster.
func replicas(t *testing.T, x *till, redis uint32, lease string) (m [2]*sidecar, port [2]uint32) {
	t.Helper()
	for i := range m {
		port[i] = freePort(t)
		config := idempotent(port[i], "{redis: {cluster: redis, timeout: 10s, lease: "+lease+"}}", x)
		config = strings.Replace(config, "clusters:", fmt.Sprintf(`clusters:
  - name: redis
    connect_timeout: 5s
    load_assignment:
      cluster_name: redis
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]`, redis), 1)
		m[i] = startMecha(t, config)
		m[i].ready()
	}
	return m, port
}

// TestReplicasPayOnce: of payments with one key that come to two proxies at once, one is made;
// its receipt is there when the proxy that had it was killed.
func TestReplicasPayOnce(t *testing.T) {
	t.Parallel()
	x := startTill(t)
	m, port := replicas(t, x, startRedis(t), "60s")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if got := pay(port[i%2], "k", "100"); got != "200 payment 1 <nil>" {
				t.Error(got)
			}
		})
	}
	<-x.begun
	eventually(t, "seven that wait", func() string {
		if n := m[0].stat("http.web.idempotency.waited") + m[1].stat("http.web.idempotency.waited"); n != 7 {
			return fmt.Sprint(n)
		}
		return ""
	})
	x.hold <- struct{}{}
	wg.Wait()
	payAndLeave(t, x, port[0], "gone")
	x.hold <- struct{}{}
	eventually(t, "the receipts", func() string {
		if n := m[0].stat("http.web.idempotency.kept") + m[1].stat("http.web.idempotency.kept"); n != 2 {
			return fmt.Sprint(n)
		}
		return ""
	})
	m[0].kill(syscall.SIGKILL)
	m[0].exit()
	if got := pay(port[1], "gone", "100"); got != "200 payment 2 <nil>" {
		t.Errorf("after the crash: %s", got)
	}
	if n := x.taken.Load(); n != 2 {
		t.Errorf("%d payments were made", n)
	}
}

// TestReplicaDies: when a proxy was killed while a payment was under way, the others find out
// when its lease has ended, and do not make it again.
func TestReplicaDies(t *testing.T) {
	t.Parallel()
	x := startTill(t)
	m, port := replicas(t, x, startRedis(t), "2s")
	payAndLeave(t, x, port[0], "k")
	m[0].kill(syscall.SIGKILL)
	m[0].exit()
	if got := pay(port[1], "k", "100"); !strings.HasPrefix(got, "409 nobody knows") {
		t.Error(got)
	}
	if n := x.taken.Load(); n != 1 {
		t.Errorf("%d payments were made", n)
	}
}

// TestRedisAway: without its store the filter refuses, and does not ask the application.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	x := startTill(t)
	_, port := replicas(t, x, freePort(t), "2s")
	if got := pay(port[0], "k", "100"); !strings.HasPrefix(got, "503 ") {
		t.Error(got)
	}
	if n := x.taken.Load(); n != 0 {
		t.Errorf("%d payments were made", n)
	}
}

// TestDuplicateLeaves: a client of HTTP/1 that goes while it waits for an earlier request is
// noticed, long before the time to wait is over.
func TestDuplicateLeaves(t *testing.T) {
	t.Parallel()
	x, port := startTill(t), freePort(t)
	m := startMecha(t, strings.Replace(idempotent(port, "{memory: {}}", x), "store: {memory: {}}", "wait_timeout: 3600s, store: {memory: {}}", 1))
	m.ready()
	payAndLeave(t, x, port, "k")
	c, err := net.Dial("tcp", local(port))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /pay HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: k\r\nContent-Length: 3\r\n\r\n100")
	m.until("http.web.idempotency.waited", 1)
	m.until("http.web.downstream_rq_active", 2)
	c.Close()
	m.until("http.web.downstream_rq_active", 1)
	x.hold <- struct{}{}
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
