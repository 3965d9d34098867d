// Package e2e tests whole processes: mecha and mecha-control as they are shipped, on
// real sockets, under load, while everything around them changes or dies. What a part
// does by itself is tested beside the part.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/mecha-mesh/mecha/proxy/filter/filtertest/ports"
)

// binaries is where mecha and mecha-control are. MECHA_BIN names a folder with ones
// that are built already, for example with -race; otherwise they are built once.
var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("MECHA_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	dir := filepath.Join(scratch, "bin")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+"/", "github.com/mecha-mesh/mecha/cmd/mecha", "github.com/mecha-mesh/mecha/cmd/mecha-control")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

// scratch is a folder for the whole run.
var scratch string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mecha-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // a folder left in /tmp fails no test
	os.Exit(code)
}

// patience is how long anything may take that should happen at once: the machine may
// be busy.
const patience = 20 * time.Second

// eventually polls ok until it says "", and fails with what it said last.
func eventually(t testing.TB, what string, ok func() (still string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		still := ok()
		if still == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %v for %s: %s", patience, what, still)
		}
	}
}

// wait lets time pass, for what has to be seen not to happen and for pacing.
func wait(d time.Duration) { <-time.After(d) }

// freePort returns a port on which nobody listens, and which no other test gets.
func freePort(t testing.TB) uint32 { return uint32(ports.Free(t)) }

func local(port uint32) string { return "127.0.0.1:" + strconv.Itoa(int(port)) }
