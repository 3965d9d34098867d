package hcm_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// deafHost is upstream that accepts connections, says how much may come, and reads none of it.
func deafHost(t testing.TB, up int, secure bool) int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	t.Cleanup(s.Close)
	config := &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{[]string{"", "http/1.1", "h2"}[up]}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				if secure {
					sc := tls.Server(c, config)
					if sc.Handshake() != nil {
						return
					}
					c = sc
				}
				if up == 2 { // SETTINGS_INITIAL_WINDOW_SIZE and WINDOW_UPDATE as large as can be
					_, _ = c.Write([]byte("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\x00\x00\x00"))
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// TestDeafHost: a host that reads nothing holds a request, and what belongs to it, no longer
// than a stream may be idle, whether the whole request is at hand or still comes.
func TestDeafHost(t *testing.T) {
	for _, up := range []int{1, 2} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("HTTP/%d, TLS %t", up, secure), func(t *testing.T) {
				t.Parallel()
				playDeaf(t, up, secure)
			})
		}
	}
}

func playDeaf(t *testing.T, up int, secure bool) {
	port, admin := ports.Free(t), ports.Free(t)
	log := filepath.Join(t.TempDir(), "log")
	config := stallConfig(port, admin, 0, log, &stall{streamIdle: "0.5s", waiting: "0s"})
	config["static_resources"].(obj)["clusters"] = []any{crossingCluster("c", deafHost(t, up, secure), up, secure)}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p := dialogue.StartMecha(t, raw)
	const size = 50 << 20 // more than sockets and buffers take
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		head := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
		_, _ = io.WriteString(c, head+strings.Repeat("x", size)) // it is cut off
	}()
	_ = c.SetReadDeadline(time.Now().Add(mixedPatience))
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != 408 {
		t.Errorf("status %d", r.StatusCode)
	}
	if got := firstLine(log); got != "408 stream_idle_timeout SI" {
		t.Errorf("log %q", got)
	}
	for _, gauge := range []string{"cluster.c.upstream_rq_active", "http.test.downstream_rq_active"} {
		p.WaitStat(t, gauge, "0")
	}
	if up == 1 { // it carries one request
		p.WaitStat(t, "cluster.c.upstream_cx_active", "0")
	}
}
