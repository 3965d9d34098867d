package hcm_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/dialogue"
	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

type obj = map[string]any

// stall is a way in which a long body goes down, copied or spliced, and what ends it.
type stall struct {
	framing             string
	streamIdle, waiting string // stream_idle_timeout, per_connection_buffer_high_watermark_timeout
	stat, log           string
}

var stalls = map[string]stall{
	"chunked": {"transfer-encoding: chunked", "0.5s", "0s", "downstream_rq_idle_timeout", "200 stream_idle_timeout SI"},
	"by length": {
		"content-length: 1000000000000", "0.5s", "0s", "downstream_rq_idle_timeout", "200 stream_idle_timeout SI",
	},
	"chunked, listener": {
		"transfer-encoding: chunked", "60s", "0.5s", "downstream_rq_rx_reset",
		"200 downstream_local_disconnect(buffer_high_watermark_timeout_reached) DC",
	},
	"by length, listener": {
		"content-length: 1000000000000", "60s", "0.5s", "downstream_rq_rx_reset",
		"200 downstream_local_disconnect(buffer_high_watermark_timeout_reached) DC",
	},
}

// playStall: a client that reads nothing holds a connection to upstream, and memory, no
// longer than a stream may be idle, or the listener lets it.
func playStall(t *testing.T, start func(t testing.TB, config []byte, admin string) *dialogue.Proxy) {
	for name, c := range stalls {
		t.Run(name, func(t *testing.T) {
			up, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer up.Close()
			cut := make(chan error, 1)
			go func() { cut <- pour(up, c.framing) }()
			port, admin := ports.Free(t), ports.Free(t)
			log := filepath.Join(t.TempDir(), "log")
			raw, err := json.Marshal(stallConfig(port, admin, up.Addr().(*net.TCPAddr).Port, log, &c))
			if err != nil {
				t.Fatal(err)
			}
			p := start(t, raw, fmt.Sprintf("127.0.0.1:%d", admin))
			client, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Write([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-cut:
				if err == nil {
					t.Error("everything was taken")
				}
			case <-time.After(30 * time.Second):
				t.Error("upstream can go on for ever")
			}
			p.WaitStat(t, "http.test."+c.stat, "1")
			if n := p.Stat("cluster.c.upstream_flow_control_paused_reading_total"); n == "" || n == "0" {
				t.Errorf("reading from upstream was paused %q times", n)
			}
			if got := firstLine(log); got != c.log {
				t.Errorf("log %q", got)
			}
		})
	}
}

// pour answers one request with a body that does not end, until it can't.
func pour(l net.Listener, framing string) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		return err
	}
	if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\n" + framing + "\r\n\r\n")); err != nil {
		return err
	}
	piece := []byte("ffff\r\n" + strings.Repeat("x", 0xffff) + "\r\n")
	for {
		if _, err := c.Write(piece); err != nil {
			return err
		}
	}
}

func firstLine(file string) string {
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if b, err := os.ReadFile(file); err == nil && len(b) > 0 {
			line, _, _ := strings.Cut(string(b), "\n")
			return line
		}
	}
	return ""
}

func stallConfig(port, admin, up int, log string, c *stall) obj {
	address := func(port int) obj {
		return obj{"socket_address": obj{"address": "127.0.0.1", "port_value": port}}
	}
	return obj{
		"admin": obj{"address": address(admin)},
		"static_resources": obj{
			"listeners": []any{obj{"name": "l", "address": address(port), "per_connection_buffer_high_watermark_timeout": c.waiting, "filter_chains": []any{obj{"filters": []any{obj{
				"name": "hcm", "typed_config": obj{
					"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
					"stat_prefix": "test", "stream_idle_timeout": c.streamIdle,
					"access_log": []any{obj{"name": "file", "typed_config": obj{
						"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": log,
						"log_format": obj{"text_format_source": obj{"inline_string": "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%\n"}},
					}}},
					"route_config": obj{"virtual_hosts": []any{obj{"name": "v", "domains": []any{"*"}, "routes": []any{
						obj{"match": obj{"prefix": "/"}, "route": obj{"cluster": "c", "timeout": "0s"}},
					}}}},
					"http_filters": []any{obj{"name": "router", "typed_config": obj{
						"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
					}}},
				},
			}}}}}},
			"clusters": []any{obj{"name": "c", "type": "STATIC", "load_assignment": obj{"cluster_name": "c", "endpoints": []any{
				obj{"lb_endpoints": []any{obj{"endpoint": obj{"address": address(up)}}}},
			}}}},
		},
	}
}

func TestStall(t *testing.T) {
	playStall(t, func(t testing.TB, config []byte, _ string) *dialogue.Proxy { return dialogue.StartMecha(t, config) })
}
