package pod

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper starts children of a process 1 and collects every process that ends,
// also those whose parent ended before them.
type reaper struct {
	mu      sync.Mutex // held while starting, so that no child is collected unseen
	kids    map[int]*kid
	program *kid
}

// kid is a child; exit is valid once done is closed.
type kid struct {
	pid  int
	exit Exit
	done chan struct{}
}

func newReaper() *reaper {
	r := &reaper{kids: make(map[int]*kid)}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		for range ended {
			r.collect()
		}
	}()
	return r
}

func (r *reaper) start(args []string, attr *os.ProcAttr, program bool) (*kid, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := os.StartProcess(args[0], args, attr)
	if err != nil {
		return nil, err
	}
	k := &kid{pid: p.Pid, done: make(chan struct{})}
	_ = p.Release() // collected here, never waited for there
	r.kids[k.pid] = k
	if program {
		r.program = k
	}
	return k, nil
}

func (r *reaper) collect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		k := r.kids[pid]
		if k == nil || !(ws.Exited() || ws.Signaled()) {
			continue
		}
		delete(r.kids, pid)
		if ws.Signaled() {
			k.exit.Signal = ws.Signal()
		} else {
			k.exit.Code = ws.ExitStatus()
		}
		close(k.done)
	}
}

// signal sends to a child that has not been collected: its number is not
// reused before that.
func (r *reaper) signal(k *kid, s syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kids[k.pid] == k {
		_ = unix.Kill(k.pid, s)
	}
}

func (r *reaper) signalProgram(s syscall.Signal) {
	r.mu.Lock()
	k := r.program
	r.mu.Unlock()
	if k != nil {
		r.signal(k, s)
	}
}
