package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// launcher starts processes on chosen CPUs. One thread does it for the life of
// the program, because a child dies with the thread that made it (Pdeathsig): so
// nothing is left behind however this program ends.
type launcher struct {
	work chan func()
}

func newLauncher() *launcher {
	l := &launcher{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range l.work {
			f()
		}
	}()
	return l
}

// process is a running proxy.
type process struct {
	name string
	cmd  *exec.Cmd
	log  lockedBuffer
	done chan struct{}
	dir  string
}

// start runs argv on the CPUs, or on all without any, in dir, with env added to the environment.
func (l *launcher) start(name, dir string, argv, env []string, cpus []int) (*process, error) {
	p := &process{name: name, dir: dir, done: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	failed := make(chan error)
	l.work <- func() {
		var set unix.CPUSet
		for _, c := range cpus {
			set.Set(c)
		}
		var err error
		if len(cpus) > 0 {
			err = unix.SchedSetaffinity(0, &set)
		}
		if err == nil {
			err = p.cmd.Start()
		}
		failed <- err
	}
	if err := <-failed; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is told by its log
		close(p.done)
	}()
	return p, nil
}

// ready waits until the port takes connections.
func (p *process) ready(ctx context.Context, port int) error {
	deadline := time.After(20 * time.Second)
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return fmt.Errorf("%s ended at once:\n%s", p.name, p.log.tail())
		case <-deadline:
			return fmt.Errorf("%s does not listen after 20 s:\n%s", p.name, p.log.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pids are the process and its children.
func (p *process) pids() []int { return family(p.cmd.Process.Pid) }

// stop ends the process and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(300 * time.Millisecond): // draining is of no interest here
		for _, pid := range p.pids() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-p.done
	}
	_ = os.RemoveAll(p.dir)
}

// pinSelf keeps every thread of this program on the CPU.
func pinSelf(cpu int) error {
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	var set unix.CPUSet
	set.Set(cpu)
	for _, t := range tasks {
		var tid int
		if _, err := fmt.Sscanf(filepath.Base(t), "%d", &tid); err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil {
			return fmt.Errorf("pin to CPU %d: %w", cpu, err)
		}
	}
	return nil
}

// lockedBuffer keeps the end of what a process said.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 1<<16 {
		l.b.Reset()
	}
	return l.b.Write(p)
}

func (l *lockedBuffer) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.b.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}
