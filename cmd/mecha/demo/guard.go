package demo

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// GuardName is the argument behind the demo's own with which it starts the
// process that runs [Guard].
const GuardName = "__guard"

// Guard makes a directory, writes its path to out and removes it when in ends:
// when the demo has ended, even if it was killed. It is the one process that
// outlives the demo, for a moment.
func Guard(in io.Reader, out io.Writer) error {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	dir, err := os.MkdirTemp("", "mecha-demo-")
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintln(out, dir); err == nil {
		_, _ = io.Copy(io.Discard, in) // its end is all that matters
	}
	// The demo's processes die at the same moment; one may still write.
	for range 20 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// workspace is a directory that a guard removes.
type workspace struct {
	dir   string
	guard *exec.Cmd
	stdin io.Closer
	once  sync.Once
}

// newWorkspace starts a guard; self is the command for it.
func newWorkspace(self []string) (*workspace, error) {
	cmd := exec.Command(self[0], self[1:]...)
	// A session of its own: no key press and no closed terminal reaches it.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the process that removes the demo's files: %w", err)
	}
	w := &workspace{guard: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		w.close()
		return nil, fmt.Errorf("make a directory for the demo's files: %s (TMPDIR says where)", strings.TrimSpace(complaint.String()))
	}
	w.dir = strings.TrimSpace(line)
	return w, nil
}

// close removes the directory and waits for that.
func (w *workspace) close() {
	w.once.Do(func() {
		w.stdin.Close() //nolint:errcheck // its end is the message
		_ = w.guard.Wait()
		if w.dir != "" {
			_ = os.RemoveAll(w.dir) // in case someone has killed the guard
		}
	})
}
