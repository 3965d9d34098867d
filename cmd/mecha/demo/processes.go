package demo

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stopTime is how long a process may take to end before it is killed.
const stopTime = 2 * time.Second

// processes are children that end with this process, however it ends: the
// kernel kills them when the thread that started them is gone.
type processes struct {
	starts chan func()
	ended  func(name string, err error) // called when one ends by itself

	mu       sync.Mutex
	stopping bool
	running  map[*exec.Cmd]chan struct{}
}

// newProcesses starts the thread. ended may be called from any goroutine.
func newProcesses(ended func(name string, err error)) *processes {
	p := &processes{starts: make(chan func()), ended: ended, running: make(map[*exec.Cmd]chan struct{})}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		for start := range p.starts {
			start()
		}
	}()
	return p
}

// start runs a command with exactly the environment env, and its output in log (lent).
func (p *processes) start(name string, command, env []string, log *os.File) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append([]string{}, env...), log, log
	// A group of its own: Ctrl-C is for the demo to handle.
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	result := make(chan error)
	p.starts <- func() { result <- cmd.Start() }
	if err := <-result; err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.running[cmd] = done
	p.mu.Unlock()
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		delete(p.running, cmd)
		stopping := p.stopping
		p.mu.Unlock()
		close(done)
		if !stopping {
			p.ended(name, err)
		}
	}()
	return nil
}

// stop ends all of them and waits for it.
func (p *processes) stop() {
	p.mu.Lock()
	p.stopping = true
	var waits []chan struct{}
	for cmd, done := range p.running {
		_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended this moment
		waits = append(waits, done)
	}
	p.mu.Unlock()
	limit := time.NewTimer(stopTime)
	defer limit.Stop()
	for _, done := range waits {
		select {
		case <-done:
		case <-limit.C:
			p.mu.Lock()
			for cmd := range p.running {
				_ = cmd.Process.Kill() // it may have ended this moment
			}
			p.mu.Unlock()
			<-done
		}
	}
	close(p.starts)
}
