package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// staticShop is a bootstrap with a listener for each port, all to one backend. The
// first one is INBOUND.
func staticShop(backend uint32, logPath string, ports ...uint32) string {
	s := "node: {id: shop-1, cluster: shop}\nstatic_resources:\n  clusters:\n  - " + indent(clusterYAML("a", backend), 4) + "  listeners:\n"
	for i, p := range ports {
		direction := "INBOUND"
		if i > 0 {
			direction = "OUTBOUND"
		}
		log := ""
		if logPath != "" {
			log = fmt.Sprintf("\n          access_log: [{name: f, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: %q, log_format: {text_format_source: {inline_string: \"%%REQ(:PATH)%% %%RESPONSE_CODE%%\\n\"}}}}]", logPath)
		}
		s += fmt.Sprintf(`
  - name: web%d
    traffic_direction: %s
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web%d
          route_config: {name: shop, virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: a, timeout: 0s}}]}]}
          http_filters:
          - {name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}%s
`, i, direction, p, i, log)
	}
	return s
}

// indent moves all lines but the first to the right.
func indent(text string, n int) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+strings.Repeat(" ", n)) + "\n"
}

// TestWrongBootstrap: one clear message with the place, exit code 1, and nothing was
// opened: the first listener's port is taken, which mecha must not get to notice.
// --mode validate says the same.
func TestWrongBootstrap(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports.Free(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := uint32(taken.Addr().(*net.TCPAddr).Port)
	good := staticShop(1, "", port, port+1)
	second := strings.Index(good, "name: web1")
	late := func(old, new string) string { return good[:second] + strings.Replace(good[second:], old, new, 1) }
	for _, c := range []struct {
		name, text string
		says       []string
	}{
		{"not YAML", "node: {id: [}", []string{"not valid YAML"}},
		{"unknown field", late("filter_chains:", "filter_chainz:"), []string{"static_resources.listeners[1].filter_chainz", "did you mean filter_chains?"}},
		{"wrong type", late("stat_prefix: web1", "stat_prefix: 5"), []string{"static_resources.listeners[1].filter_chains[0].filters[0].typed_config.stat_prefix", "expected string"}},
		{"unknown filter", late("envoy.extensions.filters.http.router.v3.Router", "envoy.extensions.filters.http.rooter.v3.Rooter"), []string{"static_resources.listeners[1].filter_chains[0].filters[0].typed_config.http_filters[0]", "rooter.v3.Rooter"}},
		{"filter of another build", late("envoy.extensions.filters.http.router.v3.Router", "envoy.extensions.filters.http.aws_lambda.v3.Config"), []string{"static_resources.listeners[1].filter_chains[0].filters[0].typed_config.http_filters[0]", "aws_lambda.v3.Config"}},
		{"no terminal filter", late(`
          - {name: envoy.filters.http.router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}`, " []"), []string{`listener "web1": filter_chains[0].filters[0]`, "http_filters"}},
		{"bad regex", late("prefix: /", `safe_regex: {regex: "("}`), []string{"static_resources.listeners[1].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].match.safe_regex"}},
		{"same address twice", late(fmt.Sprint(port+1), fmt.Sprint(port)), []string{"static_resources.listeners[1]", "web0", fmt.Sprint(port)}},
		{"no address", late("address: {socket_address: {address: 127.0.0.1, port_value: "+fmt.Sprint(port+1)+"}}", ""), []string{"static_resources.listeners[1]", "address"}},
		{"bad admin address", good + "admin: {address: {socket_address: {address: localhost, port_value: 1}}}\n", []string{"admin.address: socket_address.address"}},
		{"no such ADS cluster", good + "dynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}, cds_config: {ads: {}}}\n", []string{"dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name", "xds"}},
		{"no such file", good + "dynamic_resources: {cds_config: {path_config_source: {path: /no/such/cds.yaml}}}\n", []string{"dynamic_resources.cds_config.path_config_source.path", "/no/such/cds.yaml"}},
		{"bad cluster", strings.Replace(good, "connect_timeout: 1s", "connect_timeout: 0s", 1), []string{"static_resources.clusters[0].connect_timeout"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "b.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			var said []string
			for _, mode := range []string{"serve", "validate"} {
				p := start(t, "mecha", "proxy", "-c", file, "--mode", mode)
				if code := p.exit(); code != 1 {
					t.Errorf("%s: exit code %d, want 1", mode, code)
				}
				said = append(said, p.text())
			}
			if said[0] != said[1] {
				t.Errorf("serve says\n%s validate says\n%s", said[0], said[1])
			}
			if strings.Count(said[0], "\n") > 3 {
				t.Errorf("more than one message:\n%s", said[0])
			}
			for _, want := range append(c.says, file) {
				if !strings.Contains(said[0], want) {
					t.Errorf("%q is missing in %s", want, said[0])
				}
			}
		})
	}
}

// TestPortInUse names who wanted the port, and leaves nothing behind.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports.Free(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port, first := uint32(taken.Addr().(*net.TCPAddr).Port), freePort(t)
	file := filepath.Join(t.TempDir(), "b.yaml")
	for name, c := range map[string]struct {
		text string
		says []string
	}{
		"listener": {staticShop(1, "", first, port), []string{"static_resources.listeners[1]", `"web1": address`, local(port), "address already in use"}},
		"admin":    {staticShop(1, "", first) + fmt.Sprintf("admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}\n", port), []string{"admin", local(port), "address already in use"}},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := start(t, "mecha", "proxy", "-c", file)
		if code := p.exit(); code != 1 {
			t.Errorf("%s: exit code %d, want 1", name, code)
		}
		for _, want := range c.says {
			if !strings.Contains(p.text(), want) {
				t.Errorf("%s: %q is missing in %s", name, want, p.text())
			}
		}
		if v := start(t, "mecha", "proxy", "-c", file, "--mode", "validate"); v.exit() != 0 {
			t.Errorf("%s: --mode validate opens sockets: %s", name, v.text())
		}
	}
}

// TestEndings: SIGTERM, SIGINT and /quitquitquit end the process at once and in good
// order, whatever its connections do.
func TestEndings(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(m *sidecar){
		"SIGTERM":       func(m *sidecar) { m.kill(syscall.SIGTERM) },
		"SIGINT":        func(m *sidecar) { m.kill(syscall.SIGINT) },
		"/quitquitquit": func(m *sidecar) { m.post("/quitquitquit") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, port := startBackend(t, "a"), freePort(t)
			m := startMecha(t, staticShop(a.port, "", port), "--drain-time-s", "600")
			m.ready()
			newKept(t, from("127.0.0.1", local(port)))
			if _, err := from("127.0.0.1", local(port))(); err != nil { // says nothing
				t.Fatal(err)
			}
			busy, err := from("127.0.0.1", local(port))()
			if err != nil {
				t.Fatal(err)
			}
			defer busy.Close()
			n := a.requests.Load()
			if _, err := busy.Write([]byte("GET /hang HTTP/1.1\r\nhost: a\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the request to hang", func() string {
				if a.requests.Load() == n {
					return "it has not come"
				}
				return ""
			})
			begun := time.Now()
			end(m)
			if code := m.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("the end took %v", d)
			}
		})
	}
}

// TestDrainListeners: after a graceful drain has begun, connections are still taken
// and answered, each is told to close; when the drain time is over the listeners stop.
func TestDrainListeners(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (m *sidecar, in, out uint32) {
		a := startBackend(t, "a")
		in, out = freePort(t), freePort(t)
		m = startMecha(t, staticShop(a.port, "", in, out), "--drain-time-s", "1", "--drain-strategy", "immediate")
		m.ready()
		return m, in, out
	}
	t.Run("graceful, inbound only", func(t *testing.T) {
		t.Parallel()
		m, in, out := setup(t)
		before, other := newKept(t, from("127.0.0.1", local(in))), newKept(t, from("127.0.0.1", local(out)))
		m.post("/drain_listeners?inboundonly&graceful")
		m.post("/drain_listeners?inboundonly&graceful") // as kubelet's hooks do: nothing new
		if !before.get() {
			t.Error("a connection from before the drain was not told to close")
		}
		if c := newKept(t, from("127.0.0.1", local(in))); c.last != true {
			t.Error("a new connection was not told to close")
		}
		refused(t, local(in))
		if other.get() || newKept(t, from("127.0.0.1", local(out))).last {
			t.Error("the outbound listener drains, too")
		}
		if code, _ := m.get("/ready"); code != 200 {
			t.Errorf("/ready says %d", code)
		}
	})
	t.Run("graceful, load ends before the listener does", func(t *testing.T) {
		t.Parallel()
		m, in, _ := setup(t)
		l := startLoad(t, local(in))
		l.answered(50)
		m.post("/drain_listeners?graceful&skip_exit")
		l.answered(200)
		wait(1200 * time.Millisecond) // past the drain time: skip_exit leaves the listener open
		l.answered(50)
		l.stop()
		if l.closes < 100 {
			t.Errorf("only %d connections were told to close", l.closes)
		}
	})
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		m, in, out := setup(t)
		k := newKept(t, from("127.0.0.1", local(in)))
		m.post("/drain_listeners")
		refused(t, local(in))
		refused(t, local(out))
		k.get() // what was accepted goes on
	})
}

// TestHealthcheckFail takes the sidecar out of service and back.
func TestHealthcheckFail(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	m := startMecha(t, staticShop(a.port, "", port))
	m.ready()
	m.post("/healthcheck/fail")
	if code, body := m.get("/ready"); code != 503 || body != "DRAINING\n" {
		t.Errorf("/ready says %d %q", code, body)
	}
	newKept(t, from("127.0.0.1", local(port)))
	m.post("/healthcheck/ok")
	if code, body := m.get("/ready"); code != 200 || body != "LIVE\n" {
		t.Errorf("/ready says %d %q", code, body)
	}
}

// TestLogRotation renames the access log and asks for a new one, under load.
func TestLogRotation(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	path := filepath.Join(t.TempDir(), "access.log")
	m := startMecha(t, staticShop(a.port, path, port), "--file-flush-interval-msec", "20")
	m.ready()
	l := startLoad(t, local(port))
	const rotations = 5
	for i := range rotations {
		l.answered(100)
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, i)); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			m.kill(syscall.SIGUSR1)
		} else {
			m.post("/reopen_logs")
		}
		eventually(t, "a new log", func() string {
			if _, err := os.Stat(path); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	l.answered(100)
	l.stop()
	m.kill(syscall.SIGTERM)
	if code := m.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lines, files := 0, 0
	logs, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(f)
		for in.Scan() {
			if !strings.HasSuffix(in.Text(), " 200") {
				t.Errorf("a line is %q", in.Text())
			}
			lines++
		}
		f.Close()
		files++
	}
	if files != rotations+1 || lines != l.requests {
		t.Errorf("%d lines in %d files for %d requests", lines, files, l.requests)
	}
}

// TestIstioCommandLine is how pilot-agent starts Envoy, with a JSON bootstrap that
// has a field of the future in it.
func TestIstioCommandLine(t *testing.T) {
	t.Parallel()
	a, port := startBackend(t, "a"), freePort(t)
	dir := t.TempDir()
	envoy := filepath.Join(dir, "envoy")
	if err := os.Symlink(binary(t, "mecha"), envoy); err != nil {
		t.Fatal(err)
	}
	version, err := exec.Command(envoy, "--version").CombinedOutput()
	if err != nil || strings.Count(string(version), "/") < 4 {
		t.Errorf("--version: %v %s", err, version)
	}
	m := startMechaAs(t, envoy, []string{
		"--drain-time-s", "45", "--drain-strategy", "immediate", "--local-address-ip-version", "v4",
		"--file-flush-interval-msec", "1000", "--disable-hot-restart", "--allow-unknown-static-fields",
		"-l", "warning", "--component-log-level", "misc:error,rbac:debug", "--skip-deprecated-logs", "--concurrency", "2",
		"--config-yaml", `{"node": {"metadata": {"ISTIO_VERSION": "1.27.1"}}, "field_of_the_future": 1}`,
	}, staticShop(a.port, "", port))
	m.ready()
	answers(t, local(port), 200)
	if _, body := m.get("/config_dump?resource=bootstrap"); strings.Contains(body, "ISTIO_VERSION") {
		t.Log("bootstrap is shown")
	}
	if n := m.stat("server.concurrency"); n != 2 {
		t.Errorf("server.concurrency is %d", n)
	}
	m.kill(syscall.SIGTERM)
	if code := m.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
