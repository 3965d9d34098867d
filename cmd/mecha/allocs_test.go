package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/buffer"
)

// httpListener and relayListener are the two ways through the proxy.
const (
	httpListener = `
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config:
            virtual_hosts: {name: all, domains: "*", routes: {match: {prefix: /}, route: {cluster: up}}}
          http_filters:
            name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}`
	relayListener = `
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: up`
	oneUpstream = `
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:%s
  clusters:
  - name: up
    type: STATIC
    connect_timeout: 5s%s
    load_assignment:
      cluster_name: up
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]
`
)

// TestAllocations: in steady state neither a request nor a relayed chunk takes memory
// from the heap, from the accepted socket to the pooled one and back.
func TestAllocations(t *testing.T) {
	if raceEnabled || buffer.Invariants {
		t.Skip("instrumented build")
	}
	get := "GET /a/b?c=d HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n"
	post := "POST /a HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: %d\r\n\r\n%s"
	chunked := "POST /a HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
	answer := func(n int) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("r", n-1)+"z")
	}
	chunks := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	body := func(n int) string { return strings.Repeat("q", n) }
	for _, c := range []struct {
		name, filters   string
		send, ask, give string // from the client, what ends it at upstream, from upstream
		last            string // what ends it at the client, and nothing else in it
	}{
		{"GET", httpListener, get, "\r\n\r\n", answer(1024), "z"},
		{"GET of chunks", httpListener, get, "\r\n\r\n", chunks, "0\r\n\r\n"},
		{"POST 16 KiB", httpListener, fmt.Sprintf(post, 16<<10, body(16<<10-1)+"z"), "z", answer(2), "z"},
		{"POST of chunks", httpListener, chunked + "5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n", answer(2), "z"},
		{"64 KiB answer", httpListener, get, "\r\n\r\n", answer(64 << 10), "z"},
		{"1 MiB answer", httpListener, get, "\r\n\r\n", answer(1 << 20), "z"},
		{"TCP 64 bytes", relayListener, body(63) + "z", "z", body(63) + "z", "z"},
		{"TCP 256 KiB", relayListener, body(256<<10-1) + "z", "z", body(256<<10-1) + "z", "z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := answering(t, []byte(c.ask), []byte(c.give))
			conn := throughProxy(t, c.filters, port, "")
			send, got, last := []byte(c.send), make([]byte, 64<<10), []byte(c.last)
			exchange := func() {
				if _, err := conn.Write(send); err != nil {
					t.Fatal(err)
				}
				for n := 0; !bytes.HasSuffix(got[:n], last); {
					var err error
					if n, err = conn.Read(got); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 300 { // fills pools, and the journal
				exchange()
			}
			if n := testing.AllocsPerRun(500, exchange); n != 0 {
				t.Errorf("%v allocations for each exchange, want 0", n)
			}
		})
	}
}

// answering runs an upstream that reads until what it got ends with ask, and gives.
func answering(t *testing.T, ask, give []byte) (port int) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answerOn(t, l, ask, give)
	return l.Addr().(*net.TCPAddr).Port
}

func answerOn(t *testing.T, l net.Listener, ask, give []byte) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // a test's connection
				for in := make([]byte, 64<<10); ; {
					n, err := c.Read(in)
					if err != nil {
						return
					}
					if !bytes.HasSuffix(in[:n], ask) {
						continue
					}
					if _, err := c.Write(give); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// throughProxy starts a proxy before an upstream and returns a connection to it. options
// are more fields of the cluster.
func throughProxy(t *testing.T, filters string, upstream int, options string) net.Conn {
	t.Helper()
	b, _, err := loadBootstrap(Options{ConfigYAML: fmt.Sprintf(oneUpstream, filters, options, upstream)})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	p, err := newProxy(b, Options{DrainTime: time.Second}, func(string) *slog.Logger { return quiet }, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	p.server.Start()
	conn, err := net.Dial("tcp4", p.server.Listeners.Listeners()[0].Bound()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
