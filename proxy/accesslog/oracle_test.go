//go:build oracle

package accesslog

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
	"github.com/mecha-mesh/mecha/proxy/header"
	"github.com/mecha-mesh/mecha/proxy/meta"
)

// envoyBinary returns the binary that MECHA_ENVOY names.
func envoyBinary(t *testing.T) string {
	bin := os.Getenv("MECHA_ENVOY")
	if bin == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	return bin
}

// envoyConfig is a listener that answers everything itself and logs to path.
func envoyConfig(t *testing.T, port int, path, format string) string {
	t.Helper()
	message := func(name string, kv ...any) map[string]any {
		m := map[string]any{"@type": "type.googleapis.com/" + name}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return m
	}
	named := func(name string, config any) map[string]any {
		return map[string]any{"name": name, "typed_config": config}
	}
	list := func(v ...any) []any { return v }
	hcm := message("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix", "t",
		"route_config", map[string]any{"virtual_hosts": list(map[string]any{"name": "v", "domains": list("*"), "routes": list(
			map[string]any{"name": "r", "match": map[string]any{"prefix": "/"}, "direct_response": map[string]any{"status": 204}})})},
		"http_filters", list(named("router", message("envoy.extensions.filters.http.router.v3.Router"))),
		"access_log", list(named("log", message("envoy.extensions.access_loggers.file.v3.FileAccessLog", "path", path,
			"log_format", map[string]any{"text_format_source": map[string]any{"inline_string": format}}))))
	b, err := json.Marshal(map[string]any{"static_resources": map[string]any{"listeners": list(map[string]any{
		"name":          "l",
		"address":       map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": port}},
		"filter_chains": list(map[string]any{"name": "fc", "filters": list(named("hcm", hcm))}),
	})}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Whether a format is accepted must not differ.
func TestOracleVerdicts(t *testing.T) {
	bin := envoyBinary(t)
	for _, format := range []string{
		"%RESP(a% c", "%REQ(a):x%", "100%", "%%", "%lower%", "%FOO%", "%DURATION:2%", "%PROTOCOL(x)%", "%START_TIME(%s):6%",
		"%REQ%", "%REQ()%", "%REQ(a?b?c)%", "%REQ(bad header)%", "%PATH(NQ:PATH_OR_ORIG)%", "%PATH(NQ:ORIG_OR_PATH)%", "%PATH(XX)%",
		"%REQUESTED_SERVER_NAME(HOST_FIRST:HOST_FIRST)%", "%REQUESTED_SERVER_NAME(SNI_FIRST:ORIG)%", "%COMMON_DURATION(DS_RX_BEG)%",
		"%COMMON_DURATION(a:b:years)%", "%COMMON_DURATION(DS_RX_BEG:x)%", "%GRPC_STATUS(x)%", "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(16)%",
		`%COALESCE({"operators":["PROTOCOL"]})%`, `%COALESCE({"operators":["FOO"]})%`, "%UPSTREAM_TLS_CIPHER%", "%DOWNSTREAM_PEER_OTHERNAME_SAN%",
		"%START_TIME(a%nb)%", "%CONNECTION_ID(3)%", "%ROUNDTRIP_DURATION%", "%UNIQUE_ID%", "%QUERY_PARAM(a):3%", "%ENVIRONMENT(X)%",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		out, err := exec.CommandContext(ctx, bin, "--mode", "validate", "--disable-hot-restart", "-l", "critical",
			"--config-yaml", envoyConfig(t, 0, "/dev/null", "ab "+format+" c")).CombinedOutput()
		cancel()
		_, mine := Compile("ab " + format + " c")
		if (err == nil) != (mine == nil) {
			t.Errorf("%q: we say %v, Envoy %v %s", format, mine, err, out)
		}
	}
}

// One request is logged by Envoy with all kinds of formats, and formatted here from
// the same headers and the same time.
func TestOracleValues(t *testing.T) {
	bin := envoyBinary(t)
	formats := []string{
		"%START_TIME%", "%START_TIME(%s|%3s|%f|%1f|%9f|%E3S|%E6S|%ES|%E*S|%Ez|%E*z|%E3f|%E*f|%*f|%Q|%%|%s%3f)%",
		"%START_TIME(%a %A %b %B %c %C %d %D %e %F %g %G %h %H %I %j %k %l %m %M %p %P %r %R %S %t %T %u %U %V %w %W %x %X %y %Y %z %Z)%",
		"%START_TIME(%E4Y %ET %EY %Ey %Od %E2S %E0S %EH %OH %Oy %OV)%", "%PROTOCOL%", "%RESPONSE_CODE%", "%RESPONSE_CODE_DETAILS%",
		"%RESPONSE_FLAGS%", "%ROUTE_NAME%", "%FILTER_CHAIN_NAME%", "%ACCESS_LOG_TYPE%", "%REQ(:METHOD)%", "%REQ(X-NONE?:PATH):4%", "%REQ(x-a)%",
		"%REQ(x-none)%", "%PATH%", "%PATH(NQ)%", "%PATH(WQ:ORIG)%", "%QUERY_PARAM(a)%", "%QUERY_PARAM(a):2%", "%QUERY_PARAM(d)%", "%QUERY_PARAMS%",
		"%QUERY_PARAM(e)%", "%UPSTREAM_HOST%", "%UPSTREAM_CLUSTER%", "%UPSTREAM_CONNECTION_ID%", "%BYTES_SENT%", "%REQUESTED_SERVER_NAME(SNI_FIRST)%",
		"%DOWNSTREAM_LOCAL_ADDRESS%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%", "%LOCAL_REPLY_BODY%", "%STREAM_ID%", "%REQUEST_TX_DURATION%",
	}
	path := filepath.Join(t.TempDir(), "log")
	port := ports.Free(t)
	all := "%START_TIME(%s.%9f)%\x01%REQ(x-request-id)%\x01" + strings.Join(formats, "\x01") + "\x02"
	envoy := exec.CommandContext(t.Context(), bin, "--disable-hot-restart", "--concurrency", "1", "-l", "critical", "--file-flush-interval-msec", "20",
		"--config-yaml", envoyConfig(t, port, path, all))
	envoy.Stderr = os.Stderr
	if err := envoy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = envoy.Process.Kill() // it has nothing to save
		_ = envoy.Wait()
	}()
	target := "/x/y?a=b%20c&d&e=%zz&a=2"
	host := fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, "Envoy answers", func() bool {
		req, err := http.NewRequest("PUT", "http://"+host+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-A", "va lue")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err == nil
	})
	var record string
	eventually(t, "Envoy logs", func() bool {
		b, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		var done bool
		record, _, done = strings.Cut(string(b), "\x02")
		return done
	})
	values := strings.Split(record, "\x01")
	at := parseStart(t, values[0])
	var request header.Map
	for _, kv := range [][2]string{{":method", "PUT"}, {":path", target}, {":authority", host}, {"x-a", "va lue"}, {"x-request-id", values[1]}} {
		request.Add(kv[0], kv[1])
	}
	e := &Entry{
		Conn:    &meta.Conn{Local: addr(host), Remote: addr("127.0.0.1:1"), FilterChain: "fc"},
		Stream:  &meta.Stream{Start: at, Protocol: meta.HTTP11, Code: 204, Details: "direct_response", RouteName: "r"},
		Request: &request, Type: DownstreamEnd,
	}
	for i, format := range formats {
		f, err := Compile(format)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(f.Append(nil, e)); got != values[i+2] {
			t.Errorf("%s: %q, Envoy prints %q", format, got, values[i+2])
		}
	}
}

// parseStart reads seconds and nanoseconds since 1970.
func parseStart(t *testing.T, text string) time.Time {
	t.Helper()
	sec, frac, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := strconv.ParseInt(frac, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(s, ns)
}
