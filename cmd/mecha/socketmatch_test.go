package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

const twoKinds = `
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:%s
  clusters:
  - name: up
    type: STATIC
    transport_socket_matches:
    - {name: tlsMode-istio, match: {tlsMode: istio}, transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: test, common_tls_context: {validation_context: {trusted_ca: {inline_string: %q}}}}}}
    - {name: tlsMode-disabled, match: {}, transport_socket: {name: raw, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
          metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}}}
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
`

// TestHostsOfTwoKinds: in a mesh that is half way to mTLS, each host of a cluster is spoken to
// as its metadata says.
func TestHostsOfTwoKinds(t *testing.T) {
	own, chain, _ := selfSigned(t)
	answer := func(body string) []byte {
		return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n%s", body)
	}
	secure, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answerOn(t, tls.NewListener(secure, &tls.Config{Certificates: []tls.Certificate{own}}), []byte("\r\n\r\n"), answer("tls"))
	plain := answering(t, []byte("\r\n\r\n"), answer("raw"))
	text := fmt.Sprintf(twoKinds, httpListener, chain, secure.Addr().(*net.TCPAddr).Port, plain)
	b, _, err := loadBootstrap(Options{ConfigYAML: text})
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
	defer conn.Close() //nolint:errcheck // the test is over
	r, got := bufio.NewReader(conn), map[string]int{}
	for range 20 {
		if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%d, %q, %v", resp.StatusCode, body, err)
		}
		got[string(body)]++
	}
	if got["tls"] != 10 || got["raw"] != 10 {
		t.Errorf("answers by kind of host: %v", got)
	}
}
