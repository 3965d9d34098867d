package xds_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/filters"
	"github.com/mecha-mesh/mecha/proxy/filter"
	"github.com/mecha-mesh/mecha/proxy/runtime"
	"github.com/mecha-mesh/mecha/proxy/server"
	"github.com/mecha-mesh/mecha/proxy/stats"
	"github.com/mecha-mesh/mecha/xds"
	"github.com/mecha-mesh/mecha/xds/bootstrap"
	_ "github.com/mecha-mesh/mecha/xds/control/linked"
	"github.com/mecha-mesh/mecha/xds/translate"
	"github.com/mecha-mesh/mecha/xds/xdstest"
)

// kit is a proxy in this process, from the bootstrap to the sockets.
type kit struct {
	t       *testing.T
	stats   *stats.Store
	server  *server.Server
	manager *xds.Manager
	runtime *runtime.Runtime
	stop    func()
}

// proxyOf starts a proxy that follows a bootstrap until the test ends. In the text,
// XDS stands for a static cluster with the address of the control plane.
func proxyOf(t *testing.T, plane *xdstest.Server, text string, more ...func(*xds.Options)) *kit {
	t.Helper()
	host, port, _ := strings.Cut(plane.Address(), ":")
	text = strings.ReplaceAll(text, "XDS", fmt.Sprintf(`{name: xds, connect_timeout: 5s, type: STATIC, load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}}`, host, port))
	b, _, err := bootstrap.Load(bootstrap.LoadOptions{YAML: text})
	if err != nil {
		t.Fatal(err)
	}
	settings, _, err := translate.Process(b)
	if err != nil {
		t.Fatal(err)
	}
	registry, err := filter.NewRegistry(filters.All()...)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	k := &kit{t: t, stats: stats.NewStore()}
	k.runtime = runtime.New(settings.Runtime, k.stats)
	k.server = server.New(server.Options{
		Stats: k.stats, Log: func(string) *slog.Logger { return log }, DrainTime: time.Second, Env: filter.Env{Runtime: k.runtime},
	})
	o := xds.Options{Engine: k.server, Registry: registry, Log: log, Runtime: k.runtime, Stats: k.stats}
	for _, f := range more {
		f(&o)
	}
	k.manager = xds.NewManager(o)
	dynamic, err := k.manager.Load(b)
	if err != nil {
		k.server.Close()
		t.Fatal(err)
	}
	dynamic.Export(k.stats)
	k.server.Start()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- dynamic.Run(ctx) }()
	k.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		k.server.Close()
	})
	t.Cleanup(k.stop)
	return k
}

// testLog writes what is logged to the test's output.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// until waits for something to become true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); goruntime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// port is where a listener listens.
func (k *kit) port(listener string) uint16 {
	k.t.Helper()
	var port uint16
	until(k.t, "the listener "+listener, func() bool {
		for _, l := range k.server.Listeners.Listeners() {
			if b := l.Bound(); l.Name() == listener && len(b) > 0 {
				port = b[0].AddrPort.Port()
				return true
			}
		}
		return false
	})
	return port
}

// get asks a listener for a path and returns the status and body, or the error.
func (k *kit) get(listener, path string, header ...string) string {
	k.t.Helper()
	req, err := http.NewRequestWithContext(k.t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", k.port(listener), path), nil)
	if err != nil {
		k.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close() //nolint:errcheck // read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("%d %s", resp.StatusCode, body)
	if x := resp.Header.Get("x-seen"); x != "" {
		text += " x-seen=" + x
	}
	return text
}

// stat is the value of a counter or gauge.
func (k *kit) stat(name string) (n int64) {
	n = -1
	k.stats.Each(func(m stats.Metric) {
		switch {
		case m.Name != name:
		case m.Counter != nil:
			n = int64(m.Counter.Value())
		case m.Gauge != nil:
			n = m.Gauge.Value()
		}
	})
	return n
}

// answers is a route configuration, in YAML, that answers every request itself.
func answers(name, body string) string {
	return fmt.Sprintf(`{name: %s, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: "/"}, direct_response: {status: 200, body: {inline_string: %q}}}]}]}`, name, body)
}
