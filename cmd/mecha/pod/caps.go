package pod

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// A process that inherits from init may hold, by number: what container
// engines leave to root by default, without raw sockets and device nodes.
// None of these can open a socket in another network namespace, set a socket's
// mark, change rules, or take over a process that can.
func programCaps() []int {
	return []int{
		unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL,
		unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_SETPCAP, unix.CAP_SETFCAP, unix.CAP_NET_BIND_SERVICE,
		unix.CAP_SYS_CHROOT, unix.CAP_AUDIT_WRITE,
	}
}

// sidecarCaps is what a sidecar needs: SO_MARK and IP_TRANSPARENT.
func sidecarCaps() []int { return []int{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE} }

// confinement is what a process is allowed; it travels as an argument of the
// exec stage.
type confinement struct {
	// Caps is the bounding set, and with Ambient what the process holds even
	// when it is not root.
	Caps    []int
	Ambient bool
	// UID and GID replace the user when not nil.
	UID, GID *uint32
}

// execStage gives up what the confinement does not allow and becomes the command.
func execStage(args []string) error {
	if len(args) < 2 {
		return errors.New("pod: exec stage: nothing to run")
	}
	var c confinement
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return fmt.Errorf("pod: exec stage: %w", err)
	}
	command := args[1:]
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	// All of this is a property of one thread; execve goes by the calling one.
	runtime.LockOSThread()
	if err := c.apply(); err != nil {
		return fmt.Errorf("pod: give up privileges: %w", err)
	}
	return fmt.Errorf("%s: %w", path, unix.Exec(path, command, os.Environ()))
}

func (c confinement) apply() error {
	var keep [2]uint32
	for _, n := range c.Caps {
		keep[n/32] |= 1 << (n % 32)
	}
	has := func(n int) bool { return keep[n/32]&(1<<(n%32)) != 0 }
	for n := range unix.CAP_LAST_CAP + 1 {
		if has(n) {
			continue
		}
		// EINVAL: the running kernel knows fewer capabilities than we do.
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("drop capability %d: %w", n, err)
		}
	}
	if err := c.become(); err != nil {
		return err
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&hdr, &have[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for i := range have {
		have[i].Permitted &= keep[i]
		have[i].Effective = have[i].Permitted
		have[i].Inheritable = 0
		if c.Ambient {
			have[i].Inheritable = have[i].Permitted
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if err := unix.Capset(&hdr, &have[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	for n := range unix.CAP_LAST_CAP + 1 {
		if have[n/32].Inheritable&(1<<(n%32)) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(n), 0, 0); err != nil {
			return fmt.Errorf("raise ambient capability %d: %w", n, err)
		}
	}
	return nil
}

// become changes user and group, keeping the capabilities for now.
func (c confinement) become() error {
	if c.UID == nil && c.GID == nil {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if c.GID != nil {
		g := uintptr(*c.GID)
		if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 && e != unix.EPERM {
			return fmt.Errorf("setgroups: %w", e)
		}
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, g, g, g); e != 0 {
			return fmt.Errorf("become group %d: %w", g, e)
		}
	}
	if c.UID != nil {
		u := uintptr(*c.UID)
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, u, u, u); e != 0 {
			return fmt.Errorf("become user %d: %w", u, e)
		}
	}
	return nil
}
