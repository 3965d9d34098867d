package netio

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is how much one splice can carry. A pipe counts pages, and each
	// received segment takes at least one: what the kernel makes by default (16) cuts
	// bulk into pieces that are too small.
	pipeSize = 1 << 20
	// idlePipes is how many empty pipes are kept for the next splice.
	idlePipes = 64
)

// pipe is a kernel pipe: it is empty whenever nobody is inside a splice.
type pipe struct {
	r, w int
	size int
}

// pipes is what package netio keeps for the process: empty pipes, no state.
var pipes struct {
	sync.Mutex
	free []*pipe
}

// takePipe returns an empty pipe, nil if the process has no descriptors left.
func takePipe() *pipe {
	pipes.Lock()
	if n := len(pipes.free); n > 0 {
		p := pipes.free[n-1]
		pipes.free = pipes.free[:n-1]
		pipes.Unlock()
		return p
	}
	pipes.Unlock()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil
	}
	p := &pipe{r: fds[0], w: fds[1], size: 64 << 10}
	// An unprivileged process may have used up its share of pipe memory: the small
	// pipe works, too.
	if n, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize); err == nil {
		p.size = n
	}
	return p
}

// give takes back a pipe that is empty.
func (p *pipe) give() {
	pipes.Lock()
	if len(pipes.free) < idlePipes {
		pipes.free = append(pipes.free, p)
		p = nil
	}
	pipes.Unlock()
	if p != nil {
		p.close()
	}
}

func (p *pipe) close() {
	_ = unix.Close(p.r) // a pipe of our own: nothing is lost if it fails
	_ = unix.Close(p.w)
}

const (
	spliceMove     = 1
	spliceNonblock = 2
)

// sysSplice moves up to n bytes inside the kernel, without waiting.
func sysSplice(from, to uintptr, n int) (int, syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, from, 0, to, 0, uintptr(n), spliceMove|spliceNonblock)
	return int(r), errno
}
