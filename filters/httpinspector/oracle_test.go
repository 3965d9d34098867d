//go:build oracle

package httpinspector

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type obj = map[string]any

func named(name, typ string, fields obj) obj {
	fields["@type"] = "type.googleapis.com/envoy.extensions.filters." + typ
	return obj{"name": name, "typed_config": fields}
}

func chain(protocol, name string) obj {
	c := obj{"filters": []any{named("answer", "network.direct_response.v3.Config", obj{"response": obj{"inline_string": name}})}}
	if protocol != "" {
		c["filter_chain_match"] = obj{"application_protocols": []string{protocol}}
	}
	return c
}

// TestOracle asks a real Envoy (MECHA_ENVOY) what it takes the lines for.
func TestOracle(t *testing.T) {
	envoy := os.Getenv("MECHA_ENVOY")
	if envoy == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	port := 20_000 + rand.IntN(12_000)
	at := func(port int) obj { return obj{"socket_address": obj{"address": "127.0.0.1", "port_value": port}} }
	raw, err := json.Marshal(obj{"admin": obj{"address": at(port + 1)}, "static_resources": obj{"listeners": []any{obj{
		"name": "l", "address": at(port), "listener_filters_timeout": "10s",
		"listener_filters": []any{named("http", "listener.http_inspector.v3.HttpInspector", obj{})},
		"filter_chains":    []any{chain("http/1.1", "1.1"), chain("http/1.0", "1.0"), chain("h2c", "2"), chain("", "no")},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(envoy, "-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "critical")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); ; <-tick.C {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", port+1))
		if err == nil {
			r.Body.Close()
			if r.StatusCode == 200 {
				break
			}
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatal("Envoy does not get ready")
		}
	}
	names := map[verdict]string{http10: "1.0", http11: "1.1", http2: "2", notHTTP: "no"}
	for _, c := range lines {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, c.in)
		got := make([]byte, 3)
		n, _ := io.ReadFull(conn, got)
		if s := strings.TrimSpace(string(got[:n])); s != names[c.want] {
			t.Errorf("%.60q: Envoy takes it for %q, the table says %q", c.in, s, names[c.want])
		}
		conn.Close()
	}
}
