package hcm_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// opening is how a client asks for a tunnel and how a host of HTTP/1 or 2 grants it.
type opening struct {
	ask, grant string
	code       int
}

// The host of HTTP/2 allows extended CONNECT, and gives all credit.
const (
	settings2 = "\x00\x00\x0c\x04\x00\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff\x00\x08\x00\x00\x00\x01" +
		"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\x00\x00\x00"
	granted2 = "\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88" // :status 200 on stream 1
)

var openings = map[string]opening{
	"upgrade": {
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 101,
	},
	"CONNECT": {"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", 200},
}

// TestDeafTunnels: a tunnel ends when nothing has moved in it for as long as a stream may be
// idle, whoever it is that does not read.
func TestDeafTunnels(t *testing.T) {
	for name, o := range openings {
		for _, up := range []int{1, 2} {
			for _, pours := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, HTTP/%d, host pours %t", name, up, pours), func(t *testing.T) {
					t.Parallel()
					playDeafTunnel(t, o, up, pours)
				})
			}
		}
	}
}

// tunnelHost grants a tunnel. Then it reads nothing; if it pours, it sends until it can't.
func tunnelHost(t testing.TB, o *opening, up int, pours bool) int {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = c.Close() })
		grant, piece := o.grant, strings.Repeat("x", 1<<14)
		if up == 2 {
			_, _ = io.WriteString(c, settings2)
			grant, piece = granted2, "\x00\x40\x00\x00\x00\x00\x00\x00\x01"+piece
		}
		if err := untilAsked(c, up); err != nil {
			return
		}
		for _, err = io.WriteString(c, grant); err == nil && pours; {
			_, err = io.WriteString(c, piece)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// untilAsked reads until the tunnel has been asked for: the first byte in HTTP/1, the frame
// HEADERS in HTTP/2.
func untilAsked(c io.Reader, up int) error {
	if up == 1 {
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	const headers = 1 // RFC 9113 section 6.2
	_, err := io.CopyN(io.Discard, c, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")))
	for head := make([]byte, 9); err == nil && head[3] != headers; {
		if _, err = io.ReadFull(c, head); err == nil {
			_, err = io.CopyN(io.Discard, c, int64(head[0])<<16|int64(head[1])<<8|int64(head[2]))
		}
	}
	return err
}

func playDeafTunnel(t *testing.T, o opening, up int, pours bool) {
	free := ports.FreeN(t, 2)
	log := filepath.Join(t.TempDir(), "log")
	config := stallConfig(free[0], free[1], 0, log, &stall{streamIdle: "0.5s", waiting: "0s"})
	config["static_resources"].(obj)["clusters"] = []any{crossingCluster("c", tunnelHost(t, &o, up, pours), up, false)}
	hcm := config["static_resources"].(obj)["listeners"].([]any)[0].(obj)["filter_chains"].([]any)[0].(obj)["filters"].([]any)[0].(obj)["typed_config"].(obj)
	hcm["upgrade_configs"] = []any{obj{"upgrade_type": "websocket"}, obj{"upgrade_type": "CONNECT"}}
	hcm["route_config"] = obj{"virtual_hosts": []any{obj{"name": "v", "domains": []any{"*"}, "routes": []any{
		obj{"match": obj{"connect_matcher": obj{}}, "route": obj{"cluster": "c", "timeout": "0s"}},
		obj{"match": obj{"prefix": "/"}, "route": obj{"cluster": "c", "timeout": "0s"}},
	}}}}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p := dialogue.StartMecha(t, raw)
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", free[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(mixedPatience))
	if _, err := io.WriteString(c, o.ask); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != o.code {
		t.Fatalf("status %d", r.StatusCode)
	}
	for piece := strings.Repeat("x", 1<<16); err == nil && !pours; {
		_, err = io.WriteString(c, piece)
	}
	if got := firstLine(log); !strings.HasSuffix(got, " stream_idle_timeout SI") {
		t.Errorf("log %q", got)
	}
	for _, gauge := range []string{"cluster.c.upstream_rq_active", "http.test.downstream_rq_active", "http.test.downstream_cx_active"} {
		p.WaitStat(t, gauge, "0")
	}
	if up == 1 { // it carries one tunnel
		p.WaitStat(t, "cluster.c.upstream_cx_active", "0")
	}
}
