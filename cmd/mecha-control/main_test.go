package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mecha-mesh/mecha/xds/ads"
)

// TestMain lets the test binary stand in for mecha-control, so that tests can kill
// a real process.
func TestMain(m *testing.M) {
	if os.Getenv("MECHA_CONTROL_TEST_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// process is a mecha-control of its own.
type process struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
	eof chan struct{}
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...), eof: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "MECHA_CONTROL_TEST_MAIN=1")
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.eof)
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			p.mu.Lock()
			p.log.Write(buf[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			p.wait()
		}
		if t.Failed() {
			t.Logf("log of mecha-control:\n%s", p.text())
		}
	})
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// wait returns the exit code, -1 for a signal.
func (p *process) wait() int {
	<-p.eof
	_ = p.cmd.Wait() // the code says all there is
	return p.cmd.ProcessState.ExitCode()
}

// names is a handler that keeps the names of clusters.
type names struct {
	mu      sync.Mutex
	have    map[string]bool
	updates int
	changed chan struct{}
}

func (h *names) Apply(u ads.Update) []ads.Refusal {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range u.Changed {
		h.have[r.Name] = true
	}
	for _, n := range u.Removed {
		delete(h.have, n)
	}
	h.updates++
	select {
	case h.changed <- struct{}{}:
	default:
	}
	return nil
}

func (h *names) FetchTimedOut(string, string) {}

func (h *names) until(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		h.mu.Lock()
		ok := len(h.have) == len(want)
		for _, n := range want {
			ok = ok && h.have[n]
		}
		have := h.have
		h.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-h.changed:
		case <-deadline:
			t.Fatalf("waited 20 s for %v; have %v", want, have)
		}
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), ".tmp")
	if err := os.WriteFile(tmp, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// kill -9 of the control plane: the client keeps what it has, comes back by itself,
// and converges to what changed while there was no control plane.
func TestKillAndRestart(t *testing.T) {
	for _, v := range []ads.Variant{ads.SotW, ads.Delta} {
		t.Run(v.String(), func(t *testing.T) {
			dir, sock := t.TempDir(), "unix:"+filepath.Join(t.TempDir(), "xds.sock")
			put(t, dir+"/a.yaml", "{name: a, type: STATIC}\n")
			put(t, dir+"/b.yaml", "{name: b, type: STATIC}\n")
			args := []string{"serve", "--dir", dir, "--listen", sock, "--debounce", "10ms", "--grace", "20ms"}
			p := startProcess(t, args...)

			h := &names{have: map[string]bool{}, changed: make(chan struct{}, 1)}
			c, err := ads.New(ads.Config{
				Addresses: []string{sock}, Variant: v, Handler: h, Node: &corev3.Node{Id: "n"},
				Backoff:     ads.Backoff{Base: 20 * time.Millisecond, Max: 100 * time.Millisecond},
				DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- c.Run(ctx) }()
			defer func() { cancel(); <-done }()
			c.Subscribe(ads.ClusterType, 0)
			h.until(t, "a", "b")

			for range 3 {
				if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				p.wait()
				h.until(t, "a", "b")
				put(t, dir+"/b.yaml", "{name: c, type: STATIC}\n")
				p = startProcess(t, args...)
				h.until(t, "a", "c")
				put(t, dir+"/b.yaml", "{name: b, type: STATIC}\n")
				h.until(t, "a", "b")
			}
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if code := p.wait(); code != 0 {
				t.Errorf("exit code %d after SIGTERM, want 0", code)
			}
		})
	}
}

func TestBrokenFolderStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a.yaml", "name: a\ntype: STATIC\nconect_timeout: 1s\n")
	p := startProcess(t, "serve", "--dir", dir, "--listen", "127.0.0.1:0")
	if code := p.wait(); code != 1 || !strings.Contains(p.text(), "a.yaml:3: conect_timeout") {
		t.Errorf("exit code %d, says %q", code, p.text())
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	run := func() (string, error) {
		var out bytes.Buffer
		root := newRoot(io.Discard)
		root.SetOut(&out)
		root.SetArgs([]string{"check", "--dir", dir})
		err := root.Execute()
		return out.String(), err
	}
	put(t, dir+"/a.yaml", "name: r\nvirtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: nope}}]}]\n")
	out, err := run()
	if err != nil || !strings.Contains(out, `there is no cluster "nope"`) || !strings.Contains(out, "1 files, 1 resources for every node, 0 errors, 2 warnings") {
		t.Errorf("%v\n%s", err, out)
	}
	put(t, dir+"/b.yaml", "name: c\ntype: [\n")
	out, err = run()
	if err == nil || !strings.Contains(out, "error:   b.yaml:") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestHelpAndBadFlags(t *testing.T) {
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		root := newRoot(io.Discard)
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs(args)
		err := root.Execute()
		return out.String(), err
	}
	if out, err := run("--help"); err != nil || !strings.Contains(out, "mecha-control serve --dir") || !strings.Contains(out, "check") {
		t.Errorf("%v\n%s", err, out)
	}
	for want, args := range map[string][]string{
		"dir":         {"serve"},
		"--log-level": {"serve", "--dir", ".", "--log-level", "loud"},
		"unknown":     {"serve", "extra", "--dir", "."},
	} {
		if _, err := run(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", args, err, want)
		}
	}
}
