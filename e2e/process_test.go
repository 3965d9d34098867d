package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program of ours that runs.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu  sync.Mutex
	log bytes.Buffer
}

// Write takes what the program says.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

// text is what the program has said so far.
func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// start runs one of our programs until the test is over. name may be a path.
func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	return startIn(t, 0, name, args...)
}

// startIn is start in namespaces of its own, CLONE_NEWNET for example.
func startIn(t testing.TB, namespaces uintptr, name string, args ...string) *process {
	t.Helper()
	if !strings.Contains(name, "/") {
		name = binary(t, name)
	}
	p := &process{t: t, cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: namespaces}
	p.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // ProcessState has what there is to know
	}()
	t.Cleanup(func() {
		p.kill(syscall.SIGKILL)
		<-p.done
		if text := p.text(); strings.Contains(text, "DATA RACE") || strings.Contains(text, "panic") {
			t.Errorf("%s has a fault of its own:\n%s", filepath.Base(name), text)
		} else if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), tail(text, 4000))
		}
	})
	return p
}

func binary(t testing.TB, name string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// kill sends a signal; a program that has ended already is all right.
func (p *process) kill(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = p.cmd.Process.Signal(s) // it may have ended this very moment
	}
}

// exit waits for the end of the program and returns its exit code, -1 for a signal.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("the process has not ended within %v; it said:\n%s", patience, tail(p.text(), 4000))
		return 0
	}
}

// fds is how many descriptors the process has open.
func (p *process) fds() int {
	p.t.Helper()
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(names)
}

// sockets returns the descriptors that are sockets.
func (p *process) sockets() int {
	p.t.Helper()
	dir, n := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid), 0
	names, err := os.ReadDir(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range names {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// rss is the resident memory of the process in KiB, without the pages of its own file: those go
// when they have not been touched for a while, and come again.
func (p *process) rss() int {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}
	}
	p.t.Fatal("no RssAnon")
	return 0
}

// sidecar is a mecha with its admin interface.
type sidecar struct {
	*process
	admin string
	http  *http.Client
}

// startMecha runs mecha with a bootstrap to which an admin address is added.
func startMecha(t testing.TB, bootstrap string, args ...string) *sidecar {
	t.Helper()
	return startMechaAs(t, binary(t, "mecha"), append([]string{"proxy"}, args...), bootstrap)
}

func startMechaAs(t testing.TB, program string, args []string, bootstrap string) *sidecar {
	t.Helper()
	dir := t.TempDir()
	file, admin := filepath.Join(dir, "bootstrap.yaml"), filepath.Join(dir, "admin")
	text := bootstrap + "\nadmin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &sidecar{process: start(t, program, append(args, "-c", file, "--admin-address-path", admin)...)}
	s.http = &http.Client{Timeout: patience, Transport: &http.Transport{}}
	t.Cleanup(s.http.CloseIdleConnections)
	eventually(t, "the admin address", func() string {
		select {
		case <-s.done:
			t.Fatalf("mecha has ended: %s", s.text())
		default:
		}
		addr, err := os.ReadFile(admin)
		if err != nil || len(addr) == 0 {
			return fmt.Sprintf("%v", err)
		}
		s.admin = "http://" + string(addr)
		return ""
	})
	return s
}

// get asks the admin interface.
func (s *sidecar) get(path string) (int, string) {
	s.t.Helper()
	return s.ask(http.MethodGet, path)
}

// post changes something over the admin interface.
func (s *sidecar) post(path string) string {
	s.t.Helper()
	code, body := s.ask(http.MethodPost, path)
	if code != 200 {
		s.t.Fatalf("POST %s: %d %s", path, code, body)
	}
	return body
}

func (s *sidecar) ask(method, path string) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, s.admin+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := s.http.Do(q)
	if err != nil {
		s.t.Fatalf("admin: %v; mecha said:\n%s", err, tail(s.text(), 4000))
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatalf("admin: %v", err)
	}
	return r.StatusCode, string(body)
}

// stat reads one statistic, -1 if there is none of that name.
func (s *sidecar) stat(name string) int {
	s.t.Helper()
	_, body := s.get("/stats?filter=^" + strings.ReplaceAll(name, "|", "%5C%7C") + "$")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				s.t.Fatalf("%s: %v", name, err)
			}
			return n
		}
	}
	return -1
}

// until waits for a statistic to have a value.
func (s *sidecar) until(name string, want int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%s = %d", name, want), func() string {
		if v := s.stat(name); v != want {
			return fmt.Sprintf("it is %d", v)
		}
		return ""
	})
}

// ready waits for /ready.
func (s *sidecar) ready() {
	s.t.Helper()
	eventually(s.t, "/ready", func() string {
		if code, body := s.get("/ready"); code != 200 {
			return fmt.Sprintf("%d %s", code, body)
		}
		return ""
	})
}

// listening waits for somebody to accept on addr.
func listening(t testing.TB, addr string) {
	t.Helper()
	eventually(t, "a listener on "+addr, func() string {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err.Error()
		}
		c.Close()
		return ""
	})
}

// refused waits for nobody to listen on addr.
func refused(t testing.TB, addr string) {
	t.Helper()
	eventually(t, "no listener on "+addr, func() string {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return ""
		}
		if err == nil {
			c.Close()
		}
		return fmt.Sprintf("connected: %v", err)
	})
}
