// Package redistest runs Redis, the program, for tests.
package redistest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// Server is a Redis of a test's own.
type Server struct {
	Address string // host:port
	Port    int
	t       testing.TB
	dir     string
	args    []string
	cmd     *exec.Cmd
}

// Start starts a Redis with these arguments, until the test ends. Without the program the
// test is skipped; in CI it fails.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	port := ports.Free(t)
	x := &Server{
		t: t, dir: t.TempDir(), Port: port, Address: fmt.Sprintf("127.0.0.1:%d", port),
		args: append([]string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", ""}, args...),
	}
	x.Again()
	t.Cleanup(x.Kill)
	return x
}

// Again starts it once more, after Kill, with what is on its disk.
func (x *Server) Again() {
	x.t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			x.t.Fatal("redis-server is not installed")
		}
		x.t.Skip("redis-server is not installed")
	}
	x.cmd = exec.Command(program, append(x.args, "--dir", x.dir)...)
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := x.cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(15 * time.Second); ; <-tick.C {
		c, err := net.Dial("tcp", x.Address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("redis-server does not answer: %v", err)
		}
	}
}

// Kill ends it as kill -9 does.
func (x *Server) Kill() {
	_ = x.cmd.Process.Kill() // it may have ended
	_ = x.cmd.Wait()         // by a signal
}

// Signal sends it a signal, such as SIGSTOP.
func (x *Server) Signal(sig syscall.Signal) {
	x.t.Helper()
	if err := x.cmd.Process.Signal(sig); err != nil {
		x.t.Fatal(err)
	}
}
