package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// StageName is the word that marks a process as one of this package's own.
// A program that uses the package must call [Stage] with the arguments behind
// it, before anything else, and exit with the result.
const StageName = "__stage"

// Exit codes of a stage that could not run its command, as of a shell.
const (
	codeFailed        = 125
	codeNotExecutable = 126
	codeNotFound      = 127
)

// Descriptors that a stage inherits behind standard error.
const (
	fdWire = 3 // all stages but exec
	fdNet  = 4 // pod: where the node writes the pod's place in the network
	fdLog  = 5 // pod: output of the sidecar
)

// Stage is the main function of the processes that this package starts: the
// first process of a node, of a pod, and the last step before a command.
// It returns an exit code.
func Stage(args []string) int {
	if len(args) == 0 {
		return stageFailed(errors.New("pod: no stage named"))
	}
	var err error
	switch args[0] {
	case "node":
		err = nodeStage()
	case "pod":
		err = podStage()
	case "exec":
		err = execStage(args[1:])
	default:
		err = fmt.Errorf("pod: unknown stage %q", args[0])
	}
	if err == nil {
		return 0
	}
	return stageFailed(err)
}

func stageFailed(err error) int {
	fmt.Fprintf(os.Stderr, "mecha: %v\n", err)
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return codeNotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOEXEC):
		return codeNotExecutable
	}
	return codeFailed
}

// isolation is what a new process gets of its own.
const isolation = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS

// namespaces returns the attributes of a process in its own namespaces. With
// user, it has all privileges over them, and the user's own id outside.
func namespaces(user bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: isolation}
	if user {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
		attr.AmbientCaps = initCaps()
	}
	return attr
}

// initCaps lists all capabilities of this kernel: what the first process of a
// user namespace starts with and, not being root there, would lose on exec.
func initCaps() []uintptr {
	last := unix.CAP_LAST_CAP
	if b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			last = min(last, n)
		}
	}
	out := make([]uintptr, 0, last+1)
	for c := range last + 1 {
		out = append(out, uintptr(c))
	}
	return out
}

// holdSignals keeps signals from ending this process without the side effect
// of ignoring them, which children would inherit.
func holdSignals() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGPIPE)
}

// failure is an error on its way to another process.
type failure struct {
	Step, Text string
	Errno      int
}

func failureOf(step string, err error) *failure {
	f := &failure{Step: step, Text: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		f.Errno = int(errno)
	}
	return f
}

// err turns the failure into an error of this process: an explanation where
// the kernel is to blame, the plain text otherwise.
func (f *failure) err() error {
	if f == nil {
		return nil
	}
	cause := error(remoteError{f.Text, syscall.Errno(f.Errno)})
	if f.Step == "" {
		return cause
	}
	return explain(f.Step, cause, os.DirFS("/proc/sys"), os.Geteuid() == 0)
}

type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e remoteError) Error() string { return e.text }

func (e remoteError) Unwrap() error {
	if e.errno == 0 {
		return nil
	}
	return e.errno
}
