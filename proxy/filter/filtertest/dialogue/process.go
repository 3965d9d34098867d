package dialogue

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a proxy with Envoy's command line, run from its binary.
type process struct {
	cmd   *exec.Cmd
	admin string
}

// startPatience is how long a proxy may take until it is ready.
const startPatience = time.Minute

// startProcess runs the binary until close. It returns when the proxy is ready.
func startProcess(binary, dir, admin string, config []byte) (*process, error) {
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return nil, err
	}
	p := &process{admin: "http://" + admin, cmd: exec.Command(binary, "-c", file, "--disable-hot-restart",
		"--concurrency", "1", "--file-flush-interval-msec", "10", "-l", "error", "--drain-time-s", "1",
		"--drain-strategy", "immediate")}
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	for end := time.Now().Add(startPatience); time.Now().Before(end); pause() {
		select {
		case err := <-done:
			return nil, fmt.Errorf("%s ended at once: %w", binary, err)
		default:
		}
		if body, err := p.get("/ready"); err == nil && strings.HasPrefix(body, "LIVE") {
			return p, nil
		}
	}
	p.close()
	return nil, fmt.Errorf("%s is not ready after %v", binary, startPatience)
}

func (p *process) close() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // it may be gone
}

func (p *process) get(path string) (string, error) { return p.do(http.MethodGet, path) }

func (p *process) do(method, path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, method, p.admin+path, nil)
	if err != nil {
		return "", err
	}
	r, err := http.DefaultClient.Do(rq)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, r.Status)
	}
	return string(b), err
}

func (p *process) stat(name string) string {
	body, err := p.get("/stats?filter=^" + strings.ReplaceAll(name, ".", "%5C.") + "$")
	if err != nil {
		return ""
	}
	_, v, _ := strings.Cut(strings.TrimSpace(body), ": ")
	return v
}

func (p *process) active(cluster string) int {
	n, _ := strconv.Atoi(p.stat("cluster." + cluster + ".upstream_rq_active")) // 0 if there is none
	return n
}

func (p *process) post(path string) error {
	_, err := p.do(http.MethodPost, path)
	return err
}
