package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fragile is an application that can be killed and started again at its address, and
// that closes idle connections when it likes.
type fragile struct {
	t    testing.TB
	name string
	addr string
	port uint32
	idle time.Duration // connections are closed when they were idle for up to this long

	mu     sync.Mutex
	server *http.Server
	conns  map[net.Conn]struct{}
}

func startFragile(t testing.TB, name string, idle time.Duration) *fragile {
	t.Helper()
	f := &fragile{t: t, name: name, addr: local(freePort(t)), idle: idle}
	f.start()
	t.Cleanup(f.kill)
	return f
}

func (f *fragile) start() {
	f.t.Helper()
	var l net.Listener
	eventually(f.t, "the address "+f.addr, func() string {
		var err error
		if l, err = net.Listen("tcp", f.addr); err != nil {
			return err.Error()
		}
		return ""
	})
	f.addr = l.Addr().String()
	f.port = uint32(l.Addr().(*net.TCPAddr).Port)
	app := &backend{name: f.name}
	s := &http.Server{Handler: app, ConnState: f.state}
	f.mu.Lock()
	f.server, f.conns = s, map[net.Conn]struct{}{}
	f.mu.Unlock()
	go s.Serve(l) // ends with kill
}

func (f *fragile) state(c net.Conn, s http.ConnState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch s {
	case http.StateNew:
		f.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(f.conns, c)
	case http.StateIdle:
		if f.idle > 0 {
			// As a server does whose idle timeout is over at the wrong moment: without
			// looking whether a request is just arriving.
			time.AfterFunc(rand.N(f.idle), func() { c.Close() })
		}
	}
}

// kill ends the application as kill -9 does: connections are reset.
func (f *fragile) kill() {
	f.mu.Lock()
	s, conns := f.server, f.conns
	f.server, f.conns = nil, map[net.Conn]struct{}{}
	if s == nil {
		f.mu.Unlock()
		return
	}
	for c := range conns {
		_ = c.(*net.TCPConn).SetLinger(0) // it may be closed already
	}
	f.mu.Unlock()
	_ = s.Close() // whatever was under way ends, that is the purpose
}

// hosts is a bootstrap with one cluster of these ports, and more of the route action
// and the cluster.
func hosts(listen uint32, action, cluster string, ports ...uint32) string {
	return "node: {id: a, cluster: b}\nstatic_resources:\n  clusters:\n  - " + indent(clusterYAML("shop", ports...)+cluster, 4) +
		"  listeners:\n" + fmt.Sprintf(`
  - name: web
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          upgrade_configs: [{upgrade_type: websocket}]
          route_config: {name: shop, virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: shop%s}}]}]}
          http_filters: [{name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]
`, listen, action)
}

// manyRetries lifts the limit of three retries at a time.
const manyRetries = "circuit_breakers: {thresholds: [{max_retries: 100}]}\n"

var gets = []client{
	{path: "/get"}, {path: "/get"}, {path: "/get", once: true},
	{path: "/get", pause: 3 * time.Millisecond}, {path: "/get", pause: 7 * time.Millisecond}, {path: "/get", pause: 20 * time.Millisecond},
}

// TestBackendsDie kills one of two backends again and again. A connection that could
// not be made is tried elsewhere without any policy; the policy here is for requests
// that were under way when their backend died.
func TestBackendsDie(t *testing.T) {
	t.Parallel()
	a, b, port := startFragile(t, "a", 0), startFragile(t, "b", 0), freePort(t)
	m := startMecha(t, hosts(port, `, retry_policy: {retry_on: "reset", num_retries: 10, retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts, typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], host_selection_retry_max_attempts: 5}`, manyRetries, a.port, b.port))
	m.ready()
	l := startLoadOf(t, from("127.0.0.1", local(port)), append(gets, client{path: "/slow"})...)
	for i := range 10 {
		f := []*fragile{a, b}[i%2]
		l.answered(100)
		f.kill()
		l.answered(100)
		f.start()
		eventually(t, "the backend to be used again", func() string {
			if by := whoAnswers(t, local(port)); by != f.name {
				return "answered by " + by
			}
			return ""
		})
	}
	l.stop()
}

// TestDeadBackend: without any policy, a host where nobody listens costs no request
// as long as there is another one.
func TestDeadBackend(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, hosts(port, "", "", a.port, freePort(t), freePort(t)))
	m.ready()
	l := startLoad(t, local(port))
	l.answered(500)
	l.stop()
}

// TestDeadReusedConnections: backends close idle connections at any moment. A request
// that finds its connection dead is sent again on a fresh one.
func TestDeadReusedConnections(t *testing.T) {
	t.Parallel()
	a, b, port := startFragile(t, "a", 8*time.Millisecond), startFragile(t, "b", 8*time.Millisecond), freePort(t)
	m := startMecha(t, hosts(port, "", "", a.port, b.port))
	m.ready()
	l := startLoadOf(t, from("127.0.0.1", local(port)), gets...)
	l.answered(3000)
	l.stop()
	t.Logf("%d upstream connections were closed by their backends", m.stat("cluster.shop.upstream_cx_destroy_remote"))
}

// TestResets: one of two backends resets every connection that it accepts.
func TestResets(t *testing.T) {
	t.Parallel()
	bad, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	go func() {
		for {
			c, err := bad.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetLinger(0) // a connection that has gone needs no reset
			c.Close()
		}
	}()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, hosts(port, `, retry_policy: {retry_on: "reset,connect-failure", num_retries: 3, retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts, typed_config: {"@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}], host_selection_retry_max_attempts: 5}`, manyRetries, a.port, uint32(bad.Addr().(*net.TCPAddr).Port)))
	m.ready()
	l := startLoadOf(t, from("127.0.0.1", local(port)), gets...)
	l.answered(300)
	l.stop()
	t.Logf("%d retries", m.stat("cluster.shop.upstream_rq_retry"))
}

// TestRouteTimeout: a backend that hangs costs what the route allows and no more, and
// other requests do not wait for it.
func TestRouteTimeout(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, hosts(port, ", timeout: 0.5s", "", a.port))
	m.ready()
	l := startLoad(t, local(port))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c, err := from("127.0.0.1", local(port))()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			begun := time.Now()
			code, err := ask(c, "GET /hang HTTP/1.1\r\nhost: a\r\n\r\n")
			if d := time.Since(begun); err != nil || code != 504 || d < 450*time.Millisecond || d > 5*time.Second {
				t.Errorf("%d %v after %v, want 504 after half a second", code, err, d)
			}
		})
	}
	wg.Wait()
	l.stop()
	if n := m.stat("cluster.shop.upstream_rq_timeout"); n != 20 {
		t.Errorf("upstream_rq_timeout is %d, want 20", n)
	}
	m.until("cluster.shop.upstream_rq_active", 0)
}

// TestClientsVanish: clients go at every stage of a request, in good order or with a
// reset. Nothing of them stays: no connection on either side, no goroutine, no count.
func TestClientsVanish(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, hosts(port, ", timeout: 0s", "", a.port))
	m.ready()
	goroutines, sockets := m.stat("server.goroutines"), m.sockets()
	big := strings.Repeat("x", 100<<10)
	for _, says := range []string{
		"", "G", "GET / HT", "GET /get HTTP/1.1\r\nhost: a\r\n",
		"GET /get HTTP/1.1\r\nhost: a\r\n\r\n", "GET /hang HTTP/1.1\r\nhost: a\r\n\r\n",
		"POST /post HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n", "POST /post HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n" + big,
		"POST /post HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "POST /hang HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
		"GET /get HTTP/1.1\r\nhost: a\r\n\r\nGET /hang HTTP/1.1\r\nhost: a\r\n\r\nGET /get HTTP/1.1\r\nhost: a\r\n\r\n",
	} {
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				c, err := from("127.0.0.1", local(port))()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if _, err := io.WriteString(c, says); err != nil {
					t.Error(err)
				}
				wait(time.Duration(i) * 2 * time.Millisecond)
				if i%2 == 0 {
					_ = c.(*net.TCPConn).SetLinger(0) // fails only on a closed socket
				}
			})
		}
		wg.Wait()
	}
	m.until("server.total_connections", 0)
	m.until("http.web.downstream_cx_active", 0)
	m.until("http.web.downstream_rq_active", 0)
	m.until("cluster.shop.upstream_rq_active", 0)
	a.server.CloseClientConnections() // those that are idle in the pool
	m.until("cluster.shop.upstream_cx_active", 0)
	eventually(t, "goroutines and sockets to go", func() string {
		if g, n := m.stat("server.goroutines"), m.sockets(); g > goroutines+3 || n > sockets+1 {
			return fmt.Sprintf("%d goroutines (%d at first), %d sockets (%d at first)", g, goroutines, n, sockets)
		}
		return ""
	})
	answers(t, local(port), 200)
}

// TestDescriptorsRunOut: with few descriptors, mecha refuses what it cannot take and
// recovers by itself.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, hosts(port, "", "", a.port))
	m.ready()
	setLimit(t, m.cmd.Process.Pid, uint64(m.fds()+40))
	var all []net.Conn
	for range 100 {
		c, err := from("127.0.0.1", local(port))()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	eventually(t, "accept to fail", func() string {
		if n := m.fds(); n < 40 {
			return fmt.Sprintf("%d descriptors", n)
		}
		return ""
	})
	for _, c := range all {
		c.Close()
	}
	eventually(t, "requests to be answered again", func() string { return answer(local(port), 200) })
	l := startLoad(t, local(port))
	l.answered(50)
	l.stop()
	if m.cmd.ProcessState != nil {
		t.Error("mecha has ended")
	}
}

// setLimit sets RLIMIT_NOFILE of a process.
func setLimit(t *testing.T, pid int, n uint64) {
	t.Helper()
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}, nil); err != nil {
		t.Skipf("prlimit: %v", err)
	}
}

// TestThrottled stops the process again and again, as a container's CPU quota does:
// its deadlines pass while it cannot do anything, which costs no request.
func TestThrottled(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, hosts(port, "", "", a.port))
	m.ready()
	l := startLoad(t, local(port))
	for range 20 {
		m.kill(syscall.SIGSTOP)
		wait(120 * time.Millisecond)
		m.kill(syscall.SIGCONT)
		wait(10 * time.Millisecond)
	}
	l.answered(100)
	l.stop()
}
