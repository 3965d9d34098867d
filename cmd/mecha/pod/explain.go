package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Unsupported is the error of a kernel or container that does not allow what a
// node or pod needs. Advice says in plain words what to do about it.
type Unsupported struct {
	Step   string // what was tried
	Cause  error
	Advice string
}

func (u *Unsupported) Error() string {
	return fmt.Sprintf("cannot %s here: %v\n%s", u.Step, u.Cause, u.Advice)
}

func (u *Unsupported) Unwrap() error { return u.Cause }

// The steps that may be impossible; they read on after "cannot".
const (
	stepNamespaces = "make namespaces"
	stepPrivilege  = "configure the new network namespace"
	stepBridge     = "create a network bridge"
	stepVeth       = "create a virtual cable (veth)"
	stepRules      = "program packet filter rules"
	stepMounts     = "make mounts private"
)

const (
	adviceRoot      = "Or run the same command as root."
	adviceContainer = "In a container, start it with --privileged, or with --cap-add NET_ADMIN --cap-add SYS_ADMIN " +
		"--security-opt seccomp=unconfined --security-opt apparmor=unconfined."
)

// explain finds out why a step failed. sys reads the kernel's settings
// (/proc/sys); root says who was asking. Errors that have nothing to do with
// what the kernel allows are returned as they are.
func explain(step string, cause error, sys fs.FS, root bool) error {
	var advice []string
	setting := func(name string) string {
		b, err := fs.ReadFile(sys, name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	denied := errors.Is(cause, fs.ErrPermission)
	absent := errors.Is(cause, unix.EOPNOTSUPP) || errors.Is(cause, unix.ENOENT) || errors.Is(cause, unix.EPROTONOSUPPORT) ||
		errors.Is(cause, unix.EAFNOSUPPORT) || errors.Is(cause, unix.EINVAL) || errors.Is(cause, unix.ENOSYS)
	switch {
	case step == stepNamespaces && setting("user/max_user_namespaces") == "0":
		advice = append(advice, "User namespaces are switched off (user.max_user_namespaces is 0). Switch them on: sudo sysctl -w user.max_user_namespaces=15000")
	case step == stepNamespaces && !root && setting("kernel/unprivileged_userns_clone") == "0":
		advice = append(advice, "Only root may make user namespaces (kernel.unprivileged_userns_clone is 0). Allow it: sudo sysctl -w kernel.unprivileged_userns_clone=1")
	case step == stepNamespaces && errors.Is(cause, unix.ENOSPC):
		advice = append(advice, "The limit of namespaces is reached (user.max_user_namespaces, user.max_net_namespaces, user.max_pid_namespaces), or they are nested too deeply.")
	case step == stepNamespaces && absent:
		advice = append(advice, "This kernel was built without user, network or process namespaces.")
	case denied && !root && setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
		advice = append(advice, "AppArmor takes the privileges from user namespaces of ordinary users (kernel.apparmor_restrict_unprivileged_userns is 1). "+
			"Allow them: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
	case step == stepNamespaces && denied:
		advice = append(advice, "The kernel allows it, but something above it does not: most likely the seccomp filter of a container.", adviceContainer)
	case step == stepBridge && absent:
		advice = append(advice, "The kernel has no bridge support. If it is a module: sudo modprobe bridge")
	case step == stepVeth && absent:
		advice = append(advice, "The kernel has no veth support. If it is a module: sudo modprobe veth")
	case step == stepRules && absent:
		advice = append(advice, "The kernel has no nftables with NAT (Linux 5.2 and later), and iptables-restore did not help. If they are modules: sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_tproxy nft_ct")
	case denied:
		advice = append(advice, "The namespace was made, but it may not be configured: a security module or a container's filter is in the way.", adviceContainer)
	default:
		return fmt.Errorf("pod: cannot %s: %w", step, cause)
	}
	if !root {
		advice = append(advice, adviceRoot)
	}
	return &Unsupported{Step: step, Cause: cause, Advice: strings.Join(advice, "\n")}
}
