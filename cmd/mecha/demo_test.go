package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// demoPrograms builds what "make demo" builds, into a directory that every user
// may run programs from.
func demoPrograms(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("the demo takes ten seconds")
	}
	dir := publicDir(t)
	cmd := exec.Command("go", "build", "-o", dir, ".", "../mecha-control", "../../examples/shop")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mecha-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // best effort
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// demoRun is a demo under way.
type demoRun struct {
	cmd  *exec.Cmd
	bin  string // its programs, and those of nothing else
	temp string // its TMPDIR

	mu   sync.Mutex
	text bytes.Buffer
	grew chan struct{} // capacity 1
}

func (r *demoRun) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case r.grew <- struct{}{}:
	default:
	}
	return r.text.Write(p)
}

func (r *demoRun) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// demoEnds bounds the whole demo: "under a minute".
const demoEnds = 60 * time.Second

// startDemo runs command with the user's id, for which user is 0 for the
// caller's own. "$mecha" in it is the program.
func startDemo(t *testing.T, bin string, user uint32, command string, flags uintptr) *demoRun {
	t.Helper()
	r := &demoRun{bin: bin, temp: publicDir(t), grew: make(chan struct{}, 1)}
	ctx, cancel := context.WithTimeout(context.Background(), demoEnds)
	t.Cleanup(cancel)
	r.cmd = exec.CommandContext(ctx, "sh", "-c", command)
	r.cmd.Dir = "/"
	r.cmd.Env = append(os.Environ(), "TMPDIR="+r.temp, "mecha="+filepath.Join(bin, "mecha"), "NO_COLOR=")
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if user != 0 {
		if err := os.Chown(r.temp, int(user), int(user)); err != nil {
			t.Fatal(err)
		}
		r.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
	}
	r.cmd.Stdout, r.cmd.Stderr = r, r
	r.cmd.WaitDelay = 5 * time.Second
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// wait returns the exit code of an ended demo.
func (r *demoRun) wait(t *testing.T) int {
	t.Helper()
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, r.output())
	}
	return r.cmd.ProcessState.ExitCode()
}

// until waits for text in the output.
func (r *demoRun) until(t *testing.T, text string) {
	t.Helper()
	limit := time.After(demoEnds)
	for !strings.Contains(r.output(), text) {
		select {
		case <-r.grew:
		case <-limit:
			t.Fatalf("no %q in:\n%s", text, r.output())
		}
	}
}

// nothingLeft waits until no process of the demo and no file of it is there.
func (r *demoRun) nothingLeft(t *testing.T) {
	t.Helper()
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := r.processes()
		files, err := os.ReadDir(r.temp)
		if err != nil {
			t.Fatal(err)
		}
		if len(left)+len(files) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("left behind: processes %q, files %v\n%s", left, files, r.output())
		}
	}
}

// processes are those that run the demo's programs.
func (r *demoRun) processes() (out []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		exe, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(exe, r.bin+"/") {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
			out = append(out, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return out
}

// shown checks the output of a demo that went well.
func (r *demoRun) shown(t *testing.T, captured bool) {
	t.Helper()
	text := r.output()
	want := []string{
		"Everything as expected.", "✓ 200 of 200 requests seen", "over xDS, 0 failed requests",
		" retries, 0 failed orders", "✓ 5 slow answers cut at 3", "the same everywhere",
		"✓ 20 plain requests served, then 20 refused; 0 of ", "✓ 3 certificates replaced, 0 of ",
	}
	checks := 8
	if captured {
		want = append(want, "✓ 20 of 20 connections bypassed the sidecar, 20 of 20 went through it", "Closed in")
		checks = 9
	} else {
		want = append(want, "There is no capture", "not shown: without capture", "Not shown: ")
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("not in the output: %q", w)
		}
	}
	if n := strings.Count(text, "✓"); n != checks || strings.Contains(text, "✗") || strings.Contains(text, "\x1b") {
		t.Errorf("%d expectations met, want %d", n, checks)
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimSpace(line))); n > 98 && !strings.Contains(line, "OUTBOUND") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if t.Failed() {
		t.Logf("the output:\n%s", text)
	}
}

// podsPossible skips where the kernel does not allow pods.
func podsPossible(t *testing.T, bin string, user uint32) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "mecha"), "run", "--check")
	cmd.Dir = "/"
	if user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("no pods here: %s", out)
	}
}

// TestDemo runs the demo to its end in each of its forms.
func TestDemo(t *testing.T) {
	bin := demoPrograms(t)
	whole := func(t *testing.T, r *demoRun, captured bool) {
		if code := r.wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		r.shown(t, captured)
		r.nothingLeft(t)
	}
	t.Run("no capture", func(t *testing.T) {
		whole(t, startDemo(t, bin, 0, `exec "$mecha" demo --no-capture`, 0), false)
	})
	// A network namespace without any interface: the host's network is neither
	// needed nor changed.
	const around = `"$mecha" demo && echo "after: $(ls -x /sys/class/net 2>&1; nft list ruleset 2>/dev/null; ls /run/netns 2>/dev/null)"`
	t.Run("pods", func(t *testing.T) {
		podsPossible(t, bin, 0)
		if os.Geteuid() != 0 {
			whole(t, startDemo(t, bin, 0, `exec "$mecha" demo`, 0), true)
			return
		}
		r := startDemo(t, bin, 0, `mount -t sysfs sysfs /sys; `+around, unix.CLONE_NEWNET|unix.CLONE_NEWNS)
		whole(t, r, true)
		if !regexp.MustCompile(`(?m)^after: lo\s*$`).MatchString(r.output()) {
			t.Errorf("more than lo is left in the network:\n%s", r.output())
		}
	})
	t.Run("pods of an ordinary user", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("that is what the test before was")
		}
		podsPossible(t, bin, nobody)
		whole(t, startDemo(t, bin, nobody, `exec "$mecha" demo`, 0), true)
	})
	t.Run("where the kernel forbids it", func(t *testing.T) {
		if err := exec.Command("unshare", "-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_net_namespaces").Run(); err != nil {
			t.Skip("this needs a user namespace and util-linux")
		}
		r := startDemo(t, bin, 0, `exec unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$mecha" demo'`, 0)
		whole(t, r, false)
		if !strings.Contains(r.output(), "There is no capture: it is not possible to make namespaces here.") {
			t.Errorf("not explained:\n%s", r.output())
		}
	})
}

// TestDemoInterrupted stops the demo at several points, gently and not.
func TestDemoInterrupted(t *testing.T) {
	bin := demoPrograms(t)
	user := uint32(0)
	if os.Geteuid() == 0 {
		user = nobody
	}
	for _, c := range []struct {
		form   string
		at     string // output after which the signal comes
		signal syscall.Signal
		code   int
	}{
		{"", "mecha demo", unix.SIGINT, 130},
		{"", "2 A 90/10", unix.SIGINT, 130},
		{"", "mecha demo", unix.SIGKILL, -1},
		{"", "2 A 90/10", unix.SIGKILL, -1},
		{"--no-capture", "mecha demo", unix.SIGINT, 130},
		{"--no-capture", "2 A 90/10", unix.SIGTERM, 130},
		{"--no-capture", "2 A 90/10", unix.SIGKILL, -1},
		{"--keep", "until you press Ctrl-C", unix.SIGINT, 0},
		{"--keep --no-capture", "until you press Ctrl-C", unix.SIGHUP, 0},
	} {
		t.Run(fmt.Sprintf("%s %v at %s", c.form, c.signal, c.at), func(t *testing.T) {
			r := startDemo(t, bin, user, `exec "$mecha" demo `+c.form, 0)
			r.until(t, c.at)
			if len(r.processes()) == 0 {
				t.Error("the test does not see the demo's processes")
			}
			began := time.Now()
			if err := r.cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			if code := r.wait(t); code != c.code {
				t.Errorf("exit code %d, want %d\n%s", code, c.code, r.output())
			}
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("ended after %v", took)
			}
			r.nothingLeft(t)
		})
	}
}
