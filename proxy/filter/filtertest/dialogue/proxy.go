package dialogue

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

// Proxy is a running proxy, for tests that are about something else than the
// conversation of a dialogue.
type Proxy struct {
	running
	end func() // in good order
}

// End ends the proxy before the test does, as SIGTERM does.
func (p *Proxy) End() { p.end() }

// StartMecha runs mecha in this process, from the bootstrap to the sockets, until the
// test ends.
func StartMecha[T TB](t T, config []byte) *Proxy {
	t.Helper()
	e, err := startEngine(config, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(e.close)
	t.Cleanup(end)
	return &Proxy{e, end}
}

// StartEnvoy runs the Envoy that MECHA_ENVOY names until the test ends. Its bootstrap
// must have an admin endpoint at admin. Like StartMecha it is generic so that it is also a
// value of type func(testing.TB, ...).
func StartEnvoy[T TB](t T, config []byte, admin string) *Proxy {
	t.Helper()
	binary := os.Getenv("MECHA_ENVOY")
	if binary == "" {
		t.Skip("MECHA_ENVOY names no Envoy binary")
	}
	p, err := startProcess(binary, t.TempDir(), admin, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return &Proxy{p, func() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }}
}

// Stat is the value of a counter or gauge, "" if there is none.
func (p *Proxy) Stat(name string) string { return p.stat(name) }

// WaitStat waits for a counter or gauge to have a value.
func (p *Proxy) WaitStat(t TB, name, want string) {
	t.Helper()
	for end := time.Now().Add(patience); ; pause() {
		got := p.stat(name)
		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%s is %q, want %q", name, got, want)
			return
		}
	}
}
